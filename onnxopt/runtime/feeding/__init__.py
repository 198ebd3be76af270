"""What models are fed with: the user's samples, or inputs that are made for them."""
