"""Least squares by gradient steps, where a Gram matrix is too large: solvers, problems."""
