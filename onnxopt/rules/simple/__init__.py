"""Rules on single values: identities, casts, signs, clamps, powers, constants in sequence."""
