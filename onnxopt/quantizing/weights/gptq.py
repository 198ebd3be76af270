"""Rounding column by column, each one's error handed on to the columns not yet rounded.

Frantar, Ashkboos, Hoefler, Alistarh: "GPTQ" (ICLR 2023), after Hassibi and Stork's "Optimal brain
surgeon" (1993). With H = G + λ and H⁻¹ = Uᵀ U, U upper triangular, the columns behind i make up
best for e = (w_i - s q_i) / U_ii when they change by -e U_i:, which is what rounding them one
after the other under the loss d H dᵀ comes to. Columns within a block change at once, those behind
it when the block is done.

U comes from one Cholesky factor: H = R Rᵀ with R upper triangular gives U = R⁻¹.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.weights.gram import full
from onnxopt.quantizing.weights.limits import Limits
from onnxopt.quantizing.weights.scales import nearest

_BLOCK = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class Handing:
    """What all rows have in common: the `order` of the columns, and U of each group (`upper`)."""

    order: Array
    upper: Array


def handing_on(gram: Array, dampening: float, *, by_weight: bool = True) -> Handing:
    """Return how errors are handed on under a Gram matrix [groups, columns, columns]."""
    order = np.arange(gram.shape[-1])
    if by_weight:
        order = np.argsort(-np.einsum("gcc->c", gram), kind="stable")
    return Handing(order=order, upper=_passed_on(gram[:, order[:, None], order], dampening))


def gptq(
    rows: Array,
    scales: Array,
    limits: Limits,
    gram: Array | None,
    *,
    dampening: float = 0.01,
    by_weight: bool = True,
    handing: Handing | None = None,
) -> Array:
    """Return allowed integers that lose little at the output: int32 [rows, columns].

    `dampening` is λ in mean diagonals of the Gram matrix: less trust in what it says, and inputs
    that were always 0 are rounded to the nearest. `by_weight` takes the columns in falling order
    of the diagonal (summed over groups), else as they stand. `handing` is what `handing_on` made
    of the same three for other rows.
    """
    columns = rows.shape[1]
    if handing is None:
        handing = handing_on(full(gram, columns), dampening, by_weight=by_weight)
    order, passed_on = handing.order, handing.upper
    grouped = (len(passed_on), -1, columns)
    wanted = np.array(rows[:, order], np.float32).reshape(grouped)
    integers = nearest(rows, scales, limits)
    step = scales.reshape(len(passed_on), -1)
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        lost = np.empty((*wanted.shape[:2], stop - start), np.float32)
        for place in range(start, stop):
            column = order[place]
            low, high = limits.interval(integers, column)
            whole = np.rint(wanted[:, :, place] / step).reshape(-1)
            integers[:, column] = np.clip(whole, low, high)
            left = wanted[:, :, place] - integers[:, column].reshape(step.shape) * step
            left /= passed_on[:, place, place, None]
            wanted[:, :, place:stop] -= left[:, :, None] * passed_on[:, None, place, place:stop]
            lost[:, :, place - start] = left
        wanted[:, :, stop:] -= lost @ passed_on[:, start:stop, stop:]
    return integers


def _passed_on(gram: Array, dampening: float) -> Array:
    """Return U of each group: float32 [groups, columns, columns]."""
    from scipy.linalg import get_lapack_funcs

    groups, columns, _ = gram.shape
    damped = gram.astype(np.float64)
    pull = dampening * np.trace(damped, axis1=1, axis2=2) / columns
    place = np.arange(columns)
    damped[:, place, place] += np.where(pull > 0, pull, 1.0)[:, None]
    # The lower factor of the matrix read backwards, read backwards, is the upper factor R.
    upper = np.linalg.cholesky(damped[:, ::-1, ::-1])[:, ::-1, ::-1]
    invert = get_lapack_funcs("trtri", (upper,))
    found = np.empty((groups, columns, columns), np.float32)
    for group in range(groups):
        found[group], _ = invert(upper[group])
    return found
