"""Softmax and what is taken of it.

softmax(x) = eˣ/Σeˣ along an axis. Before opset 13 Softmax and LogSoftmax normalise over all axes
from `axis` on, afterwards over `axis` alone. ln(softmax(x)) is -∞ in the graph where the
exponential underflows (103 below the largest in single precision) and finite in LogSoftmax. The
largest of x is the largest of softmax(x); where two probabilities round to the same number, ArgMax
takes the first in the graph and the truly larger one here.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")
_SHIFTED = op.Sub(x, op.ReduceMax(x, var("axes of highest", optional=True), bind="highest"))
_EXP = op.Exp(_SHIFTED, bind="exp")


@rule(op.Log(op.Softmax(x, bind="softmax")))
def fuse_log_softmax(new: Builder, x: ir.Value, softmax: ir.Node) -> Any:
    """Log(Softmax(x)) becomes LogSoftmax(x)."""
    return new.LogSoftmax(x, **softmax.attributes)


@rule(op.ArgMax(op.Softmax(x, bind="softmax") | op.LogSoftmax(x, bind="softmax"), bind="argmax"))
def drop_softmax_before_argmax(new: Builder, x: ir.Value, softmax: ir.Node, argmax: ir.Node) -> Any:
    """ArgMax(Softmax(x)) becomes ArgMax(x), where both look along the same axis."""
    axes = new.attribute(softmax, "axis"), new.attribute(argmax, "axis")
    if axes[0] == axes[1]:
        return new.ArgMax(x, **argmax.attributes)
    along, taken = (dims.normalized(axis, facts.rank(x)) for axis in axes)
    inside = along is not None and taken is not None and along < taken
    if along is None or not (along == taken or (inside and new.opset < 13)):
        new.refuse("Softmax and ArgMax are not known to look along the same axis")
    return new.ArgMax(x, **argmax.attributes)


@rule(op.Div(_EXP, op.ReduceSum(_EXP, var("axes of total", optional=True), bind="total")), since=13)
def fuse_softmax(new: Builder, x: ir.Value, highest: ir.Node, total: ir.Node) -> Any:
    """e^(x - max x)/Σe^(x - max x) along one axis becomes Softmax(x)."""
    axes = []
    for node in (highest, total):
        found = facts.axes(node, new.opset)
        axes.append(dims.normalized_axes(found, facts.rank(x)) if found else None)
        if not new.attribute(node, "keepdims"):
            new.refuse(f"'{node.name}' drops the axis")
    if axes[0] is None or axes[0] != axes[1] or len(axes[0]) != 1 or not facts.is_float(x):
        new.refuse("it is not known to be taken along one and the same axis")
    return new.Softmax(x, axis=axes[0][0])
