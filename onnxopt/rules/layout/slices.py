"""Slices of slices and slices of one part of a Concat.

ONNX cuts like Python: a start or stop below zero counts from the end, and what lies outside is
clamped. So a slice of a slice is `range(size)[first][second]` where the size is known. Where it is
not, starts, stops and steps that count from the front compose by themselves: element i of the
second is element start₁ + step₁·(start₂ + step₂·i) of the input, and the smaller stop wins.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")

Cut = dict[int, slice]
"""By axis, counted from the front: what is taken of it."""

_MOST_PARTS = 64
_BEFORE_THE_FIRST = -(2**63) + 1


def read_slice(node: ir.Node, opset: int) -> Cut | None:
    """Return what a Slice takes, with integers throughout, or None where it is not known now."""
    rank = facts.rank(node.inputs[0])
    if opset < 10:
        starts = facts.attribute(node, "starts", opset)
        stops = facts.attribute(node, "ends", opset)
        axes = facts.attribute(node, "axes", opset)
        steps = None
    else:
        given = [*node.inputs[1:], None, None]
        starts, stops = facts.integers(given[0]), facts.integers(given[1])
        axes, steps = (_unless_absent(value) for value in given[2:4])
        if axes is _NOT_KNOWN or steps is _NOT_KNOWN:
            return None
    if starts is None or stops is None:
        return None
    axes = tuple(range(len(starts))) if axes is None else axes
    places = [dims.normalized(axis, rank) for axis in axes]
    if None in places or len(set(places)) < len(places):
        return None
    steps = (1,) * len(starts) if steps is None else steps
    parts = map(slice, starts, stops, steps)
    return {place: part for place, part in zip(places, parts, strict=True) if place is not None}


_NOT_KNOWN: tuple[int, ...] = (0,)


def _unless_absent(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return None for an input that is left out, `_NOT_KNOWN` for one computed at run time."""
    if value is None:
        return None
    found = facts.integers(value)
    return _NOT_KNOWN if found is None else found


def write_slice(new: Builder, x: ir.Value, cut: Cut) -> Any:
    """Make a Slice in the form of the operator set in force."""
    axes = sorted(cut)
    starts, stops = [cut[axis].start for axis in axes], [cut[axis].stop for axis in axes]
    if new.opset < 10:
        return new.Slice(x, starts=starts, ends=stops, axes=axes)
    steps = [cut[axis].step for axis in axes]
    rows = [starts, stops, axes] + ([] if set(steps) == {1} else [steps])
    return new.Slice(x, *(np.array(row, np.int64) for row in rows))


def compose(first: slice, second: slice, size: facts.Dim) -> slice | None:
    """Return the one slice of an axis that does what two do one after the other, or None."""
    if isinstance(size, int):
        return as_slice(range(size)[first][second])
    counted = (first.start, first.stop, second.start, second.stop)
    if min(counted) < 0 or first.step < 1 or second.step < 1:
        return None
    start = first.start + second.start * first.step
    stop = first.stop
    if second.stop < dims.TO_THE_END:
        stop = min(stop, first.start + second.stop * first.step)
    return slice(start, stop, first.step * second.step)


def as_slice(taken: range) -> slice:
    """Return the slice that takes the elements of a range; one of size 0 where it is empty."""
    if not taken:
        return slice(0, 0, 1)
    stop = taken.stop if taken.stop >= 0 else _BEFORE_THE_FIRST
    return slice(taken.start, stop, taken.step)


