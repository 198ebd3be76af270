"""Reports as Markdown, for the comment that a build leaves on a pull request."""

from onnxopt.render.markdown.comparison import compare
from onnxopt.render.markdown.latencies import benchmark
from onnxopt.render.markdown.model import inspect
from onnxopt.render.markdown.optimization import optimize
from onnxopt.render.markdown.pruning import prune
from onnxopt.render.markdown.quantization import quantize

__all__ = ["benchmark", "compare", "inspect", "optimize", "prune", "quantize"]
