"""Slice, Gather and Split of which nobody reads all: what is computed for them is computed in part.

A Slice of the last token behind the head of a language model goes up to the head's input, and over
the last layer's MLP; a Slice of channels goes into the weight of the Conv in front of it.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.slices import read_slice, write_slice
from onnxopt.rules.unread.climb import Climb
from onnxopt.rules.unread.part import Part, Take

x = var("x")

_MOST_PICKS = 1 << 16


@rule(op.Slice(x, ..., bind="node"), since=7)
def slice_before_computing(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """Slice of what a node computes becomes the node computing that part only."""
    if x.producer() is None:
        return None
    cut, shape = read_slice(node, new.opset), dims.shape(x)
    if cut is None or shape is None:
        return None
    for axis, taken in cut.items():
        take = Take.of(taken)
        count = take.count(shape[axis])
        if count == 0:
            return None
        left = count or dims.extent(node.outputs[0], axis)
        climb = Climb(new, (node,))
        plan = climb.plan(x, Part(axis=axis, take=take, left=left), added=len(cut) > 1)
        if plan is not None:
            made = climb.build(plan)
            rest = {place: other for place, other in cut.items() if place != axis}
            return write_slice(new, made, rest) if rest else made
    return None


@rule(op.Gather(x, const("index"), bind="node"), since=7)
def gather_before_computing(new: Builder, node: ir.Node, x: ir.Value, index: Any) -> Any:
    """Gather of what a node computes becomes the node computing the gathered part only."""
    if x.producer() is None:
        return None
    shape = dims.shape(x)
    axis = dims.normalized(new.attribute(node, "axis"), facts.rank(x))
    if (
        shape is None
        or axis is None
        or index.ndim > 1
        or not index.size
        or index.size > _MOST_PICKS
    ):
        return None
    picks = tuple(int(place) for place in index.reshape(-1))
    climb = Climb(new, (node,))
    part = Part(axis=axis, take=Take(picks=picks), left=len(picks))
    plan = climb.plan(x, part, added=index.ndim == 0)
    if plan is None:
        return None
    made = climb.build(plan)
    return made if index.ndim else new.with_axes("Squeeze", made, [axis])
