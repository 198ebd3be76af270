"""All readers of a group at once: what it costs them when a unit goes, and what it has cost so far.

The loss of a reader is E‖W x - W' q‖² over E‖W x‖², both about the means where the bias is to be
corrected: 0 is nothing lost, 1 all. A group with several readers loses the sum.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights import factor
from onnxopt.pruning.weights.downdate import Alone, Downdate
from onnxopt.pruning.weights.evidence import Evidence, Panel


class Elimination:
    """What is left of a group; `scores` [size] is what each unit would cost if it went next."""

    def __init__(self, evidence: Evidence, ridge: float, *, keep: float = 0.0) -> None:
        self.scores = np.zeros(evidence.size)
        self._parts: list[tuple[Downdate | Alone, float]] = []
        self._by_unit: list[list[int]] = [[] for _ in range(evidence.size)]
        self.loss = 0.0
        for reader in evidence.readers:
            begun = [_begin(panel, ridge) for panel in reader.panels(keep)]
            energy = sum(power for _, _, power in begun)
            share = 1.0 / energy if energy > 0 else 0.0
            for part, left, _ in begun:
                for name in part.names:
                    self._by_unit[name].append(len(self._parts))
                self._parts.append((part, share))
                self.scores[part.names] += share * part.costs
                self.loss += share * (left + part.rise)

    def remove(self, unit: int) -> None:
        """Take a unit out of all readers."""
        for number in self._by_unit[unit]:
            part, share = self._parts[number]
            self.scores[part.names] -= share * part.costs
            self.loss -= share * part.rise
            part.remove(unit)
            self.scores[part.names] += share * part.costs
            self.loss += share * part.rise
        self.scores[unit] = np.inf


def _begin(panel: Panel, ridge: float) -> tuple[Downdate | Alone, float, float]:
    """Return a panel with all its columns, J at the start, and the energy of its output."""
    rows = np.asarray(panel.rows, np.float64)
    if panel.gram is None or panel.cross is None:
        return Alone(rows, panel.units), 0.0, float(np.square(rows).sum())
    # Matrices of [columns, columns] are large: one after the other, none kept longer than needed.
    wanted = factor.times(rows, panel.cross)
    energy = float(2 * np.sum(wanted * rows) - np.sum(factor.times(rows, panel.gram) * rows))
    hessian, added = factor.ridged(panel.gram, ridge)
    inverse = factor.inverse(hessian)
    del hessian
    aimed = wanted + added * rows
    weights = aimed @ inverse
    explained = float(np.sum(weights * aimed))
    part = Downdate(inverse, *_fewer(weights, rows), panel.units, added)
    # Of an input that is off, moments tell the energy of the output but for E‖W x - W q‖².
    energy = max(energy, explained - part.rise)
    return part, energy - explained, energy


def _fewer(weights: Array, rows: Array) -> tuple[Array, Array]:
    """Return no more rows than columns, with the same products of columns."""
    if len(weights) <= weights.shape[1]:
        return weights, rows
    turn, fewer = np.linalg.qr(weights)
    return fewer, np.asarray(turn.T @ rows)
