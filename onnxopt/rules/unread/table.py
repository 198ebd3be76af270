"""What a part of a node's output needs of its inputs, operator by operator."""

from __future__ import annotations

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.elementwise import BINARY, UNARY
from onnxopt.rules.unread import joins, layers, moved_axis, same_axis
from onnxopt.rules.unread.needs import Needs, Reader
from onnxopt.rules.unread.part import Part

_POOLS = (
    *("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"),
)
_REDUCTIONS = (
    *("ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean"),
    *("ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare", "ArgMax", "ArgMin"),
)
STANDARD: dict[str, Reader] = {
    **dict.fromkeys(UNARY, same_axis.unary),
    **dict.fromkeys(BINARY, same_axis.broadcast),
    **dict.fromkeys(_POOLS, same_axis.pool),
    **dict.fromkeys(_REDUCTIONS, same_axis.reduction),
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax"), same_axis.beside_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), same_axis.before_axis),
    **dict.fromkeys(("BatchNormalization", "InstanceNormalization"), same_axis.per_channel),
    "LpNormalization": same_axis.beside_axis,
    "SimplifiedLayerNormalization": same_axis.before_axis,
    "Concat": joins.concat,
    "Conv": layers.conv,
    "ConvTranspose": layers.conv_transpose,
    "Expand": moved_axis.expand,
    "Flatten": moved_axis.flatten,
    "Gather": moved_axis.gather,
    "Gemm": layers.gemm,
    "MatMul": layers.matmul,
    "Reshape": moved_axis.reshape,
    "Slice": moved_axis.cut,
    "Squeeze": moved_axis.squeeze,
    "Transpose": moved_axis.transpose,
    "Unsqueeze": moved_axis.unsqueeze,
}
"""By operator of the ONNX standard."""

MICROSOFT: dict[str, Reader] = {
    "BiasGelu": same_axis.broadcast,
    "FastGelu": same_axis.broadcast,
    "Gelu": same_axis.unary,
    "QuickGelu": same_axis.unary,
    "SkipLayerNormalization": same_axis.before_last_axis,
    "SkipSimplifiedLayerNormalization": same_axis.before_last_axis,
}
"""By operator of com.microsoft."""


def needs(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Return what a part of a node's first output needs, or None where that is not known."""
    tables = {"": STANDARD, "com.microsoft": MICROSOFT}
    reader = tables.get(node.domain, {}).get(node.op_type)
    return None if reader is None else reader(new, node, part)
