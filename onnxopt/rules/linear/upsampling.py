"""Upsampling in front of a convolution: the convolution does less before it, or takes it in.

Each position of an interpolated image is a weighted mean of positions of the image, with the same
weights in every channel (nearest: a copy of one). A convolution of 1 × 1 maps each position by
itself, and linearly: W·Σ aᵢ·xᵢ + b = Σ aᵢ·(W·xᵢ + b), for Σ aᵢ = 1. So it may go first, where there
are fewer positions; past copies, any function of single elements may.

With copies s times, row u of the enlarged image is row ⌊u/s⌋. A convolution with tap t and b zeros
padded in front reads row u = o - b + t for its row o. So row i = (u - a)/s goes to
o = s·i + a - t + b, for each a from 0 to s - 1: that is ConvTranspose with stride s, whose tap
a - t + k - 1 is the sum of the taps t with these a, and which cuts k - 1 - b in front and behind.
It has (s + k - 1)² taps for each position of the small image, where s²·k² were multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import AnyOf, Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.elementwise import UNARY, carrier, remade
from onnxopt.rules.linear.formula import bias_of, faithful, layer_of, rebuilt
from onnxopt.rules.linear.pad import is_unpadded, kernel_of, own_pads
from onnxopt.rules.simple.same_shape import scales_and_sizes

_RESIZED_ELEMENT = 32
"""Products of a convolution that take about as long as writing one interpolated element."""

_FEWEST_CHANNELS = 48
"""From so many input channels on, ConvTranspose took less time than both in all measurements."""

_FEW_ELEMENTS = 1 << 13
"""A result of so many elements takes the time that it takes to start a node."""

x, w, b = var("x"), const("w"), const("b", default=0)
_ORIGINS = {"asymmetric": 0.0, "half_pixel": 0.5, "pytorch_half_pixel": 0.5}
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda row: math.ceil(row - 0.5),
    "round_prefer_ceil": lambda row: math.floor(row + 0.5),
}
UPSAMPLED = op.Resize(x, ..., bind="resize") | op.Upsample(x, ..., bind="resize")


@rule(op.Conv(UPSAMPLED, w, b, bind="conv"), since=7)
def convolve_before_upsampling(
    new: Builder, resize: ir.Node, conv: ir.Node, x: ir.Value, w: Any, b: Any
) -> Any:
    """Conv of 1 × 1 behind Resize or Upsample that enlarges goes in front of it."""
    strides = new.attribute(conv, "strides") or ()
    if math.prod((*w.shape[2:], *strides)) != 1 or not is_unpadded(new, conv):
        return None
    known = layer_of(new, conv)
    growth = math.prod(_factors(new, resize, w.ndim))
    if not _is_mean(new, resize):
        new.refuse("the interpolation is no weighted mean")
    spared = known.inputs // known.groups * known.outputs * (1 - 1 / growth)
    if spared <= _RESIZED_ELEMENT * (known.outputs - known.inputs):
        new.refuse("more channels would have to be interpolated than it spares")
    made = rebuilt(new, known, x, w, bias_of(new, known, b))
    made.shape = None if x.shape is None else ir.Shape([x.shape[0], known.outputs, *x.shape[2:]])
    return _resized(new, resize, made, known.outputs, conv.outputs[0].shape)


def _activated() -> Pattern:
    return AnyOf(tuple(getattr(op, name)(UPSAMPLED, ...) for name in sorted(UNARY - {"Cast"})))


@rule(_activated(), since=7)
def activate_before_upsampling(new: Builder, resize: ir.Node, x: ir.Value) -> Any:
    """Relu and its like behind Resize or Upsample to copies of elements goes in front of it."""
    root, rank = new.root, facts.rank(x)
    if carrier(root) != 0:
        return None
    if rank is None or new.attribute(resize, "mode") != "nearest":
        return None
    _factors(new, resize, rank)
    if not _is_mean(new, resize):
        new.refuse("what lies outside the image is no copy of an element")
    made = remade(new, root, [x, *root.inputs[1:]], x.shape)
    return remade(new, resize, [made, *resize.inputs[1:]], root.outputs[0].shape)


@rule(op.Conv(UPSAMPLED, w, b, bind="conv"), since=7, targets=("cpu",), unsure=("cpu",))
def merge_upsampling_into_convolution(
    new: Builder, resize: ir.Node, conv: ir.Node, x: ir.Value, w: Any, b: Any
) -> Any:
    """Conv behind Resize or Upsample to copies of elements becomes one ConvTranspose."""
    pads = own_pads(new, conv, kernel_of(new, conv))
    steps = (*(new.attribute(conv, "strides") or ()), *(new.attribute(conv, "dilations") or ()))
    if set(steps) - {1} or max(w.shape[2:]) == 1:
        return None
    known = layer_of(new, conv)
    size = math.prod(facts.static_shape(conv.outputs[0]) or (_FEW_ELEMENTS, 2))
    if known.groups > 1 or (known.inputs < _FEWEST_CHANNELS and size > _FEW_ELEMENTS):
        new.refuse("ConvTranspose would take longer")
    scales = _copies(new, resize, w.ndim)
    reach = [taps - 1 for taps in w.shape[2:]] * 2
    cuts = [far - pad for far, pad in zip(reach, pads or reach[:0], strict=pads is not None)]
    if not cuts or min(cuts) < 0:
        new.refuse("Conv pads more than its kernel reaches, or what it pads is not known")
    weight = np.moveaxis(w.astype(np.float64), 0, 1)
    for axis, (scale, taps) in enumerate(zip(scales, w.shape[2:], strict=True), start=2):
        spread = np.zeros((taps, scale + taps - 1))
        for tap in range(taps):
            spread[tap, taps - 1 - tap : taps - 1 - tap + scale] = 1
        weight = np.moveaxis(np.tensordot(weight, spread, ([axis], [0])), -1, axis)
    bias = bias_of(new, known, b)
    inputs = [faithful(new, weight, known.dtype)]
    if bias is not None:
        inputs.append(faithful(new, bias, known.dtype))
    made = new.ConvTranspose(
        x, *inputs, strides=scales, pads=cuts, kernel_shape=list(weight.shape[2:])
    )
    made.shape = conv.outputs[0].shape
    return made


def _factors(new: Builder, resize: ir.Node, rank: int) -> tuple[float, ...]:
    """Return by what each spatial axis is enlarged, or refuse: those only, none made smaller."""
    scales, sizes = scales_and_sizes(new, resize)
    given: list[float | None] = []
    axes = new.attribute(resize, "axes") or tuple(range(rank))
    if scales is not None and scales.size:
        given = [float(scale) for scale in scales]
    elif sizes and new.attribute(resize, "keep_aspect_ratio_policy") in (None, "stretch"):
        found = [dims.extent(resize.inputs[0], axis) for axis in axes]
        given = [
            new_size / size if isinstance(size, int) and size else None
            for new_size, size in zip(sizes, found, strict=True)
        ]
    factors = {axis % rank: factor for axis, factor in zip(axes, given, strict=False)}
    if len(factors) != len(axes) or None in factors.values():
        new.refuse("by what it enlarges is not known")
    known = [factors.get(axis) or 1.0 for axis in range(rank)]
    if known[:2] != [1, 1] or min(known) < 1 or max(known) == 1:
        new.refuse("it does more, or less, than enlarge along spatial axes")
    return tuple(known[2:])


def _is_mean(new: Builder, resize: ir.Node) -> bool:
    """Tell whether each element becomes a weighted mean of elements, weights adding up to 1."""
    if new.attribute(resize, "coordinate_transformation_mode") == "tf_crop_and_resize":
        return False
    return not new.attribute(resize, "exclude_outside") and not new.attribute(resize, "antialias")


def _copies(new: Builder, resize: ir.Node, rank: int) -> list[int]:
    """Return how often each row along each spatial axis is copied, or refuse."""
    factors = _factors(new, resize, rank)
    if new.attribute(resize, "mode") != "nearest" or not _is_mean(new, resize):
        new.refuse("it interpolates")
    if any(factor != int(factor) for factor in factors):
        new.refuse("rows are not copied equally often")
    scales = [int(factor) for factor in factors]
    if resize.op_type == "Resize" and new.opset > 10:
        origin = _ORIGINS.get(new.attribute(resize, "coordinate_transformation_mode"))
        rounded = _ROUNDINGS.get(new.attribute(resize, "nearest_mode"))
        if origin is None or rounded is None:
            new.refuse("how coordinates are transformed is not known")
        for scale in scales:
            if any(rounded((row + origin) / scale - origin) for row in range(scale)):
                new.refuse("a row is no copy of the one above it")
    return scales


def _resized(
    new: Builder, resize: ir.Node, value: ir.Value, channels: int, shape: ir.Shape | None
) -> ir.Value:
    """Make a Resize or Upsample anew, on another value that has so many channels."""
    inputs = [value, *resize.inputs[1:]]
    if len(inputs) > 3 and inputs[3] is not None and not new.attribute(resize, "axes"):
        sizes = facts.integers(inputs[3]) or ()
        inputs[3] = new.constant(np.array([sizes[0], channels, *sizes[2:]], np.int64))
    return remade(new, resize, inputs, shape)
