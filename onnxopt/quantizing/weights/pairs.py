"""Integers of which kernels that add two products in 16 bits make no wrong sum.

x86 without VNNI multiplies uint8 by int8 and adds neighbours at once (VPMADDUBSW):

    s_j = a_2j q_2j + a_2j+1 q_2j+1,   0 ≤ a_k ≤ A_k,   -32768 ≤ s_j ≤ 32767, cut off beyond.

A lone product fits (255 · 127 = 32385), and so do two of different signs: only pairs of one sign
overflow, exactly where |A_2j q_2j + A_2j+1 q_2j+1| does. a is the integer that the kernel reads,
from 0 to 255: its zero point is taken off afterwards, and padding is filled with the zero point.
The sums over j are in 32 bits; a last column without a neighbour is alone.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.weights.limits import Limits, Plain
from onnxopt.report import PairSums
from onnxopt.runtime.machine.multiply import Kernels

_LEAST, _MOST = -(2**15), 2**15 - 1
_LARGEST = 127
_AROUND = range(-2, 3)
"""Against all integers: the squared error is within 2.1 % of the least, of 15,000 random pairs."""


def limits_for(
    kernels: Kernels,
    op: str,
    bounds: Array,
    importance: Array | None = None,
    *,
    depthwise: bool = False,
) -> Limits:
    """Return what kernels allow in the weight of an operator; see `Pairs` for the arrays.

    `depthwise` is a convolution with a group for each channel of its input and its output.
    """
    kind = f"depthwise {op}" if depthwise else op
    if not kernels.adds_in_16_bits or kind in kernels.exact:
        return Plain()
    return Pairs(bounds, importance) if kernels.neighbours else AnyOrder(bounds)


class Pairs:
    """Weights whose columns 2j and 2j + 1 are added in 16 bits.

    `bounds` are the largest uint8 integers that the columns' inputs reach, [columns] or [groups,
    columns]; where a convolution is padded, no less than the zero point. `importance`, of the same
    forms, weighs the squared error of what is shrunk: the diagonal of a Gram matrix.
    """

    def __init__(self, bounds: Array, importance: Array | None = None) -> None:
        self.bounds = np.atleast_2d(bounds).astype(np.int32)
        if importance is None:
            importance = np.ones(1)
        weights = np.atleast_2d(importance).astype(np.float64)
        # An input that was always 0 still has to be shrunk by something.
        weights = weights + max(float(weights.mean()), 1e-30) * 1e-6
        self.importance = np.broadcast_to(weights, self.bounds.shape)

    def interval(self, integers: Array, column: int) -> tuple[Array, Array]:
        """Return the least and largest integer [rows] for one column, all others as they are."""
        rows, other = len(integers), column ^ 1
        bound = np.repeat(self.bounds[:, column], rows // len(self.bounds))
        if other >= self.bounds.shape[1]:
            return np.full(rows, -_LARGEST), np.full(rows, _LARGEST)
        beside = integers[:, other] * np.repeat(self.bounds[:, other], rows // len(self.bounds))
        return _room(bound, np.minimum(beside, 0), np.maximum(beside, 0))

    def project(self, integers: Array) -> Array:
        """Return the nearest allowed integers, to within 3 % of the squared error.

        Only pairs that overflow change, and only towards 0.
        """
        allowed = np.clip(np.ascontiguousarray(integers), -_LARGEST, _LARGEST)
        group, row, pair = np.nonzero(_overflow(self._sums(allowed)))
        if not len(pair):
            return np.asarray(allowed)
        grouped = self._grouped(allowed)
        left, right = 2 * pair, 2 * pair + 1
        found = np.stack([grouped[group, row, left], grouped[group, row, right]])
        negative = found[0] < 0
        shrunk = _shrunk(
            np.abs(found),
            np.stack([self.bounds[group, left], self.bounds[group, right]]),
            np.where(negative, -_LEAST, _MOST),
            np.stack([self.importance[group, left], self.importance[group, right]]),
        )
        shrunk = np.where(negative, -shrunk, shrunk)
        grouped[group, row, left], grouped[group, row, right] = shrunk
        return np.asarray(allowed)

    def allow(self, integers: Array) -> Array:
        """Tell for each row whether it is allowed: bools [rows]."""
        fits = np.abs(integers).max(axis=1, initial=0) <= _LARGEST
        return np.asarray(fits & ~self.overflows(integers).any(axis=1))

    def overflows(self, integers: Array) -> Array:
        """Tell which pairs can overflow: bools [rows, pairs]."""
        found = _overflow(self._sums(integers))
        return np.asarray(found.reshape(len(integers), found.shape[2]))

    def certificate(self, rounded: Array, final: Array) -> PairSums:
        """Count the pairs that could overflow as the weights were rounded, and that still can."""
        return _counted(self.overflows(rounded), self.overflows(final))

    def _grouped(self, integers: Array) -> Array:
        groups, columns = self.bounds.shape
        return integers.reshape(groups, len(integers) // groups, columns)

    def _sums(self, integers: Array) -> Array:
        """Return the sums with all inputs at their bounds: [groups, rows of a group, pairs]."""
        pairs = self.bounds.shape[1] // 2
        products = self._grouped(integers)[..., : 2 * pairs] * self.bounds[:, None, : 2 * pairs]
        return np.asarray(products[..., 0::2] + products[..., 1::2])


class AnyOrder:
    """Weights of which any two of one row may be added in 16 bits: where the order is not known.

    Takes the largest of `bounds` for all columns, so that two weights of one sign may come to 128
    at most where an input reaches 255.
    """

    def __init__(self, bounds: Array) -> None:
        self.bound = max(int(np.max(bounds, initial=0)), 1)
        self.budget = min(_MOST // self.bound, 2 * _LARGEST)

    def interval(self, integers: Array, column: int) -> tuple[Array, Array]:
        """Return the least and largest integer [rows] for one column, all others as they are."""
        others = integers[:, :column], integers[:, column + 1 :]
        low = np.minimum(*(part.min(axis=1, initial=0) for part in others)).astype(np.int32)
        high = np.maximum(*(part.max(axis=1, initial=0) for part in others)).astype(np.int32)
        least, most = -self.budget - low, self.budget - high
        return np.maximum(least, -_LARGEST), np.minimum(most, _LARGEST)

    def project(self, integers: Array) -> Array:
        """Return the allowed integers of least squared error."""
        allowed = np.clip(integers, -_LARGEST, _LARGEST)
        return np.asarray(
            self._capped(np.maximum(allowed, 0)) - self._capped(np.maximum(-allowed, 0))
        )

    def allow(self, integers: Array) -> Array:
        """Tell for each row whether it is allowed: bools [rows]."""
        return np.asarray(~self.overflows(integers).any(axis=1))

    def overflows(self, integers: Array) -> Array:
        """Tell whether two positive, and two negative, weights can overflow: [rows, 2]."""
        ends = np.sort(np.pad(integers.astype(np.int32), ((0, 0), (2, 2))), axis=1)
        sums = np.stack([ends[:, -2:].sum(axis=1), -ends[:, :2].sum(axis=1)], axis=1)
        largest = np.stack([ends[:, -1], -ends[:, 0]], axis=1)
        return np.asarray((sums > self.budget) | (largest > _LARGEST))

    def certificate(self, rounded: Array, final: Array) -> PairSums:
        """Count, in place of pairs, the two largest weights of each sign in each row."""
        return _counted(self.overflows(rounded), self.overflows(final))

    def _capped(self, sizes: Array) -> Array:
        """Cut rows of numbers ≥ 0: one may be large, all others are at most what it leaves.

        The error of a cap on the others comes from counts of the row's numbers, so that all caps
        are tried at once.
        """
        rows, columns = sizes.shape
        if not columns:
            return sizes
        place = np.argmax(sizes, axis=1)[:, None]
        largest = np.take_along_axis(sizes, place, axis=1)
        size, cap = np.arange(_LARGEST + 1), np.arange(min(self.budget // 2, _LARGEST) + 1)
        lost = np.maximum(size[:, None] - cap, 0.0) ** 2
        cells = (np.arange(rows)[:, None] * len(size) + sizes).ravel()
        counts = np.bincount(cells, minlength=rows * len(size)).reshape(rows, len(size))
        own = np.maximum(largest - (self.budget - cap), 0.0) ** 2
        best = np.argmin(counts @ lost - lost[largest[:, 0]] + own, axis=1)[:, None]
        cut = np.minimum(sizes, best)
        np.put_along_axis(cut, place, np.minimum(largest, self.budget - best), axis=1)
        return np.asarray(cut.astype(sizes.dtype))


def _counted(before: Array, after: Array) -> PairSums:
    mended = before.any(axis=1) & ~after.any(axis=1)
    return PairSums(
        rows=len(before),
        pairs=before.size,
        overflowing=int(before.sum()),
        remaining=int(after.sum()),
        rows_mended=int(mended.sum()),
    )


def _overflow(sums: Array) -> Array:
    return np.asarray((sums > _MOST) | (sums < _LEAST))


def _room(bound: Array, low: Array, high: Array) -> tuple[Array, Array]:
    """Return what a weight may be whose input reaches `bound`, beside products in [low, high]."""
    divisor = np.maximum(bound, 1)
    most, least = (_MOST - high) // divisor, -((low - _LEAST) // divisor)
    return np.clip(least, -_LARGEST, 0), np.clip(most, 0, _LARGEST)


def _shrunk(sizes: Array, bounds: Array, limit: Array, importance: Array) -> Array:
    """Return the integers [2, pairs] nearest to `sizes` whose products add up to `limit` at most.

    In real numbers both give way in proportion to bound / importance. Of the integers around that
    point, each with the largest other one that fits, the best is taken.
    """
    over = (bounds * sizes).sum(axis=0) - limit
    pull = bounds / importance
    middle = np.floor(sizes - over * pull / (bounds * pull).sum(axis=0)).astype(np.int32)
    best, least = np.zeros_like(sizes), np.full(len(limit), np.inf)
    for tried in _candidates(sizes, bounds, limit, middle):
        lost = (importance * (sizes - tried) ** 2).sum(axis=0)
        better = lost < least
        best[:, better], least[better] = tried[:, better], lost[better]
    return best


def _candidates(sizes: Array, bounds: Array, limit: Array, middle: Array) -> Iterator[Array]:
    for side in (0, 1):
        for offset in _AROUND:
            this = np.clip(middle[side] + offset, 0, sizes[side])
            other = (limit - bounds[side] * this) // bounds[1 - side]
            tried = np.stack([this, np.minimum(other, sizes[1 - side])])
            yield tried if side == 0 else tried[::-1]
