"""Operators that move axes: an axis of the output is another one of an input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.layout.slices import read_slice
from onnxopt.rules.layout.transposes import permutation
from onnxopt.rules.unread.needs import Needs, first
from onnxopt.rules.unread.part import Part

_HIGHEST_RANK = 8
_LEFT = "left"
"""The name of what is left of an axis on both sides of one Reshape, where nothing else is known."""


def transpose(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Transpose has at each place an axis of its input."""
    perm = permutation(node, new.opset)
    if perm is None or attends(node.inputs[0]):
        return None
    return first(node, part.at(perm[part.axis]))


def attends(value: ir.Value | None, above: int = 4) -> bool:
    """Tell whether a value is a product with a Softmax: attention, which is fused as a whole."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "MatMul":
        return False
    return _is_softmax(node.inputs[0], above)


def _is_softmax(value: ir.Value | None, above: int) -> bool:
    node = None if value is None else value.producer()
    if node is None or not above:
        return False
    if node.op_type in ("Cast", "Where", "Dropout", "Mul"):
        return any(_is_softmax(operand, above - 1) for operand in node.inputs)
    return node.op_type == "Softmax"


def squeeze(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Squeeze leaves axes out."""
    rank = facts.rank(node.inputs[0])
    axes = facts.axes(node, new.opset)
    gone = dims.normalized_axes(axes, rank) if axes else None
    if rank is None or gone is None:
        return None
    kept = [axis for axis in range(rank) if axis not in gone]
    return first(node, part.at(kept[part.axis]))


def unsqueeze(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Unsqueeze puts axes of size one in between."""
    rank, axes = facts.rank(node.inputs[0]), facts.axes(node, new.opset)
    added = dims.normalized_axes(axes, rank + len(axes)) if axes and rank is not None else None
    if added is None or part.axis in added:
        return None
    return first(node, part.at(part.axis - sum(axis < part.axis for axis in added)))


def reshape(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Reshape keeps an axis, or sees one as several or several as one."""
    source, made = dims.shape(node.inputs[0]), dims.shape(node.outputs[0])
    if source is None or made is None or max(len(source), len(made)) > _HIGHEST_RANK:
        return None
    found = _behind(source, made, part)
    if found is None or len(node.inputs) < 2:
        return None
    left = part.left if part.left is not None else _LEFT
    target = dims.reshape_target(found.shape(source, left), part.shape(made, left))
    if target is None and part.take.is_last():
        # A named axis is not empty where a Reshape infers another: one element is left.
        target = dims.reshape_target(found.shape(source, 1), part.shape(made, 1))
    if target is None:
        return None
    return Needs(
        inputs=(found, None),
        attributes={"allowzero": None},
        constants={1: np.array(target, np.int64)},
    )


def flatten(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Flatten keeps an axis at whose side it joins nothing."""
    source, made = dims.shape(node.inputs[0]), dims.shape(node.outputs[0])
    if source is None or made is None or len(source) > _HIGHEST_RANK:
        return None
    found = _behind(source, made, part)
    return None if found is None else first(node, found)


def _behind(source: Sequence[Dim], made: Sequence[Dim], part: Part) -> Part | None:
    """Return the part of what a Reshape was given that a part of what it makes is.

    Elements keep their order: axes of both sides are the same where as many elements stand before
    them and as many behind.
    """
    seen = part.view or (made[part.axis],)
    start, end = made[: part.axis], made[part.axis + 1 :]
    for axis in range(len(source) - len(seen) + 1):
        stop = axis + len(seen)
        if _as_many(source[:axis], start) and _as_many(source[stop:], end):
            alike = all(map(dims.same, source[axis:stop], seen))
            if alike or (len(seen) == 1 and not part.view):
                return Part(axis=axis + part.place, take=part.take, left=part.left)
    if part.view:
        return None
    for begin in range(part.axis + 1):
        for stop in range(part.axis + 1, len(made) + 1):
            for axis in range(len(source)):
                if _as_many(source[:axis], made[:begin]) and _as_many(
                    source[axis + 1 :], made[stop:]
                ):
                    place = part.axis - begin
                    view = tuple(made[begin:stop])
                    return Part(axis=axis, take=part.take, left=part.left, view=view, place=place)
    return None


def _as_many(some: Sequence[Dim], others: Sequence[Dim]) -> bool:
    """Tell whether two runs of axes are known to hold as many elements."""
    counts = []
    for sizes in (some, others):
        names = sorted(size for size in sizes if isinstance(size, str))
        known = [size for size in sizes if isinstance(size, int)]
        if None in sizes or 0 in known:
            return False
        counts.append((names, int(np.prod(known))))
    return counts[0] == counts[1]


def expand(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Expand to a constant shape repeats an axis of size one and keeps the others."""
    source, made = facts.rank(node.inputs[0]), facts.rank(node.outputs[0])
    target = facts.integers(node.inputs[1])
    if source is None or made is None or target is None or part.view:
        return None
    wanted = part.axis - made + len(target)
    own = part.axis - made + source
    size = dims.extent(node.inputs[0], own) if own >= 0 else 1
    if size == 1:
        if not isinstance(part.left, int) or wanted < 0:
            return None
        needed: Part | None = None
        left = part.left
    else:
        full = dims.extent(node.outputs[0], part.axis)
        if not dims.same(size, full):
            return None
        needed, left = part.at(own), 1
    changed = list(target)
    if wanted >= 0:
        changed[wanted] = left
    return Needs(inputs=(needed, None), constants={1: np.array(changed, np.int64)})


def gather(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Gather has the axes of its indices in the place of the one that it gathers from."""
    data, index = facts.rank(node.inputs[0]), facts.rank(node.inputs[1])
    axis = dims.normalized(new.attribute(node, "axis"), data)
    if axis is None or index is None:
        return None
    if axis <= part.axis < axis + index:
        return Needs(inputs=(None, part.at(part.axis - axis)))
    if part.take.picks is not None and facts.is_constant(node.inputs[1]):
        return None  # two of a kind would pass each other for ever
    own = part.axis if part.axis < axis else part.axis - index + 1
    return Needs(inputs=(part.at(own), None))


def cut(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Slice keeps the axes that it does not cut; a Gather stays behind it, never the reverse."""
    taken = None if part.take.picks is not None else read_slice(node, new.opset)
    return first(node, part) if taken is not None and part.axis not in taken else None
