"""How models get from files into memory and back: the workings behind `onnxopt.graph.io`."""