@rule(op.Slice(op.Slice(x, ..., bind="inner"), ..., bind="outer"))
def merge_slices(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Slice(Slice(x)) becomes one Slice(x)."""
    first, second = read_slice(inner, new.opset), read_slice(outer, new.opset)
    if first is None or second is None:
        return None
    merged: Cut = dict(first)
    for axis, part in second.items():
        inside = first.get(axis)
        whole = compose(inside, part, dims.extent(x, axis)) if inside is not None else part
        if whole is None:
            new.refuse(f"the size of axis {axis} is not known")
        merged[axis] = whole
    return write_slice(new, x, merged)


@rule(op.Slice(op.Concat(bind="concat", shared=True), ..., bind="node"))
def slice_concat_part(new: Builder, node: ir.Node, concat: ir.Node) -> Any:
    """Slice(Concat(…)) that takes of a single operand becomes a Slice of it, or the operand."""
    cut = read_slice(node, new.opset)
    axis = dims.normalized(new.attribute(concat, "axis"), facts.rank(node.inputs[0]))
    if cut is None or axis is None or axis not in cut or cut[axis].step < 1:
        return None
    found = _operand_of(concat, axis, cut[axis])
    if found is None:
        return None
    part, within = found
    size = dims.extent(part, axis)
    rest = {place: taken for place, taken in cut.items() if place != axis}
    if within != range(size if isinstance(size, int) else 0):
        rest[axis] = as_slice(within)
    return write_slice(new, part, rest) if rest else part


def _operand_of(concat: ir.Node, axis: int, taken: slice) -> tuple[ir.Value, range] | None:
    """Return the only operand of a Concat from which a slice takes, and what it takes of it."""
    sizes = [dims.extent(part, axis) for part in concat.inputs]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        whole = range(sum(known))[taken]
    elif taken.start >= 0 and 0 <= taken.stop < dims.TO_THE_END:
        whole = range(taken.start, taken.stop, taken.step)
    else:
        return None
    if not whole:
        return None
    before = 0
    for part, size in zip(concat.inputs, sizes, strict=True):
        if not isinstance(size, int) or part is None:
            return None
        if before <= whole[0] and whole[-1] < before + size:
            return part, range(whole.start - before, min(whole.stop - before, size), whole.step)
        before += size
    return None


@rule(op.Slice(x, ..., bind="node"), since=2)
def merge_slices_into_split(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """Slices that cut one axis into adjoining parts, from end to end, become one Split."""
    if len(facts.uses(x)) > _MOST_PARTS:
        return None
    found = {
        use.node: read_slice(use.node, new.opset)
        for use in x.uses()
        if use.idx == 0 and facts.made_by(use.node.outputs[0], "Slice", node) is not None
    }
    mine = found.get(node)
    if len(found) < 2 or mine is None or len(mine) != 1 or facts.is_constant(x):
        return None
    if any(_is_sliced_again(sibling.outputs[0]) for sibling in found):
        new.refuse("one of the slices is sliced again")
    (axis,) = mine
    size = dims.extent(x, axis)
    if not isinstance(size, int):
        return None
    parts: list[tuple[range, ir.Node]] = []
    for sibling, cut in found.items():
        if cut is not None and set(cut) == {axis} and cut[axis].step == 1:
            parts.append((range(size)[cut[axis]], sibling))
    parts.sort(key=lambda part: part[0].start)
    bounds = [0, *(taken.stop for taken, _ in parts)]
    if len(parts) < 2 or bounds[-1] != size or not all(taken for taken, _ in parts):
        return None
    if any(taken.start != before for (taken, _), before in zip(parts, bounds, strict=False)):
        return None
    pieces = _split(new, x, axis, [len(taken) for taken, _ in parts])
    slices = [sibling.outputs[0] for _, sibling in parts]
    return dict(zip(slices, pieces, strict=True))


def _is_sliced_again(value: ir.Value) -> bool:
    """Tell whether a Slice can be merged into the only node that reads it."""
    readers = [use.node.op_type for use in value.uses()]
    return readers == ["Slice"] and not value.is_graph_output()


def _split(new: Builder, x: ir.Value, axis: int, sizes: list[int]) -> tuple[ir.Value, ...]:
    """Make a Split in the form of the operator set in force."""
    if new.opset < 13:
        made = new.Split(x, axis=axis, split=sizes, outputs=len(sizes))
    else:
        made = new.Split(x, np.array(sizes, np.int64), axis=axis, outputs=len(sizes))
    return tuple(made)
