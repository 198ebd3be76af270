"""Operators that only move elements: the labels of channels move along with them."""

from __future__ import annotations

import math

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.walk import Step, Walk, whole
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

_MOST = 1 << 22
"""Labels are not spread over more elements than this."""


def _transpose(walk: Walk, node: ir.Node) -> bool:
    rank = facts.rank(node.inputs[0])
    if rank is None:
        return False
    order = facts.attribute(node, "perm", walk.opset) or tuple(reversed(range(rank)))
    walk.write(node.outputs[0], whole(walk.read(node, 0), rank).transpose(order))
    return True


def _reshape(walk: Walk, node: ir.Node) -> bool:
    old, new = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
    if old is None or new is None:
        return False
    moved = reshaped(walk.read(node, 0), old, new)
    if moved is None:
        return False
    walk.write(node.outputs[0], moved)
    return True


def reshaped(labels: Array, old: tuple[facts.Dim, ...], new: tuple[facts.Dim, ...]) -> Array | None:
    """Return where labels come to lie when a tensor is given another shape, or None.

    The dimensions that stay, in front or at the end, may be of any size; those in between have to
    be known where labels differ along one of them.
    """
    full = whole(labels, len(old))
    differ = [axis for axis, size in enumerate(full.shape) if size > 1]
    if not differ:
        return full.reshape(())
    front = 0
    while front < min(len(old), len(new)) and _same(old[front], new[front]):
        front += 1
    if differ[-1] < front:
        return full.reshape(full.shape[:front] + (1,) * (len(new) - front))
    for start in range(differ[0], -1, -1):
        block = _product(old[start:])
        cut = next((at for at in range(len(new)) if _product(new[at:]) == block), None)
        if block is None or block > _MOST:
            return None
        if cut is not None:
            sizes = [int(size or 0) for size in old[start:]]
            spread = np.broadcast_to(full[(0,) * start], sizes)
            return _narrowed(spread.reshape([int(size or 0) for size in new[cut:]]))
    return None


def _product(sizes: tuple[facts.Dim, ...]) -> int | None:
    """Return how many elements there are; None where that is not known."""
    known = [size for size in sizes if isinstance(size, int) and size > 0]
    return math.prod(known) if len(known) == len(sizes) else None


def _same(one: facts.Dim, other: facts.Dim) -> bool:
    return one is not None and one == other


def _narrowed(labels: Array) -> Array:
    """Return labels with size 1 along the axes along which they are the same."""
    for axis in range(labels.ndim):
        first = labels.take([0], axis)
        if (labels == first).all():
            labels = first
    return labels


def _squeeze(walk: Walk, node: ir.Node) -> bool:
    """Follow Squeeze and Unsqueeze, which move nothing."""
    rank, made = facts.rank(node.inputs[0]), facts.rank(node.outputs[0])
    axes = facts.axes(node, walk.opset)
    if rank is None or made is None or not axes:
        return False
    full = whole(walk.read(node, 0), rank)
    if node.op_type == "Squeeze":
        moved = np.squeeze(full, tuple(axis % rank for axis in axes))
    else:
        moved = np.expand_dims(full, tuple(axis % made for axis in axes))
    walk.write(node.outputs[0], moved)
    return True


def _concat(walk: Walk, node: ir.Node) -> bool:
    rank, axis = facts.rank(node.outputs[0]), facts.attribute(node, "axis", walk.opset)
    if rank is None or axis is None:
        return False
    axis %= rank
    parts = [whole(walk.read(node, place), rank) for place in range(len(node.inputs))]
    if all(part.shape[axis] == 1 for part in parts):
        for part in parts[1:]:
            walk.labels.tie(parts[0], part)
        walk.write(node.outputs[0], np.broadcast_arrays(*parts)[0])
        return True
    shapes = [facts.shape(value) for value in node.inputs]
    if any(shape is None or not isinstance(shape[axis], int) for shape in shapes):
        return False
    others = np.broadcast_shapes(*(part.take([0], axis).shape for part in parts))
    spread = []
    for part, shape in zip(parts, shapes, strict=True):
        sizes = list(others)
        sizes[axis] = int((shape or ())[axis] or 0)
        spread.append(np.broadcast_to(part, sizes))
    walk.write(node.outputs[0], np.concatenate(spread, axis))
    return True


def _split(walk: Walk, node: ir.Node) -> bool:
    rank, axis = facts.rank(node.inputs[0]), facts.attribute(node, "axis", walk.opset)
    if rank is None or axis is None:
        return False
    axis %= rank
    full = whole(walk.read(node, 0), rank)
    begin = 0
    for output in node.outputs:
        part = full
        if full.shape[axis] > 1:
            size = (facts.shape(output) or (None,) * rank)[axis]
            if not isinstance(size, int):
                return False
            part = full.take(range(begin, begin + size), axis)
            begin += size
        walk.write(output, part)
    return True


def _slice(walk: Walk, node: ir.Node) -> bool:
    rank = facts.rank(node.inputs[0])
    starts, ends, axes, steps = (
        facts.integers(node.inputs[place]) if place < len(node.inputs) else None
        for place in range(1, 5)
    )
    if rank is None:
        return False
    full = whole(walk.read(node, 0), rank)
    given = len(node.inputs) > 3 and node.inputs[3] is not None
    cut = axes if given else tuple(range(rank))
    if cut is None:
        return False
    for place, axis in enumerate(cut):
        if full.shape[axis % rank] == 1:
            continue
        stepped = len(node.inputs) > 4 and node.inputs[4] is not None
        if starts is None or ends is None or (stepped and steps is None):
            return False
        step = steps[place] if steps is not None else 1
        begin, end = starts[place], ends[place]
        if step < 0 and end < -full.shape[axis % rank]:
            chosen = slice(begin, None, step)
        else:
            chosen = slice(begin, end, step)
        full = full[(slice(None),) * (axis % rank) + (chosen,)]
    walk.write(node.outputs[0], full)
    return True


def _gather(walk: Walk, node: ir.Node) -> bool:
    if facts.is_constant(node.inputs[0]):
        return False
    rank, chosen = facts.rank(node.inputs[0]), facts.rank(node.inputs[1])
    axis = facts.attribute(node, "axis", walk.opset)
    if rank is None or chosen is None or axis is None:
        return False
    full = whole(walk.read(node, 0), rank)
    indices = np.zeros((1,) * chosen, np.int64)
    if full.shape[axis % rank] > 1:
        found = facts.constant(node.inputs[1])
        if found is None:
            return False
        indices = found
    walk.write(node.outputs[0], full.take(indices, axis % rank))
    return True


STEPS: dict[str, Step[Walk]] = {
    "Concat": _concat,
    "Flatten": _reshape,
    "Gather": _gather,
    "Reshape": _reshape,
    "Slice": _slice,
    "Split": _split,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _squeeze,
}
