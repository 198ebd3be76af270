"""Sparse rows whose other elements have made up for those that went.

Frantar and Alistarh, "SparseGPT" (ICML 2023): with H = G + λ and H⁻¹ = Uᵀ U, U upper triangular,
columns go from left to right. What row w loses of column i, e = w_i / U_ii, the columns behind make
up for best by changing by -e U_i:, and e² is what that costs: the least of a span are chosen there.
Columns within a block change at once, those behind it when the block is done.

Columns in front do not make up for anything then. With the mask known, the best rows are those of
least d H dᵀ: conjugate gradients from there come near to them, all rows at once.

Where each row has to keep to a pattern by itself, as 2:4, `splitting` goes on to another mask, and
rows take the one by which they lose less.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights import factor
from onnxopt.pruning.weights.elements import fours
from onnxopt.pruning.weights.splitting import Project, split
from onnxopt.quantizing.weights.gram import full, squared

Choose = Callable[[int, int, Array], Array]
"""Given the span start:stop and what each element costs [rows, columns], tells which stay."""
_BLOCK = 128


@dataclass(frozen=True, kw_only=True, eq=False)
class Sparse:
    """Rows [outputs, columns] and which of their elements were kept, bool; all others are 0."""

    rows: Array
    kept: Array


def of_share(sparsity: float, columns: int) -> tuple[list[int], Choose]:
    """Choose a share of all elements, block by block."""

    def choose(start: int, stop: int, costs: Array) -> Array:
        # What rounding leaves to one block the next one takes.
        gone = round(sparsity * stop * len(costs)) - round(sparsity * start * len(costs))
        stays = np.ones(costs.size, bool)
        stays[np.argsort(costs, axis=None, kind="stable")[:gone]] = False
        return stays.reshape(costs.shape)

    return list(range(0, columns, _BLOCK)), choose


def of_fours(columns: int, channels: int | None = None) -> tuple[list[int], Choose]:
    """Choose two of every four columns; see `elements.fours` for `channels`."""
    run = channels or columns
    starts = [place + at for place in range(0, columns, run) for at in range(0, run, 4)]

    def choose(start: int, stop: int, costs: Array) -> Array:
        return fours(costs) if stop - start == 4 else np.ones(costs.shape, bool)

    return starts, choose


def by_fours(channels: int | None = None) -> Project:
    """Let two of every four columns stay; see `elements.fours` for `channels`."""
    return lambda scores: fours(scores, channels)


def of_mask(kept: Array) -> tuple[list[int], Choose]:
    """Choose what was chosen before: bool [rows, columns]."""
    return list(range(0, kept.shape[1], _BLOCK)), lambda start, stop, _: kept[:, start:stop]


def sparse(
    rows: Array,
    gram: Array | None,
    choice: tuple[Sequence[int], Choose],
    *,
    ridge: float = factor.RIDGE,
    iterations: int = 20,
    project: Project | None = None,
) -> Sparse:
    """Return sparse rows that lose no more of d G dᵀ than `rows` without what is gone.

    `gram` has one of the forms of `quantizing.weights.gram`, about the means where the bias is
    corrected afterwards. `rows` are the best dense ones: of an input that is off, `refit` of all
    columns. `choice` is `of_share`, `of_fours` or `of_mask`. `iterations` are of conjugate
    gradients. With `project`, which must decide on each row by itself and to the same pattern, rows
    get another mask wherever they lose less by it.
    """
    gram = full(gram, rows.shape[1])
    hessian = np.stack([factor.ridged(part, ridge)[0] for part in gram])
    wide = np.asarray(rows, np.float64)
    swept, kept = _swept(wide, hessian, choice)
    masked = np.where(kept, wide, 0.0)
    made = _better(masked, swept, wide, gram)
    polished = _polished(made, wide, kept, hessian, iterations)
    found = Sparse(rows=_better(made, polished, wide, gram), kept=kept)
    if project is None or kept.all():
        return found
    moved, stays = split(wide, hessian, found.rows, project)
    moved = _polished(moved, wide, stays, hessian, iterations)
    worse = _worse(found.rows, moved, wide, gram)[:, None]
    return Sparse(rows=np.where(worse, found.rows, moved), kept=np.where(worse, found.kept, stays))


def _swept(
    rows: Array, hessian: Array, choice: tuple[Sequence[int], Choose]
) -> tuple[Array, Array]:
    """Return rows after one way from left to right, and which elements stayed."""
    starts, choose = choice
    groups, columns = len(hessian), rows.shape[1]
    passed_on = np.stack([_passed_on(part) for part in hessian])
    pivots = np.einsum("gcc->gc", passed_on)
    each = len(rows) // groups
    wide = rows.reshape(groups, each, columns).copy()
    kept = np.ones(rows.shape, bool)
    ends = dict(zip(starts, [*starts[1:], columns], strict=True))
    for start, stop in _blocks(ends):
        lost = np.zeros((groups, each, stop - start))
        for column in range(start, stop):
            if column in ends:
                span = slice(column, ends[column])
                costs = np.square(wide[:, :, span] / pivots[:, None, span])
                kept[:, span] = choose(span.start, span.stop, costs.reshape(len(rows), -1))
            stays = kept[:, column].reshape(groups, each)
            left = np.where(stays, 0.0, wide[:, :, column]) / pivots[:, column, None]
            wide[:, :, column:stop] -= left[:, :, None] * passed_on[:, None, column, column:stop]
            lost[:, :, column - start] = left
        wide[:, :, stop:] -= lost @ passed_on[:, start:stop, stop:]
    return np.where(kept, wide.reshape(rows.shape), 0.0), kept


def _blocks(ends: dict[int, int]) -> list[tuple[int, int]]:
    """Join spans to blocks of at least `_BLOCK` columns: within one, columns are up to date."""
    found, start = [], 0
    last = max(ends.values(), default=0)
    for stop in ends.values():
        if stop - start >= _BLOCK or stop == last:
            found.append((start, stop))
            start = stop
    return found


def _passed_on(hessian: Array) -> Array:
    """Return U with H⁻¹ = Uᵀ U: H = R Rᵀ, R upper triangular, gives U = R⁻¹."""
    from scipy.linalg import get_lapack_funcs

    # The lower factor of the matrix read backwards, read backwards, is the upper factor R.
    upper = factor.cholesky(hessian[::-1, ::-1])[::-1, ::-1]
    found, _ = get_lapack_funcs("trtri", (upper,))(upper)
    return np.asarray(found)


def _polished(made: Array, rows: Array, kept: Array, hessian: Array, iterations: int) -> Array:
    """Return rows nearer to the least d H dᵀ among those with this mask, d = rows - made."""
    shape = (len(hessian), -1, rows.shape[1])
    rate = 1.0 / np.einsum("gcc->gc", hessian)[:, None, :]
    stays = kept.reshape(shape)
    found = made.reshape(shape).copy()
    slope = ((rows.reshape(shape) - found) @ hessian) * stays
    eased = slope * rate
    step, level = eased.copy(), np.sum(slope * eased, axis=2, keepdims=True)
    first = level.copy()
    for _ in range(iterations):
        bent = (step @ hessian) * stays
        curve = np.sum(step * bent, axis=2, keepdims=True)
        moving = (level > 1e-12 * first) & (curve > 0)
        size = np.where(moving, level / np.where(moving, curve, 1.0), 0.0)
        found += size * step
        slope -= size * bent
        eased = slope * rate
        before, level = level, np.sum(slope * eased, axis=2, keepdims=True)
        step = eased + np.where(moving, level / np.where(moving, before, 1.0), 0.0) * step
    return found.reshape(rows.shape)


def _better(first: Array, second: Array, rows: Array, gram: Array) -> Array:
    """Return of each row the one that loses less."""
    return np.asarray(np.where(_worse(first, second, rows, gram)[:, None], first, second))


def _worse(first: Array, second: Array, rows: Array, gram: Array) -> Array:
    """Tell which rows lose more by the second."""
    return np.asarray(squared(rows - second, gram) > squared(rows - first, gram))
