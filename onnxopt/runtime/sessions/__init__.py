"""Sessions of onnxruntime, and what it refuses or crashes on."""
