"""Operators that only move elements, or repeat and fill them: labels move along.

Most of it is `channels.moving`; here is what only units do: constants among the moved, and a
Reshape that joins or splits channels with axes of unknown size.
"""

from __future__ import annotations

import math

import numpy as np

from onnxopt.channels import moving
from onnxopt.channels.walk import Step, whole
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.groups.reshaping import regrouped
from onnxopt.pruning.groups.units import Units, because, varying

_COUNTED = "the number of these channels is computed with"
_PIXELS = "these channels lie among pixels"
_UNCLEAR = "{} moves these channels to where cannot be told"


def _moved(walk: Units, node: ir.Node) -> bool:
    """Follow what moves its first input."""
    if not walk.read(node, 0).any():
        for output in node.outputs:
            walk.tensors[output] = np.full((), 0)
            if node.inputs[0] in walk.origins:
                walk.origins[output] = walk.origins[node.inputs[0]]
        return True
    return moving.STEPS[node.op_type](walk, node) or walk.refuse(_UNCLEAR.format(node.op_type))


def _reshape(walk: Units, node: ir.Node) -> bool:
    old, new = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
    read = walk.read(node, 0)
    if old is None or new is None or not read.any():
        return _moved(walk, node)
    made = regrouped(read, old, new)
    if made is None:
        return walk.refuse("Reshape mixes these channels with axes of unknown size")
    if made.joined is not None:
        first = made.joined[:, :1]
        walk.tie(made.joined, first, because(node, "Reshape joins these channels"))
    walk.write(node.outputs[0], made.labels)
    return True


def _concat(walk: Units, node: ir.Node) -> bool:
    """Follow a Concat; where its parts stand side by side along another axis, they go together."""
    rank, axis = facts.rank(node.outputs[0]), facts.attribute(node, "axis", walk.opset)
    if rank is None or axis is None:
        return walk.refuse(_UNCLEAR.format("Concat"))
    axis = axis % rank - rank
    places = range(len(node.inputs))
    parts = [walk.read(node, place) for place in places]
    if any(walk.varies(part, axis) for part in parts):
        return moving.STEPS["Concat"](walk, node) or walk.refuse(_UNCLEAR.format("Concat"))
    bearer = max(parts, key=lambda part: len(varying(part)))
    if not varying(bearer):
        walk.tensors[node.outputs[0]] = np.full((), 0)
        return True
    for place, part in zip(places, parts, strict=True):
        value = node.inputs[place]
        if facts.is_constant(value):
            walk.cut(node, place, bearer, "follows")
        elif part is not bearer:
            walk.tie(bearer, part, walk.keeps(value, node))
    walk.write(node.outputs[0], bearer)
    return True


def _gather(walk: Units, node: ir.Node) -> bool:
    """Follow a Gather; the columns of a constant table are made by it."""
    table = facts.static_shape(node.inputs[0])
    if not facts.is_constant(node.inputs[0]):
        return _moved(walk, node)
    axis = facts.attribute(node, "axis", walk.opset)
    if table is None or facts.rank(node.inputs[1]) is None or axis != 0 or len(table) < 2:
        walk.tensors[node.outputs[0]] = np.full((), 0)
        return True
    written = walk.fresh(table[-1])
    walk.cut(node, 0, written, "writes")
    walk.write(node.outputs[0], written)
    return True


def _expand(walk: Units, node: ir.Node) -> bool:
    if facts.rank(node.outputs[0]) is None:
        return walk.refuse("the rank of these channels is not known")
    walk.hand_on(node)
    return True


def _tile(walk: Units, node: ir.Node) -> bool:
    read, repeats = walk.read(node, 0), facts.integers(node.inputs[1])
    if read.any():
        if repeats is None:
            return walk.refuse("how often Tile repeats these channels is computed")
        read = whole(read, len(repeats))
        times = [count if size > 1 else 1 for count, size in zip(repeats, read.shape, strict=True)]
        read = np.tile(read, times)
    walk.write(node.outputs[0], read)
    return True


