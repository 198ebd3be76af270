"""In which order the units of a group go, and what is lost at every width.

`obs` goes backwards, the unit that costs least first, and counts again each time what the others
cost now: two that say the same both cost nothing, until one of them is gone. All other importances
are asked once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights.elimination import Elimination
from onnxopt.pruning.weights.evidence import Evidence, Panel
from onnxopt.pruning.weights.factor import RIDGE
from onnxopt.pruning.weights.importance import IMPORTANCES, summed


@dataclass(frozen=True, kw_only=True, eq=False)
class Removal:
    """Units in the order in which they go, [size], and the loss with the first n gone, [size + 1].

    A loss is E‖W x - W' q‖² over E‖W x‖² of the readers' outputs, summed over readers; it never
    falls when more is gone.
    """

    order: Array
    losses: Array

    def kept(self, count: int) -> Array:
        """Return which units stay when `count` do: bool [size]."""
        stays = np.ones(len(self.order), bool)
        stays[self.order[: len(self.order) - count]] = False
        return stays


def removal(
    evidence: Evidence,
    importance: str = "auto",
    ridge: float = RIDGE,
    *,
    refit: bool = True,
    keep: float = 0.0,
    generator: np.random.Generator | None = None,
) -> Removal:
    """Return the order in which units go by an importance of `prune_config.IMPORTANCES`.

    Without `refit` the losses are those of columns that are set to zero while all else stays, the
    bias included. `ridge`, in mean diagonals, pulls towards the rows as they are; `keep` is the
    share of the means' square that counts although the bias is corrected. `auto` is `obs` where
    second moments are known, else `l2`. `generator` is what `random` draws from.
    """
    if importance == "auto":
        importance = "obs" if any(reader.seen for reader in evidence.readers) else "l2"
    if importance == "obs" and evidence.readers:
        found = _backwards(evidence, ridge, keep)
        return found if refit else _with_zeros(evidence, found.order)
    scores = IMPORTANCES[importance](evidence, generator or np.random.default_rng(0))
    order = np.argsort(scores, kind="stable")
    if not evidence.readers:
        share = np.square(scores[order]) / (np.square(scores).sum() or 1.0)
        return Removal(order=order, losses=np.concatenate([[0.0], np.cumsum(share)]))
    return _in_order(evidence, order, ridge, keep) if refit else _with_zeros(evidence, order)


def _backwards(evidence: Evidence, ridge: float, keep: float) -> Removal:
    elimination = Elimination(evidence, ridge, keep=keep)
    order, losses = [], [elimination.loss]
    for _ in range(evidence.size):
        unit = int(np.argmin(elimination.scores))
        elimination.remove(unit)
        order.append(unit)
        losses.append(elimination.loss)
    return _checked(np.array(order, np.int64), np.array(losses))


def _in_order(evidence: Evidence, order: Array, ridge: float, keep: float) -> Removal:
    elimination = Elimination(evidence, ridge, keep=keep)
    losses = [elimination.loss]
    for unit in order:
        elimination.remove(int(unit))
        losses.append(elimination.loss)
    return _checked(order, np.array(losses))


def _checked(order: Array, losses: Array) -> Removal:
    # A ridge costs a little even where nothing is gone, and may cost less when something is.
    return Removal(order=order, losses=np.maximum.accumulate(np.maximum(losses, 0.0)))


def _with_zeros(evidence: Evidence, order: Array) -> Removal:
    """Return the losses when columns become zero and nothing makes up for them."""
    losses = np.zeros(len(order) + 1)
    for reader in evidence.readers:
        parts = [_zeroed(panel, order) for panel in reader.panels(1.0)]
        energy = sum(_energy(panel) for panel in reader.panels())
        losses += sum(parts) / energy if energy > 0 else 0.0
    return Removal(order=order, losses=np.maximum(losses, 0.0))


def _zeroed(panel: Panel, order: Array) -> Array:
    """Return E‖W_R q_R + W (x - q)‖², less what does not change, with the first n units gone."""
    size, rows = len(order), np.asarray(panel.rows, np.float64)
    if panel.gram is None or panel.cross is None:
        lost = summed(np.square(rows).sum(axis=0), panel.units, size)[order]
        return np.concatenate([[0.0], np.cumsum(lost)])
    from scipy.sparse import csr_array

    mine = np.flatnonzero(panel.units >= 0)
    place = (panel.units[mine], mine)
    ones = np.ones(len(mine))
    member = csr_array((ones, place), shape=(size, rows.shape[1]))  # type: ignore[no-untyped-call]
    between = member @ (member @ ((rows.T @ rows) * panel.gram)).T
    between = between[np.ix_(order, order)]
    alone = np.diagonal(between)
    gained = 2 * np.tril(between, -1).sum(axis=1) + alone
    off = np.sum((rows @ (panel.cross - panel.gram)) * rows, axis=0)
    gained = gained + 2 * summed(off, panel.units, size)[order]
    return np.concatenate([[0.0], np.cumsum(gained)])


def _energy(panel: Panel) -> float:
    rows = np.asarray(panel.rows, np.float64)
    if panel.gram is None or panel.cross is None:
        return float(np.square(rows).sum())
    return float(np.sum((rows @ (2 * panel.cross - panel.gram)) * rows))
