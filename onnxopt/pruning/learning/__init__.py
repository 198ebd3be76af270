"""Gradient steps through a whole model: a pruned model learns what the original makes."""
