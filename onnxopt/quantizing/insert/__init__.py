"""Writes what was decided into a model."""
