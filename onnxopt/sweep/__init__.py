"""Runs models over samples piece by piece, and takes the moments of what their layers read."""
