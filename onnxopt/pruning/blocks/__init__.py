"""Sub-networks that can be left out: found, bypassed, and judged by what the outputs lose."""
