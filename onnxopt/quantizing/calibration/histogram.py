"""A histogram that doubles its range: exact counts in constant memory, whatever comes.

The bins are equal parts of [-T, T), T a power of two that lies above every magnitude seen. A
number that does not fit doubles T and merges neighbouring bins in pairs. Since a bin's borders are
multiples of a power of two, a number lands in the same bin whether it came before or after the
doubling: the counts depend on neither order nor division of the data, and any two histograms
can be added. Zero is a border, and exact zeros are left to the observer: the spike behind a Relu
would hide everything else.
"""

from __future__ import annotations

import math
import threading

import numpy as np

from onnxopt.arrays import Array

BINS = 8192
"""On both sides together; between a quarter of them and all lie inside the data's range."""

BLOCK = 1 << 16
"""Numbers counted together: they, their places and the bins fit into a second-level cache."""

_FINEST = -60
"""Exponent of the least T: such a tensor is as good as constant, and 1/T has to be a float32."""


class Histogram:
    """Counts of the non-zero numbers of one tensor.

    `counts` are int64 [bins] over [-limit, limit); `limit` is 0 until a number has come.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.counts: Array = np.zeros(bins, np.int64)
        self.limit = 0.0

    @property
    def width(self) -> float:
        """The width of a bin."""
        return 2 * self.limit / len(self.counts)

    def edges(self) -> Array:
        """Return the borders of the bins, float64 [bins + 1]."""
        half = len(self.counts) // 2
        return np.arange(-half, half + 1) * self.width

    def inside(self) -> tuple[int, Array]:
        """Return the counts from the first to the last that is not zero.

        The number before them is the left border of the first, in bins from zero.
        """
        filled = np.flatnonzero(self.counts)
        if not filled.size:
            return 0, self.counts[:0]
        first, last = int(filled[0]), int(filled[-1])
        return first - len(self.counts) // 2, self.counts[first : last + 1]

    def add(self, numbers: Array, largest: float, zeros: int) -> None:
        """Count at most `BLOCK` finite float32 numbers.

        `largest` is their greatest magnitude; `zeros` of them are zero and left out.
        """
        if largest == 0:
            return
        self.grow(limit_above(largest))
        half = len(self.counts) // 2
        factor = half / self.limit
        # A power of two: the product is exact, and so is the bin, if only nothing underflows.
        kind = np.dtype(np.float32 if factor >= 1 else np.float64)
        places = _ROOM.wide.view(kind)[: numbers.size]
        np.multiply(numbers, factor, out=places, dtype=kind)
        np.floor(places, out=places)
        places += half
        # By way of int32 there are vector instructions, straight to int64 there often are none.
        narrow, indexes = _ROOM.narrow[: numbers.size], _ROOM.indexes[: numbers.size]
        np.copyto(narrow, places, casting="unsafe")
        np.copyto(indexes, narrow)
        self.counts += np.bincount(indexes, minlength=len(self.counts))
        self.counts[half] -= zeros

    def grow(self, limit: float) -> None:
        """Widen the range to a power of two; a lesser one changes nothing."""
        if self.limit and limit > self.limit:
            half = len(self.counts) // 2
            parts = int(min(limit / self.limit, half))
            inner = half // parts
            folded = np.zeros_like(self.counts)
            folded[half - inner : half] = self.counts[:half].reshape(inner, parts).sum(1)
            folded[half : half + inner] = self.counts[half:].reshape(inner, parts).sum(1)
            self.counts = folded
        self.limit = max(self.limit, limit)

    def merge(self, other: Histogram) -> None:
        """Add what another histogram with as many bins has counted; it stays as it is."""
        if len(other.counts) != len(self.counts):
            raise ValueError(f"{len(other.counts)} bins cannot be added to {len(self.counts)}")
        if not other.limit:
            return
        fitting = Histogram(len(self.counts))
        fitting.counts, fitting.limit = other.counts, other.limit
        self.grow(other.limit)
        fitting.grow(self.limit)
        self.counts = self.counts + fitting.counts


def limit_above(magnitude: float) -> float:
    """Return the least power of two greater than a magnitude."""
    _, exponent = math.frexp(magnitude)
    return math.ldexp(1.0, max(exponent, _FINEST))


class _Room(threading.local):
    """Memory to work in, each thread its own: to ask for it anew costs more than the counting."""

    def __init__(self) -> None:
        self.wide = np.empty(BLOCK, np.float64)
        self.narrow = np.empty(BLOCK, np.int32)
        self.indexes = np.empty(BLOCK, np.intp)


_ROOM = _Room()
