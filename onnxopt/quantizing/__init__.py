"""Static int8: what each tensor should be, which numbers that comes to, and what it costs."""
