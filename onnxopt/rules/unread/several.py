"""Several parts of one tensor that leave some of it unread: a Split, or Slices along one axis.

Only the range from the first to the last of them has to be computed. Where that cannot be, a Split
of which a part is unread still copies too much: Slices copy what is read.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.slices import read_slice, write_slice
from onnxopt.rules.unread.climb import LEAST_GAIN, Climb, Plan
from onnxopt.rules.unread.part import Part, Take
from onnxopt.rules.unread.work import NODE, elements

x = var("x")

_MOST_READERS = 16

Pieces = dict[ir.Value, range]
"""What is read of an axis, by the output that holds it."""


@rule(op.Split(x, ..., bind="node"), since=7)
def split_what_is_read(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """Split of which some outputs are not read becomes Slices, or a Split of less."""
    read = [value for value in node.outputs if value.uses() or value.is_graph_output()]
    axis = dims.normalized(new.attribute(node, "axis"), facts.rank(x))
    if axis is None or not read or len(read) == len(node.outputs) or facts.is_constant(x):
        return None
    sizes = [dims.extent(value, axis) for value in node.outputs]
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) < len(sizes):
        return None
    pieces: Pieces = {}
    start = 0
    for value, size in zip(node.outputs, known, strict=True):
        if value in read:
            pieces[value] = range(start, start + size)
        start += size
    return _narrowed(new, x, (node,), axis, pieces) or _sliced(new, x, axis, pieces, start)


@rule(op.Slice(x, ..., bind="node"), since=7)
def slices_before_computing(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """Slices of what a node computes leave out of it what none of them takes."""
    if x.producer() is None or not 2 <= len(facts.uses(x)) <= _MOST_READERS:
        return None
    readers = dict.fromkeys(use.node for use in facts.uses(x))
    pieces: Pieces = {}
    axes = set()
    for reader in readers:
        cut = read_slice(reader, new.opset) if reader.op_type == node.op_type else None
        if cut is None or len(cut) != 1 or reader.domain or reader.graph is not node.graph:
            return None
        ((axis, taken),) = cut.items()
        size = dims.extent(x, axis)
        if not isinstance(size, int) or taken.step != 1 or not range(size)[taken]:
            return None
        axes.add(axis)
        pieces[reader.outputs[0]] = range(size)[taken]
    return _narrowed(new, x, tuple(readers), axes.pop(), pieces) if len(axes) == 1 else None


def _narrowed(
    new: Builder, x: ir.Value, readers: tuple[ir.Node, ...], axis: int, pieces: Pieces
) -> dict[ir.Value, ir.Value] | None:
    """Take the pieces of what is computed of x from the first of them to the last."""
    first = min(piece.start for piece in pieces.values())
    stop = max(piece.stop for piece in pieces.values())
    climb = Climb(new, readers)
    part = Part(axis=axis, take=Take(start=first, stop=stop), left=stop - first)
    plan: Plan | None = climb.over(x, part) if len(pieces) > 1 else None
    if plan is None or plan.saved < LEAST_GAIN:
        return None
    made = climb.build(plan)
    return {
        value: _slice(new, made, axis, piece.start - first, piece.stop - first)
        for value, piece in pieces.items()
    }


def _sliced(
    new: Builder, x: ir.Value, axis: int, pieces: Pieces, size: int
) -> dict[ir.Value, ir.Value] | None:
    """Take each piece by a Slice where that copies less than a Split does."""
    unread = 1 - sum(map(len, pieces.values())) / size
    if elements(x) * unread - (len(pieces) - 1) * NODE < LEAST_GAIN:
        return None
    return {value: _slice(new, x, axis, piece.start, piece.stop) for value, piece in pieces.items()}


def _slice(new: Builder, x: ir.Value, axis: int, start: int, stop: int) -> ir.Value:
    made: ir.Value = write_slice(new, x, {axis: slice(start, stop, 1)})
    return made
