"""Rules that recognise activations."""
