"""Where the places of a kernel meet the padded input that they move over."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from onnxopt.sweep.patches import Window

Places = tuple[slice, ...]


def sizes(window: Window, shape: Sequence[int]) -> tuple[int, ...]:
    """Return at how many positions a kernel stands within a padded spatial shape."""
    whole = zip(shape, window.spans, window.strides, strict=True)
    return tuple((length - span) // stride + 1 for length, span, stride in whole)


def inside(window: Window, shape: Sequence[int]) -> Places:
    """Return where an input [N, C, *spatial] lies in what is padded."""
    before = window.pads[: len(window.kernel)]
    spatial = zip(before, shape[2:], strict=True)
    return (slice(None), slice(None), *(slice(first, first + size) for first, size in spatial))


def places(window: Window, size: Sequence[int]) -> Iterator[tuple[tuple[int, ...], Places]]:
    """Yield the places of a kernel, and what of the padded input each meets at all positions."""
    for place in itertools.product(*map(range, window.kernel)):
        where = zip(place, window.dilations, window.strides, size, strict=True)
        met = (slice(k * d, k * d + s * (count - 1) + 1, s) for k, d, s, count in where)
        yield place, (slice(None), slice(None), *met)
