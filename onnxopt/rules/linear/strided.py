"""Convolutions of blocks: where the elements of blocks are channels, the window strides instead.

Where the channels are the elements of blocks of s × s (SpaceToDepth, YOLOv5's Focus, torch's pixel
unshuffle), tap t of the channel that holds place i of the blocks sees element s·(q + t) + i of x,
with q where the window stands: that is tap s·t + i of a kernel s times as large, which moves and
pads s times as far. The number of products is the same.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.blocks import behind_batch
from onnxopt.rules.layout.slices import Cut, compose, read_slice
from onnxopt.rules.linear.formula import SHARED_ELEMENTS
from onnxopt.rules.linear.pad import kernel_of, own_pads
from onnxopt.rules.linear.shuffled import CONV_OF_REARRANGED

x, w, bias = var("x"), const("w"), var("bias", optional=True)
_UNSHUFFLED = (0, 1, 3, 5, 2, 4)

Phase = tuple[int, int]
"""Row and column of an element in its block."""


@rule(op.Conv(op.Concat(bind="concat"), w, bias, bind="conv", group=1), since=4)
def fold_focus_into_conv(new: Builder, concat: ir.Node, conv: ir.Node, w: Any) -> Any:
    """Conv of every s-th row and column, joined as channels, becomes a Conv that strides by s."""
    if concat.inputs[0] is None or facts.made_by(concat.inputs[0], "Slice", concat) is None:
        return None
    cuts = [_cut_from(new, value) for value in concat.inputs]
    source = cuts[0][0]
    if source is None or facts.rank(source) != 4:
        return None
    if any(value is not source for value, _ in cuts):
        return None
    if new.attribute(concat, "axis") not in (1, -3):
        return None
    size = round(len(cuts) ** 0.5)
    channels = dims.extent(source, 1)
    phases = [_phase(cut, size, source) for _, cut in cuts]
    if not isinstance(channels, int) or set(phases) != set(_all_phases(size)) or size < 2:
        return None
    places = [(c, phase) for phase in phases if phase is not None for c in range(channels)]
    return _strided(new, conv, source, w, places, size)


@rule(op.Conv(op.SpaceToDepth(x, bind="blocks"), w, bias, bind="conv", group=1))
def fold_space_to_depth_into_conv(
    new: Builder, blocks: ir.Node, conv: ir.Node, x: ir.Value, w: Any
) -> Any:
    """Conv(SpaceToDepth(x)) becomes a Conv that strides by the size of the blocks."""
    size, channels = new.attribute(blocks, "blocksize"), dims.extent(x, 1)
    if not isinstance(channels, int) or not size:
        return None
    places = [(c, phase) for phase in _all_phases(size) for c in range(channels)]
    return _strided(new, conv, x, w, places, size)


@rule(CONV_OF_REARRANGED, since=5)
def fold_pixel_unshuffle_into_conv(
    new: Builder,
    split: ir.Node,
    turn: ir.Node,
    join: ir.Node,
    conv: ir.Node,
    x: ir.Value,
    w: Any,
) -> Any:
    """Conv of a pixel unshuffle becomes a Conv that strides by the size of the blocks."""
    shapes = [behind_batch(value) for value in (x, split.outputs[0], join.outputs[0])]
    source, parts, result = shapes
    if source is None or parts is None or result is None or len(parts) != 5:
        return None
    channels, height, size, width, other = parts
    if new.attribute(turn, "perm") != _UNSHUFFLED or size != other or size < 2:
        return None
    if source != (channels, height * size, width * size):
        return None
    if result != (channels * size * size, height, width):
        return None
    places = [(c, phase) for c in range(channels) for phase in _all_phases(size)]
    return _strided(new, conv, x, w, places, size)


def _strided(
    new: Builder,
    conv: ir.Node,
    x: ir.Value,
    w: Any,
    places: list[tuple[int, Phase]],
    size: int,
) -> Any:
    """Make the Conv of x; `places` says for each channel of the old one which it was, and where."""
    if (
        w.ndim != 4
        or w.shape[1] != len(places)
        or set(new.attribute(conv, "dilations") or ()) - {1}
    ):
        return None
    pads = own_pads(new, conv, kernel_of(new, conv))
    if pads is None:
        new.refuse("what Conv pads by itself is not known")
    held = conv.inputs[1]
    if not facts.is_private(held) and w.size > SHARED_ELEMENTS:
        new.refuse("the weight is read by other nodes too")
    outputs, _, rows, columns = w.shape
    weight = np.empty((outputs, len(places) // size**2, rows * size, columns * size), w.dtype)
    for index, (channel, (row, column)) in enumerate(places):
        weight[:, channel, row::size, column::size] = w[:, index]
    steps = new.attribute(conv, "strides") or (1, 1)
    kept = [value for value in conv.inputs[2:] if value is not None]
    made = new.Conv(
        x,
        new.constant(weight, facts.dtype(held)),
        *kept,
        kernel_shape=weight.shape[2:],
        strides=[step * size for step in steps],
        pads=[pad * size for pad in pads],
    )
    made.shape = conv.outputs[0].shape
    return made


def _all_phases(size: int) -> list[Phase]:
    return list(itertools.product(range(size), range(size)))


def _cut_from(new: Builder, value: ir.Value | None) -> tuple[ir.Value | None, Cut | None]:
    """Return what a Slice, or a Slice of a Slice, takes, and of what."""
    whole: Cut = {}
    for _ in range(2):
        node = None if value is None else value.producer()
        if node is None or node.op_type != "Slice" or node.domain:
            break
        cut = read_slice(node, new.opset)
        if cut is None:
            return value, None
        for axis, part in cut.items():
            later = whole.get(axis)
            taken = (
                part if later is None else compose(part, later, dims.extent(node.inputs[0], axis))
            )
            if taken is None:
                return value, None
            whole[axis] = taken
        value = node.inputs[0]
    return value, whole or None


def _phase(cut: Cut | None, size: int, source: ir.Value | None) -> Phase | None:
    """Return where in the blocks a slice begins that takes every `size`-th row and column."""
    if cut is None or set(cut) != {2, 3}:
        return None
    starts = []
    for axis, part in cut.items():
        extent = dims.extent(source, axis)
        end = extent if isinstance(extent, int) else dims.TO_THE_END
        if not 0 <= part.start < size or part.step != size:
            return None
        last = end - size + part.start
        if part.stop <= last or (isinstance(extent, int) and extent % size):
            return None
        starts.append((axis, part.start))
    first, second = (start for _, start in sorted(starts))
    return first, second
