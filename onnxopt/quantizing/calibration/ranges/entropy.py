r"""The range that loses the least information: KL divergence of the clipped and rounded counts.

For a window of bins, P are its counts with what lies outside added to the bins at its ends, and Q
the counts merged into as many levels as there are integers, then spread again over those bins of a
level in which P is not zero. KL(P‖Q) = Σ P log(P/Q) needs no loop over bins: Σ P log P is a
cumulative sum, and Q is the same for all bins of a level, so that Σ P log Q is a sum over levels,

    N · KL = Σ_bins p log p - Σ_levels m log(t/n) + N log(N_inside / N)

with p the counts with tails, t the level's count without, m with tails, n its non-zero bins.
A sample of N numbers scatters around the even spread even where that is true, and is off by
Σ (n - 1) / 2N on the average; without subtracting this, many bins and few numbers look like
information lost, and the range shrinks.
"""

from __future__ import annotations

import numpy as np
from scipy.special import xlogy

from onnxopt.arrays import Array
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges.minmax import minmax
from onnxopt.quantizing.spec import Spec

_MARKS = 256


def entropy(observer: Observer, spec: Spec) -> tuple[float, float]:
    """Return the range with the least KL divergence between the numbers before and after.

    Migacz 2017, "8-bit Inference with TensorRT", here for both ends at once where a tensor has two
    signs and the integers are not symmetric. Exact zeros do not count. Not for the outputs of
    Softmax or Sigmoid, logits or regressed values: there it is the outliers that matter.
    """
    low, high = minmax(observer, spec)
    histogram = observer.histogram
    assert histogram is not None
    least, most = spec.limits
    counts, width = histogram.counts, histogram.width
    half = len(counts) // 2
    if spec.symmetric:
        limit = _one_end(counts[half:] + counts[:half][::-1], (most - least) // 2 + 1) * width
        return max(low, -limit), min(high, limit)
    levels = most - least + 1
    if low == 0:
        return 0.0, min(high, _one_end(counts[half:], levels) * width)
    if high == 0:
        return max(low, -_one_end(counts[:half][::-1], levels) * width), 0.0
    left, right = _two_ends(counts, levels)
    return max(low, (left - half) * width), min(high, (right - half) * width)


def divergence(counts: Array, starts: Array, ends: Array, levels: int) -> Array:
    """Return KL(P‖Q) in nats of windows [start, end) of a histogram: float64 [windows].

    Each window has at least as many bins as there are levels, and two. Infinite where a tail meets
    an empty level. Some count is not zero.
    """
    total = counts.sum()
    sums = np.concatenate([[0.0], np.cumsum(counts)])
    filled = np.concatenate([[0], np.cumsum(counts > 0)])
    informed = np.concatenate([[0.0], np.cumsum(xlogy(counts, counts))])
    borders = starts[:, None] + (ends - starts)[:, None] * np.arange(levels + 1) // levels
    inside, bins = np.diff(sums[borders]), np.diff(filled[borders])
    mass, known = inside.copy(), informed[ends] - informed[starts]
    for level, edge, tail in ((0, starts, sums[starts]), (-1, ends - 1, total - sums[ends])):
        mass[:, level] += tail
        bins[:, level] += (counts[edge] == 0) & (tail > 0)
        known += xlogy(counts[edge] + tail, counts[edge] + tail) - xlogy(counts[edge], counts[edge])
    with np.errstate(divide="ignore"):
        spread = xlogy(mass, inside / np.maximum(bins, 1)).sum(1)
    scatter = np.maximum(bins - 1, 0).sum(1) / 2
    share = np.maximum(inside.sum(1), 1) / total
    return np.asarray((known - spread - scatter) / total + np.log(share))


def _one_end(counts: Array, levels: int) -> int:
    """Return where to end a window that begins at the first bin."""
    last = int(np.flatnonzero(counts)[-1]) + 1
    ends = np.unique(np.linspace(min(levels, last), last, _MARKS).astype(int))
    ends = ends[ends >= levels]
    if not ends.size:
        return last
    return int(ends[np.argmin(divergence(counts, np.zeros_like(ends), ends, levels))])


def _two_ends(counts: Array, levels: int) -> tuple[int, int]:
    """Return a window around the middle: a coarse grid, then finer ones about its best."""
    half = len(counts) // 2
    filled = np.flatnonzero(counts)
    first, last = int(filled[0]), int(filled[-1]) + 1
    best, reach = (first, last), (half - first, last - half)
    for marks in (24, 9, 9):
        starts, ends = np.meshgrid(
            _about(best[0], reach[0], marks, first, half),
            _about(best[1], reach[1], marks, half, last),
        )
        wide = ends - starts >= levels
        if not wide.any():
            return best
        starts, ends = starts[wide], ends[wide]
        found = int(np.argmin(divergence(counts, starts, ends, levels)))
        best = int(starts[found]), int(ends[found])
        reach = 2 * reach[0] // marks + 1, 2 * reach[1] // marks + 1
    return best


def _about(center: int, reach: int, marks: int, least: int, most: int) -> Array:
    """Return up to `marks` places between two limits, not further than `reach` from the center."""
    ends = max(center - reach, least), min(center + reach, most)
    return np.unique(np.linspace(*ends, marks).astype(int))
