"""SpaceToDepth and DepthToSpace, which exporters write as Reshape, Transpose, Reshape.

With blocks of b × b, SpaceToDepth takes [n, c, h·b, w·b] as [n, c, h, b, w, b] and moves both
b before c; DepthToSpace takes [n, b·b·c, h, w] as [n, b, b, c, h, w] (DCR) or as [n, c, b, b, h, w]
(CRD, torch's pixel shuffle) and moves one b behind h and one behind w. torch's pixel unshuffle,
whose channels come before the blocks, is neither.
"""

from __future__ import annotations

import math
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")
_REARRANGED = op.Reshape(
    op.Transpose(op.Reshape(x, ..., bind="split"), bind="turn"), ..., bind="join"
)
_KERNELS = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})
"""What onnxruntime has kernels for."""

_SPACE_TO_DEPTH = (0, 3, 5, 1, 2, 4)
_DEPTH_TO_SPACE = {(0, 3, 4, 1, 5, 2): "DCR", (0, 1, 4, 2, 5, 3): "CRD"}


@rule(_REARRANGED, since=5)
def fuse_space_to_depth(
    new: Builder, x: ir.Value, split: ir.Node, turn: ir.Node, join: ir.Node
) -> Any:
    """Reshape(Transpose(Reshape(x))) that moves blocks into channels becomes SpaceToDepth."""
    parts, before, after = _sizes(new, x, split, turn, join, _SPACE_TO_DEPTH)
    channels, height, block, width, other = parts
    if block != other or block < 2:
        return None
    if before != (channels, height * block, width * block):
        return None
    if after != (channels * block * block, height, width):
        return None
    return new.SpaceToDepth(x, blocksize=block)


@rule(_REARRANGED, since=11)
def fuse_depth_to_space(
    new: Builder, x: ir.Value, split: ir.Node, turn: ir.Node, join: ir.Node
) -> Any:
    """Reshape(Transpose(Reshape(x))) that moves channels into blocks becomes DepthToSpace."""
    perm = new.attribute(turn, "perm")
    if perm not in _DEPTH_TO_SPACE:
        return None
    parts, before, after = _sizes(new, x, split, turn, join, perm)
    mode = _DEPTH_TO_SPACE[perm]
    block, other, channels = parts[:3] if mode == "DCR" else (parts[1], parts[2], parts[0])
    height, width = parts[3:]
    if block != other or block < 2:
        return None
    if before != (channels * block * block, height, width):
        return None
    if after != (channels, height * block, width * block):
        return None
    return new.DepthToSpace(x, blocksize=block, mode=mode)


def _sizes(
    new: Builder,
    x: ir.Value,
    split: ir.Node,
    turn: ir.Node,
    join: ir.Node,
    perm: tuple[int, ...],
) -> tuple[tuple[int, ...], ...]:
    """Return all sizes but the first of what is split, of x, and of the result, or refuse.

    Where these are known the first, the batch, is the same in all: the elements are as many.
    """
    if new.attribute(turn, "perm") != perm:
        new.refuse("it moves no blocks")
    if facts.dtype(x) not in _KERNELS:
        new.refuse("onnxruntime has kernels for float and double only")
    found = []
    for value in (split.outputs[0], x, join.outputs[0]):
        sizes = behind_batch(value)
        if sizes is None:
            new.refuse(f"the shape of '{value.name}' is not known behind its first axis")
        found.append(sizes)
    if len({math.prod(sizes) for sizes in found}) > 1 or list(map(len, found)) != [5, 3, 3]:
        new.refuse("the batch is split as well")
    return tuple(found)


def behind_batch(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the sizes of all axes but the first, or None where one is not known or zero.

    Where a Reshape keeps their product, it keeps the first axis too.
    """
    shape = facts.shape(value) or ()
    sizes = tuple(dim for dim in shape[1:] if isinstance(dim, int) and dim)
    return sizes if sizes and len(sizes) == len(shape) - 1 else None
