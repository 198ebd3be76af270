"""The rewrite engine: patterns, rules, and the worklist that applies them."""
