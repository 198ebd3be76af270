"""Decides which parts of a model become int8: by measured time, by error, by what the user asks."""
