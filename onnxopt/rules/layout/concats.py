"""Concats of concats, of nothing, and of pieces that were cut from one tensor in order."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.slices import read_slice, write_slice


@rule(op.Concat(bind="node"), since=4)
def flatten_concats(new: Builder, node: ir.Node) -> Any:
    """Concat(Concat(a, b), c) along one axis becomes Concat(a, b, c)."""
    axis, rank = new.attribute(node, "axis"), facts.rank(node.outputs[0])
    operands: list[ir.Value | None] = []
    for operand in node.inputs:
        inner = facts.made_by(operand, "Concat", node) if facts.is_private(operand) else None
        if inner is not None and _same_axis(axis, new.attribute(inner, "axis"), rank):
            operands.extend(inner.inputs)
        else:
            operands.append(operand)
    return new.Concat(*operands, axis=axis) if len(operands) > len(node.inputs) else None


def _same_axis(one: int, other: int, rank: int | None) -> bool:
    return one == other or (rank is not None and one % rank == other % rank)


@rule(op.Concat(bind="node"), since=4)
def drop_empty_operands(new: Builder, node: ir.Node) -> Any:
    """Concat of operands of which some have size zero becomes Concat of the others."""
    axis = new.attribute(node, "axis")
    kept = [operand for operand in node.inputs if not _is_empty(operand, axis)]
    if not kept or len(kept) == len(node.inputs):
        return None
    return new.Concat(*kept, axis=axis)


def _is_empty(value: ir.Value | None, axis: int) -> bool:
    shape = dims.shape(value)
    if not shape:
        return False
    # onnxruntime also lets an empty tensor of one dimension pass beside any other.
    return shape == (0,) or (-len(shape) <= axis < len(shape) and shape[axis] == 0)


@rule(op.Concat(op.Split(bind="split", shared=True), ..., bind="node"), since=4)
def join_split(new: Builder, node: ir.Node, split: ir.Node) -> Any:
    """Concat of all the parts of a Split, in order and along one axis, becomes what was split."""
    axes = new.attribute(node, "axis"), new.attribute(split, "axis")
    same = _same_axis(*axes, facts.rank(node.outputs[0]))
    return split.inputs[0] if same and tuple(node.inputs) == tuple(split.outputs) else None


@rule(op.Concat(op.Slice(bind="first", shared=True), ..., bind="node"), since=4)
def join_slices(new: Builder, node: ir.Node, first: ir.Node) -> Any:
    """Concat of adjoining slices of one tensor becomes the tensor, or one Slice of it."""
    axis = dims.normalized(new.attribute(node, "axis"), facts.rank(node.outputs[0]))
    source = first.inputs[0]
    if axis is None or source is None or len(node.inputs) < 2:
        return None
    size = dims.extent(source, axis)
    pieces = [_piece(new, operand, source, axis, size) for operand in node.inputs]
    found = [piece for piece in pieces if piece is not None]
    if len(found) < len(pieces) or any(a.stop != b.start for a, b in itertools.pairwise(found)):
        return None
    start, stop = found[0].start, found[-1].stop
    if start == 0 and (stop == size or stop >= dims.TO_THE_END):
        return source
    if not all(map(facts.is_private, node.inputs)):
        new.refuse("the pieces are used elsewhere too")
    return write_slice(new, source, {axis: slice(start, stop, 1)})


def _piece(
    new: Builder, value: ir.Value | None, source: ir.Value, axis: int, size: facts.Dim
) -> slice | None:
    """Return what a Slice takes of one axis of `source`, counted from the front, or None."""
    node = facts.made_by(value, "Slice", new.root)
    if node is None or node.inputs[0] is not source:
        return None
    cut = read_slice(node, new.opset)
    if cut is None or set(cut) != {axis} or cut[axis].step != 1:
        return None
    if isinstance(size, int):
        taken = range(size)[cut[axis]]
        return slice(taken.start, taken.stop) if taken else None
    return cut[axis] if 0 <= cut[axis].start <= cut[axis].stop else None


@rule(op.Concat(op.Unsqueeze(bind="first"), ..., bind="node"), since=4)
def stack_by_concat(new: Builder, node: ir.Node, first: ir.Node) -> Any:
    """Concat of tensors that were unsqueezed on its axis becomes Concat and one Reshape."""
    rank = facts.rank(first.inputs[0])
    axis = dims.normalized(new.attribute(node, "axis"), None if rank is None else rank + 1)
    shape = dims.shape(first.inputs[0])
    if rank is None or shape is None or axis is None or axis >= rank or len(node.inputs) < 2:
        return None
    if node.outputs[0].is_graph_output():
        new.refuse("a Reshape would copy what Concat writes into the graph's output")
    tensors = [_unsqueezed(new, operand, axis) for operand in node.inputs]
    if not all(dims.extent(tensor, axis) == shape[axis] for tensor in tensors):
        return None
    joined = new.Concat(*tensors, axis=axis)
    size = shape[axis]
    total = len(tensors) * size if isinstance(size, int) else None
    after = (*shape[:axis], len(tensors), *shape[axis:])
    target = dims.reshape_target((*shape[:axis], total, *shape[axis + 1 :]), after)
    return None if target is None else new.Reshape(joined, np.array(target, np.int64))


def _unsqueezed(new: Builder, value: ir.Value | None, axis: int) -> ir.Value | None:
    """Return what an Unsqueeze that only adds `axis`, and nobody else reads, was given."""
    node = facts.made_by(value, "Unsqueeze", new.root)
    if node is None or not facts.is_private(value):
        return None
    rank = facts.rank(value)
    axes = facts.axes(node, new.opset)
    return node.inputs[0] if axes and dims.normalized_axes(axes, rank) == (axis,) else None
