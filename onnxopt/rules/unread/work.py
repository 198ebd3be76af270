"""What nodes cost, roughly: enough to tell whether computing less is worth another node.

The unit is the time in which an elementwise operator handles one element. What a runtime computes
along with a layer in front (an activation, a bias) costs nothing, so that no Slice is put between
the two for its sake.
"""

from __future__ import annotations

import math

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rules.elementwise import BINARY, UNARY
from onnxopt.rules.unread.part import TYPICAL

NODE = 2000.0
"""What it costs to run a node at all."""

_PRODUCTS_AT_ONCE = 8
_SEVERAL_PASSES = 4
_FREE = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_LAYERS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_TAKEN_ALONG = UNARY | BINARY | {"BatchNormalization"}


def elements(value: ir.Value | None) -> int:
    """Return how many elements a value has; a size that is not known counts as `TYPICAL`."""
    shape = dims.shape(value)
    if shape is None:
        return TYPICAL
    return math.prod(size if isinstance(size, int) else TYPICAL for size in shape)


def work(node: ir.Node) -> float:
    """Return the work of a node."""
    made = elements(node.outputs[0])
    if node.op_type in _FREE:
        return 0
    if node.op_type in _LAYERS:
        return made * max(1, _products(node) / _PRODUCTS_AT_ONCE)
    if node.op_type in _TAKEN_ALONG and any(map(_is_layers_own, node.inputs)):
        return 0
    if node.op_type.endswith(("Normalization", "Softmax")):
        return made * _SEVERAL_PASSES
    if node.op_type.startswith(("Reduce", "Arg")):
        return elements(node.inputs[0])
    return made


def _is_layers_own(value: ir.Value | None) -> bool:
    maker = None if value is None else value.producer()
    return maker is not None and maker.op_type in _LAYERS and facts.is_private(value)


def _products(node: ir.Node) -> float:
    """Return how many products are summed up for one element of a layer's output."""
    weight = dims.shape(node.inputs[1]) or ()
    sizes = [size if isinstance(size, int) else TYPICAL for size in weight]
    if node.op_type == "Conv":
        return math.prod(sizes[1:])
    if node.op_type == "ConvTranspose":
        return math.prod((*sizes[:1], *sizes[2:]))
    if node.op_type == "Gemm":
        columns = dims.extent(node.outputs[0], 1)
        return elements(node.inputs[1]) / (columns if isinstance(columns, int) else TYPICAL)
    return sizes[-2] if len(sizes) > 1 else TYPICAL
