"""Where the places of a kernel meet the padded input that they move over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from onnxopt.arrays import Array
from onnxopt.sweep.patches import Window

Places = tuple[slice, ...]


def spans(window: Window) -> list[int]:
    """Return how many numbers a kernel reaches over, by spatial axis."""
    return [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]


def sizes(window: Window, shape: Sequence[int]) -> tuple[int, ...]:
    """Return at how many positions a kernel stands within a padded spatial shape."""
    whole = zip(shape, spans(window), window.strides, strict=True)
    return tuple((length - span) // stride + 1 for length, span, stride in whole)


def around(window: Window) -> list[tuple[int, int]]:
    """Return the pads before and behind each axis of [N, C, *spatial]."""
    rank = len(window.kernel)
    pads = zip(window.pads[:rank], window.pads[rank:], strict=True)
    return [(0, 0), (0, 0), *pads]


def inside(window: Window, shape: Sequence[int]) -> Places:
    """Return where an input [N, C, *spatial] lies in what is padded."""
    before = window.pads[: len(window.kernel)]
    spatial = zip(before, shape[2:], strict=True)
    return (slice(None), slice(None), *(slice(first, first + size) for first, size in spatial))


def padded(x: Array, window: Window, value: float = 0) -> Array:
    """Return x [N, C, *spatial] with its pads."""
    if not any(window.pads):
        return x
    return np.pad(x, around(window), constant_values=value)


def places(window: Window, size: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Places]]:
    """Yield the places of a kernel, and what of the padded input each meets at all positions."""
    for place in itertools.product(*map(range, window.kernel)):
        where = zip(place, window.dilations, window.strides, size, strict=True)
        met = (slice(k * d, k * d + s * (count - 1) + 1, s) for k, d, s, count in where)
        yield place, (slice(None), slice(None), *met)
