"""How fast models are here, and whether one is faster than another, with an interval."""
