"""Walks a model from front to back, with what each layer gets once those before it are int8."""
