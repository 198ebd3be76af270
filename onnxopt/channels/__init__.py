"""Which channels of which tensors belong together: labels, and one walk that hands them on."""
