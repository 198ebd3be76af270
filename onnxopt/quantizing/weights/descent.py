"""Coordinate descent on the integers of a weight: one column after the other to its optimum.

Behdin et al., "QuantEase" (2023). The loss d G dᵀ of a row, d = w - s q, is a parabola in each
integer alone: with p = d G its least value lies at q_k + p_k / (s G_kk), and the best allowed
integer is the nearest one in the interval that the others leave. So no step ever loses, and the
scale too has a closed form given the integers: s = w G qᵀ / q G qᵀ.

p is kept up to date within a block of columns; the columns behind follow by one matrix product.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.weights.gram import full, squared, times
from onnxopt.quantizing.weights.limits import Limits
from onnxopt.quantizing.weights.scales import bounded

_BLOCK = 64
_WORTH = 1e-6
"""Share of a step's curvature that a move has to gain: less is rounding noise of float32."""


def descend(
    rows: Array,
    integers: Array,
    scales: Array,
    limits: Limits,
    gram: Array | None,
    *,
    sweeps: int = 3,
    refit: bool = True,
    least: Array | None = None,
) -> tuple[Array, Array]:
    """Return allowed integers and scales that lose no more at the output than those given.

    `integers` have to be allowed. `refit` moves the scales too, after each sweep over all columns,
    under the bounds of `best_scales`. Ends early when a sweep changes nothing.
    """
    gram = full(gram, rows.shape[1])
    found, steps = integers.astype(np.int32), np.asarray(scales, np.float32)
    for _ in range(sweeps):
        moved = _sweep(rows, found, steps, limits, gram)
        if refit:
            steps = refitted(rows, found, steps, gram, least=least)
        if not moved:
            break
    before = squared(rows - integers * scales[:, None], gram)
    after = squared(rows - found * steps[:, None], gram)
    worse = after > before
    return (
        np.where(worse[:, None], integers, found).astype(np.int32),
        np.where(worse, scales, steps),
    )


def refitted(
    rows: Array,
    integers: Array,
    scales: Array,
    gram: Array | None,
    *,
    least: Array | None = None,
) -> Array:
    """Return the scales that lose least with given integers: float32 [rows]."""
    whole = integers.astype(np.float32)
    mapped = times(whole, gram)
    meant = np.einsum("rc,rc->r", rows, mapped, dtype=np.float64)
    made = np.einsum("rc,rc->r", whole, mapped, dtype=np.float64)
    known = (made > 0) & (meant > 0)
    return bounded(np.where(known, meant / np.where(known, made, 1), scales), least)


def _sweep(rows: Array, integers: Array, scales: Array, limits: Limits, gram: Array) -> bool:
    """Set each column to its optimum in turn, in place; return whether any has changed."""
    columns = rows.shape[1]
    shape = (len(gram), -1, columns)
    pull = times(rows - integers * scales[:, None], gram).reshape(shape)
    curve = np.asarray(np.diagonal(gram, axis1=1, axis2=2))
    step = scales.reshape(len(gram), -1)
    moved = False
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        change = np.zeros((*pull.shape[:2], stop - start), np.float32)
        for column in range(start, stop):
            bend = curve[:, column, None]
            # An input that was always 0 leaves the integer where it is.
            away = pull[:, :, column] / (step * np.where(bend > 0, bend, np.inf))
            delta = _allowed_move(integers, column, away.reshape(-1), limits)
            if not delta.any():
                continue
            moved = True
            integers[:, column] += delta
            shift = delta.reshape(step.shape) * step
            change[:, :, column - start] = shift
            pull[:, :, start:stop] -= shift[:, :, None] * gram[:, None, column, start:stop]
        if change.any():
            pull[:, :, stop:] -= change @ gram[:, start:stop, stop:]
    return moved


def _allowed_move(integers: Array, column: int, away: Array, limits: Limits) -> Array:
    """Return by how much each row's integer moves to come nearest to `away` from where it is."""
    low, high = limits.interval(integers, column)
    here = integers[:, column]
    delta = np.clip(np.rint(here + away), low, high).astype(np.int32) - here
    # The parabola gains delta · (2 away - delta), in units of its curvature.
    return np.where(delta * (2 * away - delta) > _WORTH * delta * delta, delta, 0)
