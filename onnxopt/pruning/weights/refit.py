"""Weights that make up for the columns that are gone, in closed form from second moments.

x is what a layer gets in the original model, q what it gets in the pruned one. Of all W' that use
only the columns S, and all b',

    E‖W x + b - W' q - b'‖² + λ ‖W' - P‖²

is least at W' = (W C + λ P)_S (G + λ)_SS⁻¹ and b' = b + W E[x] - W' E[q], where G = E[q qᵀ] and
C = E[x qᵀ] are about the means. λ is told in mean diagonals of G. It pulls towards P, which is W
itself by default: few samples then say little instead of something wrong, and λ may be large. 0 is
the usual ridge; what refitting on the original model came to is another P.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights import factor
from onnxopt.sweep.moments import Moments

RIDGES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""What `choose_ridge` tries, in mean diagonals."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Refit:
    """Rows [outputs, columns], zero where nothing is kept, and by how much the bias changes.

    `error` [outputs] is E‖W x + b - W' q - b'‖² on the samples it was found on; see `noise`.
    """

    rows: Array
    shift: Array
    error: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class RidgeChoice:
    """The ridge whose solution errs least on held-out samples; `errors` is by every one tried.

    Errors are summed over outputs, and relative to the energy of the original's.
    """

    ridge: float
    errors: Mapping[float, float]


def refit(
    rows: Array,
    kept: Array,
    moments: Moments,
    *,
    ridge: float = factor.RIDGE,
    towards: Array | None = None,
    keep: float = 0.0,
    energy: Array | None = None,
) -> Refit:
    """Return the rows that come nearest to the outputs of `rows` with the kept columns alone.

    `kept` is bool [columns], or [groups, columns]. `towards` [outputs, columns] is P. Of the means'
    square a share `keep` counts although the bias is corrected. `energy` is as in `noise`. Memory:
    two matrices [columns, columns] in float64.
    """
    gram, cross = moments.centred(keep)
    aim = rows if towards is None else towards
    made = np.zeros(rows.shape)
    for group, (mine, columns) in enumerate(_groups(rows, kept, len(gram))):
        if not len(columns):
            continue
        level = float(np.diagonal(gram[group]).mean(dtype=np.float64))
        hessian, added = factor.ridged(gram[group][np.ix_(columns, columns)], ridge, level)
        wanted = factor.times(rows[mine[:, 0]], cross[group][:, columns])
        wanted += added * aim[mine, columns]
        made[mine, columns] = factor.solve(hessian, wanted.T).T
    shift = shifted(rows, made, moments)
    return Refit(rows=made, shift=shift, error=noise(made, shift, rows, moments, energy))


def shifted(rows: Array, made: Array, moments: Moments) -> Array:
    """Return W E[x] - W' E[q], which the bias makes up for: [outputs]."""
    each = len(rows) // max(len(moments.mean), 1)
    mean, seen = (np.repeat(line, each, axis=0) for line in (moments.mean, moments.seen))
    return np.asarray((rows * mean - made * seen).sum(axis=1))


def noise(
    made: Array, shift: Array, rows: Array, moments: Moments, energy: Array | None = None
) -> Array:
    """Return E‖W x + b - W' q - b'‖² of each output, on the samples of `moments`: [outputs].

    `made` is W' and `shift` is b' - b, whatever they were found on. `energy` [outputs] is
    E[(W x)²]; without it E[(W (x - q))²] is left out, which no W' changes and moments do not tell:
    the result may then be below 0, and is exact where x is q.
    """
    shape = (len(moments.gram), -1, rows.shape[1])
    wide, other = (np.asarray(part, np.float64).reshape(shape) for part in (rows, made))
    gone = wide - other
    # In differences, because float32 sums have no room for differences of squares.
    pulled = factor.times(gone, moments.gram)
    if not moments.is_one:
        pulled += 2 * factor.times(wide, moments.cross - moments.gram)
    lost = np.sum(pulled * gone, axis=2).reshape(-1)
    if energy is not None:
        lost = lost + energy - _told(wide, moments).reshape(-1)
    meant = shifted(rows, made, moments)
    return np.asarray(lost + (shift - meant) ** 2 - meant**2)


def energies(rows: Array, moments: Moments) -> Array:
    """Return E[(W x)²] about the mean of each output [outputs], as far as moments tell it."""
    wide = np.asarray(rows, np.float64).reshape(len(moments.gram), -1, rows.shape[1])
    mean = (wide @ moments.mean[:, :, None])[..., 0]
    return np.asarray(np.maximum(_told(wide, moments) - mean * mean, 0.0).reshape(-1))


def choose_ridge(
    rows: Array,
    kept: Array,
    fit: Moments,
    held: Moments,
    *,
    ridges: Sequence[float] = RIDGES,
    towards: Array | None = None,
    keep: float = 0.0,
) -> RidgeChoice:
    """Return the ridge that errs least on samples that the rows were not found on.

    `held` should be of other photographs, not of other crops of those in `fit`: what is alike
    speaks for too small a ridge.
    """
    energy = float(energies(rows, held).sum()) or 1.0
    errors = {}
    for ridge in ridges:
        found = refit(rows, kept, fit, ridge=ridge, towards=towards, keep=keep)
        lost = noise(found.rows, found.shift, rows, held)
        errors[ridge] = float(lost.sum()) / energy
    return RidgeChoice(ridge=min(errors, key=lambda ridge: errors[ridge]), errors=errors)


def _told(wide: Array, moments: Moments) -> Array:
    """Return E[(W x)²] - E[(W (x - q))²] of rows [groups, rows, columns]."""
    made = factor.times(wide, moments.gram)
    if not moments.is_one:
        made = 2 * factor.times(wide, moments.cross) - made
    return np.asarray(np.sum(made * wide, axis=2))


def _groups(rows: Array, kept: Array, groups: int) -> Iterator[tuple[Array, Array]]:
    """Yield which rows belong to each group, as a column of indices, and which columns it keeps."""
    each = len(rows) // groups
    stays = np.broadcast_to(np.atleast_2d(kept), (groups, rows.shape[1]))
    for group in range(groups):
        yield np.arange(group * each, (group + 1) * each)[:, None], np.flatnonzero(stays[group])
