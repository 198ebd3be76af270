"""Everything that touches onnxruntime: sessions, providers, inputs to run with, comparison."""
