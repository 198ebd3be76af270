"""A Transpose between two Reshapes that only group axes and take them apart again.

Exporters transpose the last two axes of a value of four by making it one of three: [B, H, S, D] →
[B·H, S, D] → [B·H, D, S] → [B, H, D, S]. Where neighbouring axes are merged and come back as they
were, one Transpose of the value itself does the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")


@rule(
    op.Reshape(
        op.Transpose(op.Reshape(x, ..., bind="merging"), bind="transpose"), ..., bind="parting"
    ),
    since=5,
)
def transpose_without_grouping(
    new: Builder, x: ir.Value, merging: ir.Node, transpose: ir.Node, parting: ir.Node
) -> Any:
    """Reshape(Transpose(Reshape(x))) that merges axes and parts them again is one Transpose(x)."""
    source, merged = dims.shape(x), dims.shape(merging.outputs[0])
    wanted = facts.shape(parting.outputs[0])
    if source is None or merged is None or wanted is None:
        new.refuse("the shapes are not known")
    groups = grouping(source, merged)
    perm = new.attribute(transpose, "perm") or tuple(range(len(merged) - 1, -1, -1))
    if groups is None or len(perm) != len(groups):
        return None
    order = [axis for place in perm for axis in groups[place]]
    after = [source[axis] for axis in order]
    if len(after) != len(wanted) or not dims.same_by_count(after, wanted):
        new.refuse("the axes are not parted as they were merged")
    return new.Transpose(x, perm=order)


def grouping(
    source: Sequence[facts.Dim], merged: Sequence[facts.Dim]
) -> list[tuple[int, ...]] | None:
    """Return which axes of `source` each axis of `merged` holds, where one holds several.

    The others have to be known to be the same; the number of elements, which a Reshape keeps, then
    says that the one holds the rest.
    """
    extra = len(source) - len(merged)
    if extra < 1 or 0 in source or 0 in merged:
        return None
    for place in range(len(merged)):
        others = (*source[:place], *source[place + extra + 1 :])
        kept = (*merged[:place], *merged[place + 1 :])
        if all(map(dims.same, others, kept)):
            held: list[tuple[int, ...]] = [(axis,) for axis in range(place)]
            held.append(tuple(range(place, place + extra + 1)))
            return [*held, *((axis,) for axis in range(place + extra + 1, len(source)))]
    return None