def _pad(walk: Units, node: ir.Node) -> bool:
    """Follow a Pad; constant places that it adds stay."""
    rank, read = facts.rank(node.inputs[0]), walk.read(node, 0)
    if not read.any() or rank is None:
        return _nothing(walk, node)
    pads = facts.attribute(node, "pads", walk.opset) if walk.opset < 11 else None
    pads = pads or (facts.integers(node.inputs[1]) if len(node.inputs) > 1 else None)
    axes: tuple[int, ...] | None = tuple(range(rank))
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        axes = facts.integers(node.inputs[3])
    if pads is None or axes is None:
        return walk.refuse("how much Pad adds to these channels is computed")
    full, count = whole(read, rank), len(pads) // 2
    widths = [(0, 0)] * rank
    for at, axis in enumerate(axes):
        if full.shape[axis % rank] > 1:
            widths[axis % rank] = pads[at], pads[at + count]
    padded = [side for pair in widths for side in pair]
    if any(padded) and facts.attribute(node, "mode", walk.opset) not in (None, "constant"):
        return walk.refuse("Pad repeats some of these channels")
    if min(padded) < 0:
        return walk.refuse("Pad cuts some of these channels off")
    walk.write(node.outputs[0], np.pad(full, widths))
    return True


def _nothing(walk: Units, node: ir.Node) -> bool:
    """Let stay what is computed, and what it is computed from."""
    walk.looked.clear()
    for output in node.outputs:
        walk.tensors[output] = np.full((), 0)
    return True


def _depth_to_space(walk: Units, node: ir.Node) -> bool:
    shape, block = facts.shape(node.inputs[0]), facts.attribute(node, "blocksize", walk.opset)
    if not walk.read(node, 0).any():
        return _nothing(walk, node)
    if shape is None or not isinstance(shape[1], int) or not block or shape[1] % block**2:
        return walk.refuse("the number of these channels is not known")
    read = walk.flat(walk.read(node, 0), (-2, -1), because(node, _PIXELS)).reshape(-1)
    columns = facts.attribute(node, "mode", walk.opset) == "CRD"
    if read.size != shape[1]:
        return walk.refuse(_PIXELS)
    blocks = read.reshape(-1, block**2) if columns else read.reshape(block**2, -1).T
    walk.tie(blocks, blocks[:, :1], because(node, "DepthToSpace makes pixels of these channels"))
    walk.write(node.outputs[0], blocks[:, 0].reshape(-1, 1, 1))
    return True


def _space_to_depth(walk: Units, node: ir.Node) -> bool:
    if not walk.read(node, 0).any():
        return _nothing(walk, node)
    block = facts.attribute(node, "blocksize", walk.opset) or 1
    read = walk.flat(walk.read(node, 0), (-2, -1), because(node, _PIXELS))
    if not walk.varies(read, -3) or math.prod(read.shape) != read.shape[-3]:
        return walk.refuse(_PIXELS)
    walk.write(node.outputs[0], np.tile(read.reshape(-1), block**2).reshape(-1, 1, 1))
    return True


def _shape(walk: Units, node: ir.Node) -> bool:
    """Follow a Shape of which only sizes are read that stay."""
    rank, read = facts.rank(node.inputs[0]), walk.read(node, 0)
    walk.tensors[node.outputs[0]] = np.full((), 0)
    asked = None if rank is None else _sizes_read(node, rank)
    if asked is None:
        return walk.refuse(_COUNTED)
    shrinking = [axis for axis in varying(read) if axis + (rank or 0) in asked]
    walk.flat(read, shrinking, because(node, _COUNTED))
    return True


def _sizes_read(node: ir.Node, rank: int) -> set[int] | None:
    """Return the axes whose sizes anybody reads of a Shape, or None where that cannot be told."""
    output = node.outputs[0]
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", rank)
    axes = range(rank)[start:end]
    if output.is_graph_output():
        return None
    found: set[int] = set()
    for use in facts.uses(output):
        reader = use.node
        if reader.domain or reader.op_type not in ("Gather", "Slice") or use.idx:
            return set(axes)
        if reader.op_type == "Gather":
            chosen = facts.integers(reader.inputs[1])
        else:
            bounds = [facts.integers(value) for value in reader.inputs[1:3]]
            known = len(reader.inputs) <= 4 and all(bounds)
            chosen = tuple(range(len(axes)))[slice(*(b[0] for b in bounds if b))] if known else None
        if chosen is None:
            return set(axes)
        found |= {axes[place] for place in chosen}
    return found


STEPS: dict[str, Step[Units]] = {
    **dict.fromkeys(moving.STEPS, _moved),
    "Concat": _concat,
    "DepthToSpace": _depth_to_space,
    "Expand": _expand,
    "Flatten": _reshape,
    "Gather": _gather,
    "Pad": _pad,
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _nothing,
    "SpaceToDepth": _space_to_depth,
    "Tile": _tile,
}
