"""What the activations of a model look like, seen one sample at a time."""
