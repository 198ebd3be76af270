"""The affine map that comes nearest to what a block makes, from moments of its entry and exit.

With q at the entry and x at the exit, rows of a few samples, the map y = M q + t that has the least

    E‖x - M q - t‖² + λ ‖M - D‖²,   λ = ridge · tr(G) / C,

is M = D + (E[x qᵀ] - D G)(G + λ)⁻¹ about the means, G = E[q qᵀ], and t = E[x] - M E[q]. D is the
scale of each channel alone, so that what few samples say is pulled towards the cheaper map and not
towards nothing. Each row of M is found by itself: no weights on the channels of x would change it,
so that those of a LayerNorm that lie far out count in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.blocks.plan import Affine, Block
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.patches import multiplied

RIDGES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Shares of the mean diagonal that are tried on samples which were held back."""
_SCALE_RIDGE = 0.01
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Fit:
    """The maps of a block, and the share of the exit's variance that each loses where held back.

    `lost_identity` is what the entry itself would lose.
    """

    block: Block
    scale: Affine
    full: Affine
    ridge: float
    lost_identity: float
    lost_scale: float
    lost_full: float


def rows_of(array: Array, block: Block) -> Array:
    """Return an entry or exit as [1, rows, channels]; some rows where there are very many."""
    return multiplied(np.moveaxis(array, block.axis, -1).astype(np.float32, copy=False))


def fit(block: Block, seen: Moments, held: Moments, ridges: Iterable[float] = RIDGES) -> Fit:
    """Return the best maps by two sets of samples: one to fit by, one to choose the ridge by.

    Of the moments, `gram` and `seen` are the entry's, `mean` and `power` the exit's. The maps are
    those of the first set alone: blocks are judged on the other, and a map that has seen it would
    look better than it is. Without samples that are held back, the ridge is the middle one.
    """
    tried = {ridge: full_map(seen, ridge) for ridge in ridges}
    judge = held if held.samples else seen
    lost = {ridge: residual(judge, found) for ridge, found in tried.items()}
    ridge = min(lost, key=lost.__getitem__) if held.samples else sorted(tried)[len(tried) // 2]
    scale = scale_map(seen)
    return Fit(
        block=block,
        scale=scale,
        full=tried[ridge],
        ridge=ridge,
        lost_identity=residual(judge, _identity(block.channels)),
        lost_scale=residual(judge, scale),
        lost_full=lost[ridge],
    )


def _identity(channels: int) -> Affine:
    return Affine(matrix=np.ones(channels), shift=np.zeros(channels))


def scale_map(moments: Moments) -> Affine:
    """Return the best scale and shift of each channel; one that hardly varies keeps scale 1."""
    gram, cross = (np.diagonal(part[0]).astype(np.float64) for part in _centred(moments))
    level = _SCALE_RIDGE * max(float(gram.mean()), _TINY)
    scale = (cross + level) / (gram + level)
    return Affine(matrix=scale, shift=moments.mean[0] - scale * moments.seen[0])


def full_map(moments: Moments, ridge: float) -> Affine:
    """Return the map of least squares, pulled towards the scale of each channel."""
    gram, cross = (part[0].astype(np.float64) for part in _centred(moments))
    base = scale_map(moments).matrix
    level = ridge * max(float(np.trace(gram)) / len(gram), _TINY)
    missing = cross - base[:, None] * gram
    pulled = gram + level * np.eye(len(gram))
    matrix = np.diag(base) + np.linalg.solve(pulled, missing.T).T
    return Affine(matrix=matrix, shift=moments.mean[0] - matrix @ moments.seen[0])


def residual(moments: Moments, patch: Affine) -> float:
    """Return the share of the exit's variance that a map loses: 0 is nothing, 1 all of it."""
    gram, cross = (part[0].astype(np.float64) for part in _centred(moments))
    matrix = patch.matrix if patch.full else np.diag(patch.matrix)
    whole = moments.power[0] - np.square(moments.mean[0])
    missed = moments.mean[0] - matrix @ moments.seen[0] - patch.shift
    explained = 2 * np.sum(matrix * cross) - np.sum((matrix @ gram) * matrix)
    lost = float(whole.sum() - explained + np.square(missed).sum())
    return max(lost, 0.0) / max(float(whole.sum()), _TINY)


def moments_of(channels: int) -> Moments:
    """Return moments of nothing, for pairs of exit and entry: 8 C² bytes."""
    return Moments.of(1, channels)


def _centred(moments: Moments) -> tuple[Array, Array]:
    return moments.centred()
