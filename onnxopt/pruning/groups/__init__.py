"""Which slices of which tensors stand or fall together, and how they are taken out."""
