"""Says how much of each group goes: what widths cost, what they lose, and the best of both."""
