"""Rules on linear layers: what folds into their weights, and what they fold into."""
