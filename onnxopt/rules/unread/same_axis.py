"""Operators that keep an axis where it is: an element of it comes of the same element of inputs."""

from __future__ import annotations

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.elementwise import is_unary
from onnxopt.rules.unread.needs import Needs, first
from onnxopt.rules.unread.part import Part

_JOINT = 13
"""Before this operator set, Softmax and its like took all axes from theirs on as one."""


def unary(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """An element is computed of the same element of the first input; the others are scalars."""
    return first(node, part) if node.domain or is_unary(node) else None


def broadcast(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """An element is computed of the same element of every input that has the axis at full size."""
    return aligned(node, part, len(node.inputs))


def aligned(node: ir.Node, part: Part, count: int, end: int = 0) -> Needs | None:
    """Return the needs of a node whose first `count` inputs broadcast each other.

    The last `end` axes of the output are no business of theirs; they have at least so many.
    """
    ranks = [facts.rank(value) for value in node.inputs[:count] if value is not None]
    known = [rank for rank in ranks if rank is not None]
    if len(known) < len(ranks) or part.axis >= max(known) - end:
        return None
    parts: list[Part | None] = [None] * len(node.inputs)
    sizes = []
    for index, value in enumerate(node.inputs[:count]):
        axis = part.axis - max(known) + (facts.rank(value) or 0)
        size = dims.extent(value, axis) if axis >= 0 else 1
        if value is not None and size != 1:
            parts[index] = part.at(axis)
            sizes.append(size)
    if not sizes or (len(sizes) > 1 and not all(dims.same(sizes[0], size) for size in sizes)):
        return None
    return Needs(inputs=tuple(parts))


def beside_axis(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Softmax and its like work along one axis; the others are kept apart."""
    rank = facts.rank(node.inputs[0])
    axis = dims.normalized(new.attribute(node, "axis"), rank)
    joint = new.opset < _JOINT and node.op_type != "LpNormalization"
    if axis is None or part.axis == axis or (joint and part.axis > axis):
        return None
    return first(node, part)


def before_axis(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """LayerNormalization and its like work on the axes from one on, with scales for those."""
    rank, given = facts.rank(node.inputs[0]), new.attribute(node, "axis")
    axis = None if given is None else dims.normalized(given, rank)
    if rank is None or axis is None or part.axis >= axis:
        return None
    scales = [facts.rank(value) for value in node.inputs[1:] if value is not None]
    if not all(scale is not None and scale <= rank - axis for scale in scales):
        return None
    return first(node, part)


def before_last_axis(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """SkipLayerNormalization adds two tensors and works on the last axis of the sum."""
    return aligned(node, part, 2, end=1)


def per_channel(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """BatchNormalization and InstanceNormalization have a scale and a shift for each channel."""
    spatial = new.attribute(node, "spatial")  # an attribute up to operator set 8
    if new.attribute(node, "training_mode") or spatial == 0 or len(node.outputs) > 1:
        return None
    if part.axis == 1:
        return Needs(inputs=(part, *(part.at(0) for _ in node.inputs[1:])))
    if part.axis and node.op_type == "InstanceNormalization":
        return None
    return first(node, part)


def pool(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """A pool keeps batch and channels apart."""
    return first(node, part) if part.axis < 2 else None


def reduction(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """A reduction keeps the axes apart that it does not reduce."""
    rank = facts.rank(node.inputs[0])
    if node.op_type in ("ArgMax", "ArgMin"):
        given: tuple[int, ...] | None = (new.attribute(node, "axis"),)
    else:
        given = facts.axes(node, new.opset)
    axes = dims.normalized_axes(given, rank) if given else None
    if rank is None or axes is None:
        return None
    kept = [axis for axis in range(rank) if axis not in axes]
    if not new.attribute(node, "keepdims"):
        return first(node, part.at(kept[part.axis]))
    return first(node, part) if part.axis in kept else None
