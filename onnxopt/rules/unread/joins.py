"""Concat: a part of the axis it joins comes of some operands, of other axes of every one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.unread.needs import Needs
from onnxopt.rules.unread.part import Part, Take


def concat(new: Builder, node: ir.Node, part: Part) -> Needs | None:
    """Concat needs of each operand what lies in the part."""
    axis = dims.normalized(new.attribute(node, "axis"), facts.rank(node.outputs[0]))
    if axis is None:
        return None
    if part.axis != axis:
        return Needs(inputs=(part,) * len(node.inputs))
    sizes = [dims.extent(operand, axis) for operand in node.inputs]
    found = None if part.view else _of_each(sizes, part.take)
    if found is None:
        return None
    parts = [
        Part(axis=axis, take=Take.at(places), left=len(places)) if places else None
        for places in found
    ]
    dropped = frozenset(index for index, places in enumerate(found) if places == [])
    return Needs(inputs=tuple(parts), dropped=dropped)


def _of_each(sizes: Sequence[Dim], take: Take) -> list[list[int] | None] | None:
    """Return the places that are taken of each operand in order: none, some, or None for all."""
    known = [size for size in sizes if isinstance(size, int)]
    if take.is_last() and sizes and isinstance(sizes[-1], int) and sizes[-1] > 0:
        return [*([] for _ in sizes[:-1]), [sizes[-1] - 1] if sizes[-1] > 1 else None]
    places = _from_the_front(sum(known), take, certain=len(known) == len(sizes))
    if not places or any(a > b for a, b in itertools.pairwise(places)):
        return None
    found: list[list[int] | None] = []
    before = 0
    for size in sizes:
        if places[-1] < before:
            found.append([])
            continue
        if not isinstance(size, int):
            return None
        inside = [place - before for place in places if before <= place < before + size]
        found.append(None if inside == list(range(size)) and size else inside)
        before += size
    return found


def _from_the_front(total: int, take: Take, *, certain: bool) -> list[int] | None:
    """Return the places that are taken, counted from the front, or None where that is not known."""
    if certain:
        return take.places(total)
    if take.picks is not None:
        return list(take.picks) if min(take.picks) >= 0 else None
    if take.start < 0 or not 0 <= take.stop < dims.TO_THE_END or take.step < 1:
        return None
    if take.stop - take.start > 1 << 16:
        return None
    return list(range(take.start, take.stop, take.step))
