r"""The range with the least expected error of rounding and clipping.

Let numbers be spread evenly inside each bin of a histogram, with density h/w. The error at x,
|x - Q(x)|^p, has an integral in closed form: with the scale s, k = round(x/s) and r = x/s - k,

    E(x) = s^(p+1) · (k · 2^(-p) + sign(r) · |r|^(p+1)) / (p + 1)        inside the range,
    E(x) = E(end) + sign(d) · |d|^(p+1) / (p + 1),  d = x - end          beyond an end.

A bin from a to b so costs h/w · (E(b) - E(a)), and all together Σ E(e) · (h left of e - h right
of e) / w over the borders e: one product for each candidate, and no bin is too wide for a step.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.calibration.histogram import Histogram
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges.minmax import minmax
from onnxopt.quantizing.spec import QParams, Spec, qparams

_DEEPEST = 7.0
"""By how many halvings an end is drawn in at most, before the search goes into detail."""

Range = tuple[float, float]


def mse(observer: Observer, spec: Spec, norm: float = 2.0) -> Range:
    """Return the range with the least mean of |x - Q(x)|^norm, the error of clipping included.

    It may reach beyond what was seen by less than a step. Sung et al. 2015, arXiv:1511.06488; here
    both ends of a tensor with two signs are searched. Norm 2.4, which GPTQ's search takes for
    weights, minds outliers more and takes several times longer.
    """
    seen = minmax(observer, spec)
    histogram = observer.histogram
    assert histogram is not None
    error = _error_of(histogram, norm)

    def cost(ends: Range) -> float:
        return error(qparams(*ends, spec))

    if seen[0] < 0 < seen[1] and not spec.symmetric:
        return _two_ends(cost, seen, spec)
    return _one_end(cost, seen)


def expected_error(observer: Observer, params: QParams, norm: float = 2.0) -> float:
    """Return the mean of |x - Q(x)|^norm over all numbers seen, zeros included.

    `params` has one scale. With norm 2 it is the power of the noise: `observer.squares /
    observer.count` over it is the SQNR of the tensor.
    """
    if observer.histogram is None or not observer.histogram.limit:
        return 0.0
    return _error_of(observer.histogram, norm)(params) / observer.count


def _error_of(histogram: Histogram, norm: float) -> Callable[[QParams], float]:
    """Return the function from scale and zero point to the summed error of all that was counted."""
    width = histogram.width
    first, counts = histogram.inside()
    edges = np.arange(first, first + len(counts) + 1, dtype=np.float64)
    fall = -np.diff(counts, prepend=0, append=0) / (norm + 1)
    unit = width**norm

    def error(params: QParams) -> float:
        limits = np.iinfo(params.zero_point.dtype)
        zero = int(params.zero_point)
        step = float(params.scale) / width
        ends = (limits.min - zero) * step, (limits.max - zero) * step
        within = np.clip(edges, *ends)
        beyond = _odd_power(edges - within, norm + 1)
        within /= step
        nearest = np.rint(within)
        within -= nearest
        rounded = nearest * 2.0**-norm + _odd_power(within, norm + 1)
        return float(unit * (step ** (norm + 1) * (rounded @ fall) + beyond @ fall))

    return error


def _odd_power(numbers: Array, exponent: float) -> Array:
    """Return sign(x) · |x|^exponent; the cube of the squared error is worth a product."""
    if exponent == 3:
        return numbers * numbers * numbers
    return np.asarray(np.sign(numbers) * np.abs(numbers) ** exponent)


def _one_end(cost: Callable[[Range], float], seen: Range) -> Range:
    """Draw in both ends together: one of them is zero, or the negative of the other."""

    def ends(halvings: float) -> Range:
        return 2.0**-halvings * seen[0], 2.0**-halvings * seen[1]

    best = min(np.arange(0.0, _DEEPEST, 0.25).tolist(), key=lambda mark: cost(ends(mark)))
    for step in (0.12, 0.06, 0.03, 0.015, 0.008):
        around = (best, max(best - step, 0.0), best + step)
        best = min(around, key=lambda mark: cost(ends(mark)))
    return ends(best)


def _two_ends(cost: Callable[[Range], float], seen: Range, spec: Spec) -> Range:
    """Find the best of a grid of both ends, then take steps in scale and zero point.

    A zero point is a whole number: over the ends the error is full of small dents, in which a
    search gets stuck; over the scale it is smooth.
    """
    marks = 2.0 ** -np.arange(0.0, _DEEPEST, 0.5)
    grid = [(a * seen[0], b * seen[1]) for a, b in itertools.product(marks, marks)]
    first = qparams(*min(grid, key=cost), spec)
    least, most = spec.limits

    def ends(point: tuple[float, int]) -> Range:
        scale = float(first.scale) * 2.0 ** point[0]
        return scale * (least - point[1]), scale * (most - point[1])

    @functools.cache
    def known(point: tuple[float, int]) -> float:
        (low, high), step = ends(point), float(first.scale) * 2.0 ** point[0]
        return cost((low, high)) if low > seen[0] - step and high < seen[1] + step else math.inf

    best = 0.0, int(first.zero_point)
    for step, shift in ((0.2, 16), (0.1, 8), (0.05, 4), (0.02, 2), (0.01, 1), (0.005, 1)):
        zeros = {best[1], max(best[1] - shift, least), min(best[1] + shift, most)}
        scales = best[0], best[0] - step, best[0] + step
        best = min((best, *itertools.product(scales, sorted(zeros))), key=known)
    # The scale of a range of nothing is 1, which reaches far beyond what was seen.
    return ends(best) if math.isfinite(known(best)) else seen
