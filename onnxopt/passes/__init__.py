"""Passes: graph in, graph out, exact."""
