"""What happened on the machine meanwhile, and what speaks against the numbers."""
