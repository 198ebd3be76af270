"""Which parts of a model can be int8 on a target, as values that know no graph."""
