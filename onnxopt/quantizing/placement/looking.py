"""What all targets look for in a graph: weighted operators, clamps behind them, who reads what."""

from __future__ import annotations

from collections.abc import Iterator

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.placement.plan import Weight
from onnxopt.quantizing.spec import Spec

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def nodes_of(model: ir.Model) -> Iterator[ir.Node]:
    """Yield the nodes of the graph and of all that is nested in it, in topological order.

    Functions are left out: they have been inlined, or nobody knows what they are.
    """
    for graph in facts.graphs_within(model.graph):
        yield from graph


def is_activation(value: ir.Value | None) -> bool:
    """Tell whether a value is a float32 tensor that is computed or given at run time."""
    return (
        value is not None
        and facts.dtype(value) == ir.DataType.FLOAT
        and not facts.is_constant(value)
    )


def is_weight(value: ir.Value | None, rank: int | None = None) -> bool:
    """Tell whether a value is a constant float32 tensor (of a rank) that no caller overrides."""
    held = facts.tensor(value)
    if held is None or held.dtype != ir.DataType.FLOAT:
        return False
    return rank is None or len(held.shape) == rank


def weight_of(node: ir.Node, opset: int) -> tuple[Weight | None, str]:
    """Return the constant that a weighted operator multiplies by, or None and why not.

    Conv has a scale for each output channel (axis 0), Gemm and MatMul for each column of what they
    compute, ConvTranspose for each channel where it has no groups.
    """
    value = node.inputs[1] if len(node.inputs) > 1 else None
    if value is None or not is_weight(value):
        return None, "its weight is computed at run time or is not float32"
    rank = facts.rank(value) or 0
    if node.op_type == "Conv":
        groups = int(facts.attribute(node, "group", opset) or 1)
        axis, columns = 0, (*range(2, rank), 1)
    elif node.op_type == "ConvTranspose":
        groups = int(facts.attribute(node, "group", opset) or 1)
        if groups > 1:
            return None, "a grouped ConvTranspose has no axis of its output channels"
        axis, columns = 1, (*range(2, rank), 0)
    elif rank != 2:
        return None, f"its weight has {rank} dimensions, not 2"
    elif node.op_type == "Gemm":
        if facts.attribute(node, "transA", opset):
            return None, "its first input is transposed"
        groups, axis = 1, 0 if facts.attribute(node, "transB", opset) else 1
        columns = (1 - axis,)
    else:
        groups, axis, columns = 1, 1, (0,)
    spec = Spec(format="int8", symmetric=True, narrow=True, axis=axis)
    edge = Edge(node.name or "", 1)
    return Weight(edge=edge, tensor=value.name or "", spec=spec, columns=columns, groups=groups), ""


def bias_of(node: ir.Node, opset: int) -> tuple[Edge | None, str]:
    """Return where a weighted operator reads a constant for each channel, and what speaks against.

    A Gemm that scales its product or its bias cannot be int8, nor can what adds anything else.
    """
    if node.op_type == "Gemm":
        if facts.attribute(node, "alpha", opset) != 1.0:
            return None, "it scales its product (alpha)"
        if facts.attribute(node, "beta", opset) != 1.0:
            return None, "it scales its bias (beta)"
    if node.op_type == "MatMul" or len(node.inputs) < 3 or node.inputs[2] is None:
        return None, ""
    if not is_weight(node.inputs[2], rank=1):
        return None, "its bias is not one constant for each channel"
    return Edge(node.name or "", 2), ""


def clamp_behind(node: ir.Node, opset: int) -> ir.Node | None:
    """Return the Relu or Clip from 0 that alone reads what a node computes."""
    value = node.outputs[0]
    if not facts.is_private(value):
        return None
    reader: ir.Node = next(iter(facts.uses(value))).node
    if reader.domain or reader.graph is not node.graph or reader.inputs[0] is not value:
        return None
    if reader.op_type == "Relu":
        return reader
    if reader.op_type != "Clip":
        return None
    low, high = clip_bounds(reader, opset)
    return reader if low == 0.0 and (high is None or high > 0.0) else None


def clip_bounds(node: ir.Node, opset: int) -> tuple[float | None, float | None]:
    """Return the bounds of a Clip; None where it has none, NaN where it is not known before."""
    if opset < 11:
        low, high = (facts.attribute(node, name, opset) for name in ("min", "max"))
        return low, high
    return _bound(node, 1), _bound(node, 2)


def _bound(node: ir.Node, place: int) -> float | None:
    if len(node.inputs) <= place or node.inputs[place] is None:
        return None
    found = facts.scalar(node.inputs[place])
    return float("nan") if found is None else float(found)
