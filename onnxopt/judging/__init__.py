"""Samples of which some are held back, and how near a changed model comes to its original."""
