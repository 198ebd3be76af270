"""Convolutions and their gradients, as products of matrices over the places of their kernels.

A convolution is a linear map of its input; what turns it round spreads each number over the places
that have read it. That is the pullback of Conv, and the whole of ConvTranspose, whose pullback is
the convolution.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.learning.gradients import windows
from onnxopt.pruning.learning.gradients.call import Call, Inputs, Made, given, needed, optional
from onnxopt.sweep.patches import Window, padded, window_of


class Convolution:
    """A convolution of x [N, C, *spatial] with weight [M, C / groups, *kernel] to `size` places."""

    def __init__(
        self,
        weight: Array,
        window: Window,
        shape: Sequence[int],
        size: tuple[int, ...] | None = None,
    ) -> None:
        self.weight, self.window, self.shape = weight, window, tuple(shape)
        reach = [sum(pads) for pads in window.around]
        self.whole = tuple(length + more for length, more in zip(shape, reach, strict=True))
        self.size = windows.sizes(window, self.whole[2:]) if size is None else size
        self.lone = len(weight) == window.groups == shape[1]
        if not self.lone:
            split = (window.groups, len(weight) // window.groups, weight.shape[1], -1)
            # Columns by place in the kernel, then by channel.
            turned = weight.reshape(split).transpose(0, 1, 3, 2)
            self.rows = np.ascontiguousarray(turned).reshape(*split[:2], -1)

    def seen(self, x: Array) -> Array:
        """Return what the weight is multiplied by.

        That is x with its pads where each channel has a kernel of its own, otherwise
        [N, groups, places x channels, positions].
        """
        x = padded(x, self.window)
        if self.lone:
            return x
        shape = (len(x), self.window.groups, -1, math.prod(self.size))
        parts = [x[part].reshape(shape) for _, part in windows.places(self.window, self.size)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)

    def made(self, seen: Array) -> Array:
        """Return [N, M, *size]."""
        shape = (len(seen), len(self.weight), *self.size)
        if not self.lone:
            return np.asarray(np.matmul(self.rows, seen)).reshape(shape)
        made = np.zeros(shape, seen.dtype)
        for place, part in windows.places(self.window, self.size):
            made += seen[part] * self._scale(place)
        return made

    def spread(self, gradient: Array) -> Array:
        """Return the gradient with respect to x, of that of what was made."""
        below = np.zeros(self.whole, gradient.dtype)
        if self.lone:
            for place, part in windows.places(self.window, self.size):
                below[part] += gradient * self._scale(place)
            return below[windows.inside(self.window, self.shape)]
        shape = (len(gradient), self.window.groups, -1, self.weight.shape[1], *self.size)
        spread = np.matmul(self.rows.swapaxes(1, 2), self._split(gradient)).reshape(shape)
        for number, (_, part) in enumerate(windows.places(self.window, self.size)):
            below[part] += spread[:, :, number].reshape(below[part].shape)
        return below[windows.inside(self.window, self.shape)]

    def weighed(self, seen: Array, gradient: Array) -> Array:
        """Return the gradient with respect to the weight, of that of what was made."""
        if self.lone:
            weight = np.zeros_like(self.weight)
            axes = (0, *range(2, gradient.ndim))
            for place, part in windows.places(self.window, self.size):
                total = (seen[part] * gradient).sum(axis=axes)
                np.moveaxis(weight[:, 0], 0, -1)[place] = total
            return weight
        each: Array = np.matmul(self._split(gradient), seen.swapaxes(2, 3))
        rows: Array = each[0] if len(each) == 1 else each.sum(axis=0)
        kept = rows.reshape(*rows.shape[:2], -1, self.weight.shape[1])
        return kept.transpose(0, 1, 3, 2).reshape(self.weight.shape)

    def _split(self, gradient: Array) -> Array:
        groups = self.window.groups
        return gradient.reshape(len(gradient), groups, len(self.weight) // groups, -1)

    def _scale(self, place: tuple[int, ...]) -> Array:
        scale: Array = np.moveaxis(self.weight[:, 0], 0, -1)[place]
        return scale.reshape(1, -1, *(1,) * len(self.size))


def conv(call: Call, inputs: Inputs) -> Made:
    """Compute Conv."""
    x, weight, bias = needed(inputs, 0), needed(inputs, 1), optional(inputs, 2)
    work = Convolution(weight, window_of(call.node, weight.shape, x.shape, call.opset), x.shape)
    seen = work.seen(x)

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        own = None if bias is None else _over_places(gradient)
        return [work.spread(gradient), work.weighed(seen, gradient), own][: len(inputs)]

    return (_shifted(work.made(seen), bias),), pull


def conv_transpose(call: Call, inputs: Inputs) -> Made:
    """Compute ConvTranspose: its weight is that of the convolution which it turns round."""
    x, weight, bias = needed(inputs, 0), needed(inputs, 1), optional(inputs, 2)
    window, made = _transposed(call, weight, x)
    shape = (len(x), weight.shape[1] * window.groups, *made)
    work = Convolution(weight, window, shape, x.shape[2:])

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        seen = work.seen(gradient)
        own = None if bias is None else _over_places(gradient)
        return [work.made(seen), work.weighed(seen, x), own][: len(inputs)]

    return (_shifted(work.spread(x), bias),), pull


def _transposed(call: Call, weight: Array, x: Array) -> tuple[Window, tuple[int, ...]]:
    """Return the window of a ConvTranspose with its pads, and the spatial shape of its output.

    As onnxruntime has it: what is too much is cut off at both ends, what is odd of it in front,
    but behind with SAME_UPPER; SAME wants the input's size times the stride, if there is as much.
    """
    window = window_of(call.node, weight.shape, x.shape, call.opset)
    auto, rank = str(call.get("auto_pad") or "NOTSET"), x.ndim - 2
    more = call.get("output_padding") or (0,) * rank
    spatial = zip(x.shape[2:], window.strides, window.spans, more, strict=True)
    full = [(count - 1) * stride + span + add for count, stride, span, add in spatial]
    asked, same = call.get("output_shape"), auto in ("SAME_UPPER", "SAME_LOWER")
    if not asked and not same:
        pads = window.pads if auto == "NOTSET" else (0,) * (2 * rank)
        cut = [before + behind for before, behind in replace(window, pads=pads).around[2:]]
        made = tuple(whole - less for whole, less in zip(full, cut, strict=True))
        return replace(window, pads=pads), made
    wanted = asked[-rank:] if asked else np.multiply(x.shape[2:], window.strides).tolist()
    over = [max(whole - want, 0) for whole, want in zip(full, wanted, strict=True)]
    before = [less // 2 if auto == "SAME_UPPER" else less - less // 2 for less in over]
    behind = [less - first for less, first in zip(over, before, strict=True)]
    made = tuple(wanted) if asked else tuple(map(min, wanted, full))
    return replace(window, pads=(*before, *behind)), made


def _shifted(made: Array, bias: Array | None) -> Array:
    """Add the bias to an array of our own."""
    if bias is not None:
        made += bias.reshape(1, -1, *(1,) * (made.ndim - 2))
    return made


def _over_places(gradient: Array) -> Array:
    return np.asarray(gradient.sum(axis=(0, *range(2, gradient.ndim))))
