"""The scale of each row of a weight: the one that loses least after rounding and limits.

Between the scale that just covers the largest weight and others around it the error has no closed
form: candidates are tried. All are ranked by the diagonal of the Gram matrix, which costs little;
the best few of each row are compared by the whole of it.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.spec import SMALLEST_SCALE
from onnxopt.quantizing.weights.gram import diagonal, squared
from onnxopt.quantizing.weights.limits import Limits

_LARGEST = 127
_FREE = np.linspace(0.5, 1.05, 34)
_LIMITED = np.linspace(0.7, 2.0, 53)
_HEADROOM = 2.0**30
"""Of the 2³¹ that an int32 bias may reach; the rest is left to bias correction."""


def least_scales(bias: Array, activation: float) -> Array:
    """Return the scales [rows] below which a bias, in steps of scale · activation, leaves int32."""
    return np.asarray(np.abs(bias) / (activation * _HEADROOM), np.float32)


def widest_scales(rows: Array, least: Array | None = None) -> Array:
    """Return the scales that just cover the largest weight of each row: float32 [rows].

    `least` is a bound [rows] from below. A row of zeros gets 1, or its bound.
    """
    largest = np.abs(rows).max(axis=1, initial=0).astype(np.float64)
    return bounded(np.where(largest > 0, largest / _LARGEST, 1.0), least)


def bounded(scales: Array, least: Array | None) -> Array:
    """Return float32 scales that are no less than `least`."""
    scales = np.maximum(scales, SMALLEST_SCALE)
    if least is not None:
        scales = np.maximum(scales, least)
    return np.asarray(scales, np.float32)


def nearest(rows: Array, scales: Array, limits: Limits) -> Array:
    """Return the nearest allowed integers: int32 [rows, columns]."""
    return np.asarray(limits.project(rounded(rows, scales)))


def rounded(rows: Array, scales: Array) -> Array:
    """Return the nearest integers in [-127, 127], allowed or not: int32 [rows, columns]."""
    integers = np.rint(rows / scales[:, None])
    return np.clip(integers, -_LARGEST, _LARGEST).astype(np.int32)


def best_scales(
    rows: Array,
    limits: Limits,
    gram: Array | None = None,
    *,
    least: Array | None = None,
    tried: int = 8,
) -> Array:
    """Return the scales with which rounding to allowed integers loses least: float32 [rows].

    `gram` is in any of its forms (see `gram.py`), `tried` the number of candidates of each row
    that are compared by the whole of it. `least` is as in `widest_scales`.
    """
    widest = widest_scales(rows, least)
    fits = limits.allow(rounded(rows, widest)).all()
    factors = (_FREE if fits else _LIMITED).astype(np.float32)
    table = np.stack([bounded(widest * factor, least) for factor in factors])
    row = np.arange(len(rows))
    weights = diagonal(gram)
    if weights is not None and weights.ndim == 2:
        weights = np.repeat(weights, len(rows) // len(weights), axis=0)
    order = _ranked([_lost(rows, scales, limits, weights) for scales in table])
    if gram is not None and gram.ndim > 1:
        table = table[order[:tried], row]
        lost = [squared(_difference(rows, scales, limits), gram) for scales in table]
        order = _ranked(lost)
    # Where all candidates are alike (a row of zeros) the first would be as good, but odd.
    return np.asarray(np.where(rows.any(axis=1), table[order[0], row], widest))


def _ranked(lost: list[Array]) -> Array:
    """Return the candidates of each row, the best first: [candidates, rows]."""
    return np.argsort(np.stack(lost), axis=0, kind="stable")


def _lost(rows: Array, scales: Array, limits: Limits, weights: Array | None) -> Array:
    difference = _difference(rows, scales, limits)
    weighted = difference if weights is None else difference * weights
    return np.asarray(np.einsum("rc,rc->r", weighted, difference))


def _difference(rows: Array, scales: Array, limits: Limits) -> Array:
    return np.asarray(nearest(rows, scales, limits) * scales[:, None] - rows, np.float32)
