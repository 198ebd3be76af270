"""What an order of removal costs on held-out samples, and the ridge by which it costs least.

Few samples make a Gram matrix that promises too much. Losses on other ones say so, layer by layer:
of EfficientNet-Lite0 the first layers want a ridge of 0.03 mean diagonals, the last of 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights.evidence import Evidence, Reader
from onnxopt.pruning.weights.order import Removal, removal
from onnxopt.pruning.weights.refit import energies, noise, refit
from onnxopt.sweep.moments import Moments

RIDGES = (0.01, 0.1, 0.3, 1.0)
"""What `choose_order` tries, in mean diagonals: each takes an elimination and some refits."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The ridge and the order that lose least on held-out samples.

    `losses` are those on them when `counts` units stay, in the same order; `tried` is by every
    ridge the mean of 10 log10 of its losses, in dB.
    """

    ridge: float
    removal: Removal
    counts: tuple[int, ...]
    losses: Array
    tried: Mapping[float, float]


def choose_order(
    evidence: Evidence,
    held: Sequence[Moments],
    counts: Sequence[int],
    importance: str = "auto",
    *,
    ridges: Sequence[float] = RIDGES,
    keep: float = 0.0,
    generator: np.random.Generator | None = None,
) -> Chosen:
    """Return the ridge, and the order by it, that lose least on `held`: moments by reader.

    `counts` are the numbers of units that might stay: all are refitted to and judged by. For
    `held`, see `refit.choose_ridge`; the other arguments are those of `removal`.
    """
    found: dict[float, tuple[Removal, Array]] = {}
    for ridge in ridges:
        order = removal(evidence, importance, ridge, keep=keep, generator=generator)
        found[ridge] = (order, held_losses(evidence, order, held, counts, ridge, keep=keep))
    tried = {
        ridge: float(np.mean(10 * np.log10(np.maximum(losses, 1e-12)))) if len(losses) else 0.0
        for ridge, (_, losses) in found.items()
    }
    best = min(tried, key=lambda ridge: tried[ridge])
    order, losses = found[best]
    return Chosen(ridge=best, removal=order, counts=tuple(counts), losses=losses, tried=tried)


def held_losses(
    evidence: Evidence,
    order: Removal,
    held: Sequence[Moments],
    counts: Sequence[int],
    ridge: float,
    *,
    keep: float = 0.0,
) -> Array:
    """Return what the readers lose on `held`, moments by reader, when `counts` units stay.

    Each is refitted on its own moments. Losses are as in `Removal`, [counts].
    """
    losses = np.zeros(len(counts))
    for reader, moments in zip(evidence.readers, held, strict=True):
        for place, count in enumerate(counts):
            stays = order.kept(count)
            kept = (reader.units < 0) | stays[np.maximum(reader.units, 0)]
            losses[place] += _lost(reader, kept, moments, ridge, keep)
    return losses


def _lost(reader: Reader, kept: Array, held: Moments, ridge: float, keep: float) -> float:
    if not reader.seen or reader.moments is None or not held.gram.size:
        whole = np.square(reader.rows, dtype=np.float64)
        each = len(reader.rows) // len(np.atleast_2d(kept))
        gone = np.repeat(np.atleast_2d(~kept), each, axis=0)
        return float(whole[gone].sum() / (whole.sum() or 1.0))
    found = refit(reader.rows, kept, reader.moments, ridge=ridge, keep=keep)
    lost = noise(found.rows, found.shift, reader.rows, held)
    return float(max(lost.sum(), 0.0) / (energies(reader.rows, held).sum() or 1.0))
