"""Operators of ONNX in numpy, by family, each with what pulls gradients back through it."""
