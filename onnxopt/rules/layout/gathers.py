"""Gather, and Slice of a single element, where one of them or a Squeeze says it simpler."""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.slices import read_slice

x = var("x")


@rule(op.Gather(x, var("index"), bind="node"))
def drop_gather_of_one(new: Builder, node: ir.Node, x: ir.Value, index: ir.Value) -> Any:
    """Gather of the only element of an axis becomes Squeeze, or x where the axis stays."""
    places = facts.constant(index, limit=1)
    axis = dims.normalized(new.attribute(node, "axis"), facts.rank(x))
    if places is None or axis is None or places.size != 1 or dims.extent(x, axis) != 1:
        return None
    if places.ndim == 0:
        return new.with_axes("Squeeze", x, [axis])
    return x if places.ndim == 1 else None


@rule(op.Squeeze(op.Slice(x, ..., bind="inner"), ..., bind="squeeze"))
def turn_slice_squeeze_into_gather(
    new: Builder, inner: ir.Node, squeeze: ir.Node, x: ir.Value
) -> Any:
    """Squeeze of a Slice that takes one element of that axis becomes Gather."""
    cut, axes = read_slice(inner, new.opset), facts.axes(squeeze, new.opset)
    if cut is None or len(cut) != 1 or axes is None or len(axes) != 1:
        return None
    ((axis, taken),) = cut.items()
    if dims.normalized(axes[0], facts.rank(x)) != axis or taken.step != 1:
        return None
    single = taken.stop == taken.start + 1 and taken.stop != 0
    last = taken.start == -1 and taken.stop >= dims.TO_THE_END
    if not (single or last) or (taken.start < 0 and new.opset < 11):
        return None
    return new.Gather(x, np.array(taken.start, np.int64), axis=axis)


@rule(op.Unsqueeze(op.Gather(x, const("index"), bind="gather"), ..., bind="node"), since=7)
def keep_gathered_axis(
    new: Builder, node: ir.Node, gather: ir.Node, x: ir.Value, index: Any
) -> Any:
    """Unsqueeze that puts back the axis from which Gather took one element becomes Gather alone."""
    axes, rank = facts.axes(node, new.opset), facts.rank(x)
    axis = dims.normalized(new.attribute(gather, "axis"), rank)
    if axis is None or not axes or index.ndim or dims.normalized_axes(axes, rank) != (axis,):
        return None
    if facts.made_by(x, "Shape", gather) is not None:
        new.refuse("onnxruntime looks for this form where a shape is computed")
    return new.Gather(x, index.reshape(1), axis=axis)
