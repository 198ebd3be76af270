"""What can be proven about shapes whose dimensions may be names: equality, broadcasting, Reshape.

Two dimensions are equal when they are the same size or bear the same name. Nothing is assumed of a
dimension that is not known, except that a named one is not zero where a Reshape infers another.
"""

from __future__ import annotations

from collections.abc import Sequence

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim

PROVEN = "onnxopt.dims.proven"
"""In the `meta` of a graph's output: the dimensions that follow from the nodes, names included."""

TO_THE_END = 2**31 - 1
"""Exporters write this, or more, for 'up to the end' in a Slice."""


def same(one: Dim, other: Dim) -> bool:
    """Tell whether two dimensions are known to be equal."""
    return one is not None and one == other


def shape(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """Return the dimensions that hold for certain; None where not even their number is known.

    The names on a graph's outputs are no proof: authors give an output of 3·N rows the name N too.
    """
    dims = facts.shape(value)
    if value is None or not value.is_graph_output():
        return dims
    found: tuple[Dim, ...] | None = value.meta.get(PROVEN)
    if found is not None or dims is None:
        return found
    return tuple(dim if isinstance(dim, int) else None for dim in dims)


def extent(value: ir.Value | None, axis: int) -> Dim:
    """Return one dimension of a value, or None where the value is not known to have it."""
    dims = shape(value)
    return dims[axis] if dims is not None and axis < len(dims) else None


def same_shape(one: ir.Value | None, other: ir.Value | None) -> bool:
    """Tell whether two values are known to have the same shape."""
    left, right = shape(one), shape(other)
    if left is None or right is None or len(left) != len(right):
        return False
    return all(map(same, left, right))


def same_by_count(before: Sequence[Dim] | None, after: Sequence[Dim] | None) -> bool:
    """Tell whether a reshape between two shapes leaves the shape as it is.

    The number of elements is kept: one dimension that is not known cannot differ alone.
    """
    if before is None or after is None or len(before) != len(after) or 0 in before:
        return False
    unsure = [pair for pair in zip(before, after, strict=True) if not same(*pair)]
    clash = any(isinstance(one, int) and isinstance(other, int) for one, other in unsure)
    return len(unsure) <= 1 and not clash


def broadcast_keeps(value: ir.Value | None, other: Sequence[Dim] | None) -> bool:
    """Tell whether broadcasting a value against the shape `other` leaves the value's shape."""
    if other is None:
        return False
    if not other:
        return value is not None
    dims = shape(value)
    if dims is None or len(dims) < len(other):
        return False
    aligned = dims[len(dims) - len(other) :]
    return all(
        theirs == 1 or same(mine, theirs) for mine, theirs in zip(aligned, other, strict=True)
    )


def normalized(axis: int, rank: int | None) -> int | None:
    """Return an axis counted from the front, or None where that takes an unknown rank."""
    if axis >= 0:
        return axis
    return None if rank is None or axis + rank < 0 else axis + rank


def normalized_axes(axes: Sequence[int], rank: int | None) -> tuple[int, ...] | None:
    """Return axes counted from the front in ascending order, or None."""
    found = [normalized(axis, rank) for axis in axes]
    known = [axis for axis in found if axis is not None]
    return tuple(sorted(known)) if len(known) == len(found) == len(set(known)) else None


def reshape_target(source: Sequence[Dim], wanted: Sequence[Dim]) -> tuple[int, ...] | None:
    """Return the shape input with which Reshape turns `source` into `wanted`, or None.

    A name that stands at the same axis on both sides is copied (0); one other dimension may be
    left to Reshape (-1).
    """
    if 0 in source or 0 in wanted:
        return None
    target: list[int] = []
    for axis, dim in enumerate(wanted):
        if isinstance(dim, int):
            target.append(dim)
        elif axis < len(source) and same(dim, source[axis]):
            target.append(0)
        else:
            target.append(-1)
    return tuple(target) if target.count(-1) <= 1 else None
