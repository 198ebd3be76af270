"""Which single weights go: scores of every element, and masks by their rank or by a threshold.

Scores are roots of what the output loses, so that those of layers can be compared once they are
divided by the root of the output's energy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights import factor
from onnxopt.sweep.moments import Moments

Scope = Literal["row", "layer", "global"]
Score = Callable[[Array, Moments | None], Array]


def magnitude(rows: Array, moments: Moments | None) -> Array:
    """Return |w| [outputs, columns]: Han et al., "Learning both weights and connections" (2015)."""
    del moments
    return np.abs(rows)


def wanda(rows: Array, moments: Moments | None) -> Array:
    """Return |w| √E[q²]: Sun et al., "Wanda" (ICLR 2024); magnitude where nothing was seen."""
    if moments is None or not moments.gram.size:
        return magnitude(rows, moments)
    norms = np.sqrt(np.diagonal(moments.gram, axis1=1, axis2=2))
    return np.asarray(np.abs(rows) * np.repeat(norms, len(rows) // len(norms), axis=0))


def second_order(rows: Array, moments: Moments | None, ridge: float = factor.RIDGE) -> Array:
    """Return |w| / √[G⁻¹]_jj, the root of what is lost once the rest of its row has made up for it.

    Hassibi and Stork, "Optimal brain surgeon" (1992). Magnitude where nothing was seen.
    """
    if moments is None or not moments.gram.size:
        return magnitude(rows, moments)
    gram, _ = moments.centred()
    levels = [np.diagonal(factor.inverse(factor.ridged(part, ridge)[0])) for part in gram]
    level = np.repeat(np.asarray(levels), len(rows) // len(levels), axis=0)
    return np.asarray(np.abs(rows) / np.sqrt(level))


ELEMENT_SCORES: dict[str, Score] = {
    "l1": magnitude,
    "l2": magnitude,
    "activation": wanda,
    "wanda": wanda,
    "obs": second_order,
}
"""By the names of `prune_config.IMPORTANCES`; `batchnorm` says nothing of single weights, and
`random` scores are whatever random numbers the caller draws."""


def masks(scores: Sequence[Array], sparsity: float, scope: Scope = "layer") -> list[Array]:
    """Return which elements stay in each layer, so that a share `sparsity` goes: bool arrays.

    `row` and `layer` take that share of each row or layer, `global` of all of them together.
    """
    if scope == "row":
        return [_largest(part, sparsity) for part in scores]
    if scope == "layer":
        return [_largest(part.reshape(1, -1), sparsity).reshape(part.shape) for part in scores]
    whole = np.concatenate([part.reshape(-1) for part in scores])
    stays = _largest(whole[None], sparsity)[0]
    ends = np.cumsum([part.size for part in scores])[:-1]
    return [
        kept.reshape(part.shape) for kept, part in zip(np.split(stays, ends), scores, strict=True)
    ]


def above(scores: Sequence[Array], threshold: float) -> list[Array]:
    """Return which elements stay when all below a threshold go: bool arrays."""
    return [np.asarray(part >= threshold) for part in scores]


def fours(scores: Array, channels: int | None = None) -> Array:
    """Return the 2:4 mask: of every four consecutive columns, the two with the highest scores stay.

    `channels` is how many columns each position of the kernel has: fours never span two positions,
    and columns that are left over at the end of one stay whole. bool [rows, columns].
    """
    rows, columns = scores.shape
    run = channels or columns
    assert columns % run == 0, "every position of a kernel has the same channels"
    whole = run - run % 4
    by_four = scores.reshape(rows, columns // run, run)[:, :, :whole]
    by_four = by_four.reshape(rows, columns // run, whole // 4, 4)
    best = np.argsort(-by_four, axis=-1, kind="stable")[..., :2]
    stays = np.zeros(by_four.shape, bool)
    np.put_along_axis(stays, best, values=True, axis=-1)
    mask = np.ones((rows, columns // run, run), bool)
    mask[:, :, :whole] = stays.reshape(rows, columns // run, whole)
    return mask.reshape(rows, columns)


def _largest(lines: Array, sparsity: float) -> Array:
    """Return which elements of each line stay: exactly the wanted count goes, ties as they come."""
    gone = round(sparsity * lines.shape[1])
    stays = np.ones(lines.shape, bool)
    if gone:
        least = np.argpartition(lines, gone - 1, axis=1)[:, :gone]
        np.put_along_axis(stays, least, values=False, axis=1)
    return stays
