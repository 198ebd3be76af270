"""Operators that hand the scales of channels on: f(x/s) = f(x)/s, channel by channel, for s > 0.

Relu and its like and pooling are positively homogeneous; sums, maxima and choices are so in all
their operands together, a constant among which is divided too; the rest only moves elements.

A clamp min(max(x, low), high) with a finite bound other than 0 is none of these: it is exact only
in channels that provably never reach the bound b, |x| ≤ m ≤ |b|, and there with any s ≥ m/|b|, so
that x/s does not reach it either. All other channels keep a scale of 1. The proof is by weights: a
layer that reads what an earlier clamp has bounded (in EfficientNet-Lite0 6 % of the channels).
"""

from __future__ import annotations

import numpy as np

from onnxopt.channels.labels import FROZEN
from onnxopt.channels.walk import Step, constants, whole
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.placement.looking import clip_bounds
from onnxopt.quantizing.repair.reach import reach
from onnxopt.quantizing.repair.walk import Scaling, editable

_BOUNDED = {"HardSigmoid": (0.0, 1.0), "Sigmoid": (0.0, 1.0), "Tanh": (-1.0, 1.0)}


def _homogeneous(walk: Scaling, node: ir.Node) -> bool:
    for place in range(1, len(node.inputs)):
        walk.labels.freeze(walk.read(node, place))
    walk.hand_on(node)
    return True


def _elementwise(walk: Scaling, node: ir.Node) -> bool:
    """Freeze what a function takes, but remember which axis has channels."""
    read = walk.read(node, 0)
    walk.labels.freeze(read)
    walk.write(node.outputs[0], np.full(read.shape, FROZEN))
    if node.op_type in _BOUNDED:
        walk.bounds[node.outputs[0]] = _BOUNDED[node.op_type]
    return True


def _clip(walk: Scaling, node: ir.Node) -> bool:
    low, high = clip_bounds(node, walk.opset)
    low, high = -np.inf if low is None else low, np.inf if high is None else high
    if not low <= 0 <= high:
        return False
    read = walk.read(node, 0)
    for bound, most in zip((low, high), reach(walk, node, low, high), strict=True):
        if bound == 0 or np.isinf(bound):
            continue
        # The part of the way to the bound that x goes at most, by channel.
        part = np.broadcast_to(most / bound, read.shape)
        walk.labels.freeze(read[part > 1])
        near = (part <= 1) & (part > 0)
        walk.labels.bound(read[near], part[near])
    if not np.isinf([low, high]).any():
        walk.bounds[node.outputs[0]] = low, high
    walk.hand_on(node)
    return True


def _joint(walk: Scaling, node: ir.Node) -> bool:
    """Label a sum, a maximum, a choice: all operands have the scales of the result."""
    first = 1 if node.op_type == "Where" else 0
    places = range(first, len(node.inputs))
    held = [place for place in constants(node) if place >= first]
    if len(held) == len(places):
        return False
    parts = [walk.read(node, place) for place in places if place not in held]
    alike = np.broadcast_arrays(*parts)
    for part in alike[1:]:
        walk.labels.tie(alike[0], part)
    for place in held:
        if editable(node.inputs[place]):
            walk.change(node, place, alike[0], divide=True)
        else:
            walk.labels.freeze(alike[0])
    walk.write(node.outputs[0], alike[0])
    return True


def _div(walk: Scaling, node: ir.Node) -> bool:
    return not facts.is_constant(node.inputs[0]) and _homogeneous(walk, node)


def _pool(walk: Scaling, node: ir.Node) -> bool:
    rank = facts.rank(node.inputs[0])
    return rank is not None and _only(walk, node, [-axis for axis in range(1, rank - 1)])


def _only(walk: Scaling, node: ir.Node, axes: list[int]) -> bool:
    """Hand on labels that do not differ along some axes, counted from the end."""
    read = walk.read(node, 0)
    return not any(walk.varies(read, axis) for axis in axes) and _homogeneous(walk, node)


def _reduce(walk: Scaling, node: ir.Node) -> bool:
    rank, axes = facts.rank(node.inputs[0]), facts.axes(node, walk.opset)
    if rank is None or axes is None:
        return False
    if not axes and facts.attribute(node, "noop_with_empty_axes", walk.opset):
        return False
    axes = tuple((axis + rank) % rank for axis in axes or range(rank))
    if not _only(walk, node, [axis - rank for axis in axes]):
        return False
    if not facts.attribute(node, "keepdims", walk.opset):
        walk.write(node.outputs[0], np.squeeze(whole(walk.read(node, 0), rank), axes))
    return True


def _resize(walk: Scaling, node: ir.Node) -> bool:
    mode = facts.attribute(node, "coordinate_transformation_mode", walk.opset)
    old, new = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
    if old is None or new is None or mode == "tf_crop_and_resize":
        return False
    pairs = zip(old, new, strict=True)
    changed = [at - len(old) for at, (one, two) in enumerate(pairs) if one is None or one != two]
    return _only(walk, node, changed)


def _pad(walk: Scaling, node: ir.Node) -> bool:
    rank, pads = facts.rank(node.inputs[0]), facts.integers(node.inputs[1])
    if rank is None or pads is None:
        return False
    filled = len(node.inputs) > 2 and node.inputs[2] is not None
    if facts.attribute(node, "mode", walk.opset) == "constant" and filled:
        filler = facts.scalar(node.inputs[2])
        if filler is None or filler != 0:
            return False
    axes = range(rank)
    if len(node.inputs) > 3 and node.inputs[3] is not None:
        given = facts.integers(node.inputs[3])
        if given is None:
            return False
        axes = [axis % rank for axis in given]  # type: ignore[assignment]
    count = len(pads) // 2
    padded = [axis - rank for at, axis in enumerate(axes) if pads[at] or pads[at + count]]
    return _only(walk, node, padded)


STEPS: dict[str, Step[Scaling]] = {
    **dict.fromkeys(
        ("Abs", "Dropout", "Identity", "LeakyRelu", "Neg", "PRelu", "Relu"), _homogeneous
    ),
    **dict.fromkeys(
        ("Elu", "Erf", "Gelu", "HardSigmoid", "HardSwish", "Sigmoid", "Softplus", "Tanh"),
        _elementwise,
    ),
    **dict.fromkeys(("Add", "Max", "Mean", "Min", "Sub", "Sum", "Where"), _joint),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"), _pool),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    "Clip": _clip,
    "Div": _div,
    "Pad": _pad,
    "Resize": _resize,
}
