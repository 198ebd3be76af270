"""Rules on where elements stand: transposes, reshapes, slices, concats, gathers, reductions."""
