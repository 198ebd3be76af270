"""How much each unit of a group matters, as interchangeable functions: what matters least goes.

All return float64 [size]. Where nothing was seen of what a reader gets, every column counts the
same; where a group has no reader, the functions that look at readers fall back on `l2`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights.elimination import Elimination
from onnxopt.pruning.weights.evidence import Evidence
from onnxopt.pruning.weights.factor import RIDGE

Importance = Callable[[Evidence, np.random.Generator], Array]


def l1(evidence: Evidence, generator: np.random.Generator) -> Array:
    """Sum |w| over the rows of writers and the columns of readers.

    Li et al., "Pruning filters for efficient ConvNets" (ICLR 2017), over the whole group as in
    Fang et al., "DepGraph" (CVPR 2023).
    """
    del generator
    return _of_weights(evidence, np.abs)


def l2(evidence: Evidence, generator: np.random.Generator) -> Array:
    """Return the L2 norm of the rows of writers and the columns of readers; sources as for `l1`."""
    del generator
    return np.sqrt(_of_weights(evidence, np.square))


def activation(evidence: Evidence, generator: np.random.Generator) -> Array:
    """Sum |w| E|a| over what reads a unit: how much of its readers' outputs it makes up at most.

    Where E|a| was not measured it is taken as √E[a²], which is more wherever |a| varies.
    """
    if not evidence.readers:
        return l2(evidence, generator)
    found = np.zeros(evidence.size)
    for reader in evidence.readers:
        for panel in reader.panels():
            sums = np.abs(panel.rows).sum(axis=0) * panel.absolute
            found += summed(sums, panel.units, evidence.size)
    return found


def wanda(evidence: Evidence, generator: np.random.Generator) -> Array:
    """Return the norm of |w| ‖a‖₂ over what reads a unit.

    Sun et al., "A simple and effective pruning approach for large language models" (ICLR 2024)
    score single weights so; their squares add up to what a unit puts into its readers' outputs.
    """
    if not evidence.readers:
        return l2(evidence, generator)
    found = np.zeros(evidence.size)
    for reader in evidence.readers:
        for panel in reader.panels():
            sums = np.square(panel.rows, dtype=np.float64).sum(axis=0) * panel.power
            found += summed(sums, panel.units, evidence.size)
    return np.sqrt(found)


def obs(evidence: Evidence, generator: np.random.Generator, ridge: float = RIDGE) -> Array:
    """Return what goes missing of the readers' outputs when a unit goes and all others make up.

    tr(W_b [(G⁻¹)_bb]⁻¹ W_bᵀ) for the columns b of a unit, relative to the energy of the output and
    summed over readers: Hassibi and Stork, "Second order derivatives for network pruning: optimal
    brain surgeon" (NIPS 1992), of the layer's squared error. It counts one unit at a time; `order`
    counts them as they go.
    """
    if not evidence.readers:
        return l2(evidence, generator)
    return Elimination(evidence, ridge).scores.copy()


def batchnorm(evidence: Evidence, generator: np.random.Generator) -> Array:
    """Return |γ| of the BatchNormalization that follows.

    Liu et al., "Learning efficient convolutional networks through network slimming" (ICCV 2017).
    Where there is none, or it was folded, the norms of the writers' rows hold its scale: `l2` of
    the writers alone.
    """
    if evidence.scales is not None:
        return np.abs(np.asarray(evidence.scales, np.float64))
    writers = Evidence(size=evidence.size, writers=evidence.writers)
    return l2(writers if evidence.writers else evidence, generator)


def random(evidence: Evidence, generator: np.random.Generator) -> Array:
    """Return numbers that know nothing: the control that every other importance has to beat."""
    return generator.random(evidence.size)


IMPORTANCES: dict[str, Importance] = {
    "l1": l1,
    "l2": l2,
    "activation": activation,
    "wanda": wanda,
    "obs": obs,
    "batchnorm": batchnorm,
    "random": random,
}


def summed(values: Array, units: Array, size: int) -> Array:
    """Return the sum of the values of each unit: [size]; units below 0 are left out."""
    mine = units >= 0
    return np.bincount(units[mine], np.asarray(values, np.float64)[mine], minlength=size)


def _of_weights(evidence: Evidence, of: Callable[[Any], Array]) -> Array:
    found = np.zeros(evidence.size)
    for writer in evidence.writers:
        found += summed(of(writer.rows).sum(axis=1), writer.units, evidence.size)
    for reader in evidence.readers:
        for panel in reader.panels():
            found += summed(of(panel.rows).sum(axis=0), panel.units, evidence.size)
    return found
