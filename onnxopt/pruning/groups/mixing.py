"""Operators that mix places along some axes: there only what stands along another axis can go.

A softmax over the width of each head does not care which heads there are, but a unit is then the
whole width of a head. What follows from all units alike keeps them all.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxopt.channels.walk import Step, whole
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.groups.units import Units, Why, because

_AVERAGES = "{} averages over these channels"
_SUMS = "{} sums over these channels"
_COMPARES = "{} compares these channels"
_SLIDES = "{} slides over these channels"


def mix(walk: Units, node: ir.Node, axes: Sequence[int], text: str) -> bool:
    """Hand on the labels of the first input but along axes, counted from the end."""
    read = walk.read(node, 0)
    why = because(node, text.format(node.op_type))
    kept = walk.flat(read, axes, why)
    _note(walk, node, why, mixed=bool(read.any() and not kept.any()))
    walk.write(node.outputs[0], kept)
    return True


def _note(walk: Units, node: ir.Node, why: Why, *, mixed: bool) -> None:
    """Remember why what an operator computes cannot shrink."""
    source, output = node.inputs[0], node.outputs[0]
    if mixed:
        walk.origins[output] = why
    elif source in walk.origins:
        walk.origins[output] = walk.origins[source]


def _spatial(walk: Units, node: ir.Node) -> bool:
    rank = facts.rank(node.inputs[0])
    if rank is None:
        return walk.refuse("the rank of these channels is not known")
    return mix(walk, node, range(2 - rank, 0), _SLIDES)


def _along_axis(walk: Units, node: ir.Node) -> bool:
    """Follow what works along one axis, which is an attribute."""
    rank, axis = facts.rank(node.inputs[0]), facts.attribute(node, "axis", walk.opset)
    if rank is None or axis is None:
        return walk.refuse("the rank of these channels is not known")
    axis = axis % rank - rank
    before = node.op_type in ("Softmax", "LogSoftmax", "Hardmax") and walk.opset < 13
    return mix(walk, node, range(axis, 0) if before else [axis], _SUMS)


def _norm(walk: Units, node: ir.Node) -> bool:
    rank, axis = facts.rank(node.inputs[0]), facts.attribute(node, "axis", walk.opset)
    if rank is None:
        return walk.refuse("the rank of these channels is not known")
    axes = range((-1 if axis is None else axis) % rank - rank, 0)
    if any((facts.rank(value) or 0) > len(axes) for value in node.inputs[1:]):
        return walk.refuse(f"{node.op_type} scales more than it averages over")
    return mix(walk, node, axes, _AVERAGES)


def _over_channels(walk: Units, node: ir.Node) -> bool:
    rank = facts.rank(node.inputs[0])
    if rank is None:
        return walk.refuse("the rank of these channels is not known")
    return mix(walk, node, [1 - rank], _SUMS)


def _mean_variance(walk: Units, node: ir.Node) -> bool:
    rank, axes = facts.rank(node.inputs[0]), facts.attribute(node, "axes", walk.opset)
    if rank is None or axes is None:
        return walk.refuse("the rank of these channels is not known")
    return mix(walk, node, [axis % rank - rank for axis in axes], _AVERAGES)


def _cumulate(walk: Units, node: ir.Node) -> bool:
    rank, axis = facts.rank(node.inputs[0]), facts.integers(node.inputs[1])
    if rank is None or axis is None:
        return walk.refuse("the axis of CumSum is computed")
    return mix(walk, node, [axis[0] % rank - rank], _SUMS)


def _triangle(walk: Units, node: ir.Node) -> bool:
    return mix(walk, node, [-2, -1], "{} tells these channels apart by their places")


def _reduce(walk: Units, node: ir.Node) -> bool:
    rank = facts.rank(node.inputs[0])
    axes: tuple[int, ...] | None
    if node.op_type in ("ArgMax", "ArgMin"):
        axes = (facts.attribute(node, "axis", walk.opset) or 0,)
        text = _COMPARES
    else:
        axes = facts.axes(node, walk.opset)
        text = {"ReduceMean": _AVERAGES}.get(node.op_type, _SUMS)
        text = _COMPARES if node.op_type in ("ReduceMax", "ReduceMin") else text
    if rank is None or axes is None:
        return walk.refuse(f"the axes of {node.op_type} are computed")
    if not axes:
        if facts.attribute(node, "noop_with_empty_axes", walk.opset):
            walk.hand_on(node)
            return True
        axes = tuple(range(rank))
    axes = tuple(axis % rank for axis in axes)
    read = walk.read(node, 0)
    why = because(node, text.format(node.op_type))
    kept = walk.flat(read, [axis - rank for axis in axes], why)
    _note(walk, node, why, mixed=bool(read.any() and not kept.any()))
    if not facts.attribute(node, "keepdims", walk.opset):
        kept = np.squeeze(whole(kept, rank), axes)
    walk.write(node.outputs[0], kept)
    return True


def _resize(walk: Units, node: ir.Node) -> bool:
    old, new = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
    if old is None or new is None:
        return walk.refuse("the rank of these channels is not known")
    mode = facts.attribute(node, "coordinate_transformation_mode", walk.opset)
    if mode == "tf_crop_and_resize":
        return walk.refuse("Resize crops these channels")
    pairs = enumerate(zip(old, new, strict=True))
    changed = [at - len(old) for at, (one, two) in pairs if one is None or one != two]
    return mix(walk, node, changed, "{} changes how many of these channels there are")


_POOLS = (
    "AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool",
)  # fmt: skip
_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
_REDUCTIONS = (
    "ArgMax", "ArgMin", "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax",
    "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

STEPS: dict[str, Step[Units]] = {
    **dict.fromkeys(_POOLS, _spatial),
    **dict.fromkeys(_NORMS, _norm),
    **dict.fromkeys(_REDUCTIONS, _reduce),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), _along_axis),
    "CumSum": _cumulate,
    "LRN": _over_channels,
    "MeanVarianceNormalization": _mean_variance,
    "Resize": _resize,
    "Trilu": _triangle,
    "Upsample": _resize,
}
