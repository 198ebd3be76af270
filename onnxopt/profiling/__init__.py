"""Where the time of a model goes, node by node, against what the machine can do at most."""

from onnxopt.profiling.ceilings import ceiling
from onnxopt.profiling.hotspots import profile

__all__ = ["ceiling", "profile"]
