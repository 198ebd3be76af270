"""Reductions whose axes a neighbour puts back, takes away, or has moved."""

from __future__ import annotations

import functools
import operator
from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.transposes import permutation

x = var("x")

_NAMES = [
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2",
    "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp",
]  # fmt: skip


def _any_reduction(operand: Any, **options: Any) -> Pattern:
    made: list[Pattern] = [
        getattr(op, name)(operand, ..., bind="reduce", **options) for name in _NAMES
    ]
    return functools.reduce(operator.or_, made)


@rule(
    op.Unsqueeze(_any_reduction(x, keepdims=0), ..., bind="node")
    | op.Reshape(_any_reduction(x, keepdims=0), ..., bind="node")
)
def keep_reduced_axes(new: Builder, node: ir.Node, reduce: ir.Node, x: ir.Value) -> Any:
    """Unsqueeze or Reshape that puts reduced axes back becomes a reduction with keepdims."""
    axes, shape = _reduced(new, reduce), dims.shape(x)
    if not axes:
        return None
    if node.op_type == "Unsqueeze":
        back = facts.axes(node, new.opset)
        rank = facts.rank(x)
        if not back or dims.normalized_axes(back, rank) != axes:
            return None
    elif shape is None or not _only_differ_at(axes, shape, dims.shape(node.outputs[0])):
        return None
    return _reduce(new, reduce, x, axes, keepdims=1)


@rule(op.Squeeze(_any_reduction(x, keepdims=1), ..., bind="node"))
def drop_reduced_axes(new: Builder, node: ir.Node, reduce: ir.Node, x: ir.Value) -> Any:
    """Squeeze of the axes that a reduction kept becomes a reduction without keepdims."""
    axes, gone = _reduced(new, reduce), facts.axes(node, new.opset)
    if not axes or not gone or dims.normalized_axes(gone, facts.rank(x)) != axes:
        return None
    return _reduce(new, reduce, x, axes, keepdims=0)


@rule(_any_reduction(op.Transpose(x, bind="transpose")))
def reduce_before_transpose(new: Builder, reduce: ir.Node, transpose: ir.Node, x: ir.Value) -> Any:
    """A reduction of transposed data reduces the data as they lie."""
    perm, axes = permutation(transpose, new.opset), _reduced(new, reduce)
    if perm is None or not axes:
        return None
    moved = tuple(sorted(perm[axis] for axis in axes))
    if new.attribute(reduce, "keepdims"):
        small = _reduce(new, reduce, x, moved, keepdims=1)
        return new.Transpose(small, perm=perm)
    kept = [axis for place, axis in enumerate(perm) if place not in axes]
    small = _reduce(new, reduce, x, moved, keepdims=0)
    if kept == sorted(kept):
        return small
    return new.Transpose(small, perm=[sorted(kept).index(axis) for axis in kept])


def _reduced(new: Builder, node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a reduction, from the front and ascending; None where not known."""
    axes = facts.axes(node, new.opset)
    return dims.normalized_axes(axes, facts.rank(node.inputs[0])) if axes else None


def _only_differ_at(
    axes: tuple[int, ...], before: tuple[facts.Dim, ...], after: tuple[facts.Dim, ...] | None
) -> bool:
    """Tell whether `after` is `before` with ones at `axes`; one dimension may be unknown."""
    if after is None or len(after) != len(before) or any(after[axis] != 1 for axis in axes):
        return False
    ones = [1 if axis in axes else dim for axis, dim in enumerate(before)]
    return dims.same_by_count(ones, after)


def _reduce(
    new: Builder, node: ir.Node, x: ir.Value, axes: tuple[int, ...], *, keepdims: int
) -> Any:
    return new.with_axes(node.op_type, x, axes, keepdims=keepdims)
