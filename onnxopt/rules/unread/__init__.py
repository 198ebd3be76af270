"""Rules that spare computation which nobody reads."""
