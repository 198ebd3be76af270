"""Rewrites that are exact in float and make a model easier to quantize."""
