"""The graph floor: everything that knows onnx_ir's corners."""
