"""MaxPool and AveragePool and their gradients, in the shapes that onnxruntime gives them.

With `ceil_mode` a last position may reach beyond the pads, but starts within the input or the pads
before it. `auto_pad` does not look at dilations. An average that includes the pads includes no more
than them. Of equal numbers the first one is the largest, as PyTorch has it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.learning.gradients import windows
from onnxopt.pruning.learning.gradients.call import Call, Inputs, Made, given, needed
from onnxopt.sweep.patches import Window, padded, padding, window_of


def max_pool(call: Call, inputs: Inputs) -> Made:
    """Compute MaxPool."""
    x = needed(inputs, 0)
    window, size = _window(call, x.shape)
    reach = _reaching(window, size, x.shape)
    low = -np.inf
    held = padded(x, reach, low)
    made = np.full((*x.shape[:2], *size), low, x.dtype)
    for _, part in windows.places(reach, size):
        np.maximum(made, held[part], out=made)

    def pull(gradients: Inputs) -> Inputs:
        rest, held = given(gradients), padded(x, reach, low)
        below = np.zeros(held.shape, rest.dtype)
        for _, part in windows.places(reach, size):
            own = rest * (held[part] == made)
            below[part] += own
            rest = rest - own
        return (below[windows.inside(reach, x.shape)],)

    return (made,), pull


def average_pool(call: Call, inputs: Inputs) -> Made:
    """Compute AveragePool."""
    x = needed(inputs, 0)
    shape = x.shape
    window, size = _window(call, shape)
    reach = _reaching(window, size, shape)
    held = padded(x, reach)
    whole = held.shape
    share = _share(window, size, shape, pads=bool(call.get("count_include_pad"))).astype(x.dtype)
    made = np.zeros((*shape[:2], *size), x.dtype)
    for _, part in windows.places(reach, size):
        made += held[part]

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients) * share
        below = np.zeros(whole, gradient.dtype)
        for _, part in windows.places(reach, size):
            below[part] += gradient
        return (below[windows.inside(reach, shape)],)

    made *= share
    return (made,), pull


def _window(call: Call, shape: Sequence[int]) -> tuple[Window, tuple[int, ...]]:
    """Return how a pool moves over an input, and at how many positions it stands."""
    window = window_of(call.node, (1, 1, *call.get("kernel_shape")), shape, call.opset)
    auto = str(call.get("auto_pad") or "NOTSET")
    if auto != "NOTSET":
        plain = replace(window, dilations=(1,) * len(window.kernel))
        window = replace(window, pads=padding(auto, shape[2:], plain))
    size = []
    pads = window.around[2:]
    axes = zip(shape[2:], pads, window.spans, window.strides, strict=True)
    for length, (before, behind), span, stride in axes:
        free = length + before + behind - span
        more = -(-free // stride) if call.get("ceil_mode") else free // stride
        size.append(more if more * stride >= length + before and more * stride > free else more + 1)
    return window, tuple(size)


def _reaching(window: Window, size: tuple[int, ...], shape: Sequence[int]) -> Window:
    """Return the window with pads behind that its last positions need."""
    rank = len(size)
    behind = []
    axes = zip(shape[2:], window.around[2:], window.spans, strict=True)
    for (length, (before, own), span), count, stride in zip(
        axes, size, window.strides, strict=True
    ):
        behind.append(max(own, (count - 1) * stride + span - length - before))
    return replace(window, pads=(*window.pads[:rank], *behind))


def _share(window: Window, size: tuple[int, ...], shape: Sequence[int], *, pads: bool) -> Array:
    """Return by position [*size] one over how many numbers are averaged there."""
    counts = []
    axes = zip(shape[2:], window.around[2:], window.kernel, strict=True)
    for axis, (length, (before, behind), kernel) in enumerate(axes):
        starts = np.arange(size[axis])[:, None] * window.strides[axis]
        met = starts + np.arange(kernel) * window.dilations[axis]
        first, last = (0, before + length + behind) if pads else (before, before + length)
        counts.append(((met >= first) & (met < last)).sum(axis=1))
    return np.asarray(1 / np.maximum(reduce(np.multiply.outer, counts), 1))
