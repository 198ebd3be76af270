"""Weights as integers: scales, rounding, and what the kernels' 16-bit sums allow."""
