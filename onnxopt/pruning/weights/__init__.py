"""How much parts of a weight matter, and weights that make up for what is gone."""
