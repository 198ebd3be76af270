"""Masks that are found by going back and forth between what is near and what is allowed.

Meng, Behdin, Wang and Mazumder, "ALPS" (NeurIPS 2024), by the method of multipliers (Boyd et al.,
"Distributed optimization and statistical learning", 2011): X is free and near the rows W, D has the
zeros, V remembers how they differ, and ρ, which grows, brings them together:

    X = (W H - V + ρ D) (H + ρ)⁻¹       D = X + V / ρ where the mask of it is true, else 0
    V = V + ρ (X - D)

All columns make up for each other from the start, where one way from left to right decides on each
four without knowing what becomes of those behind. Columns are scaled so that H has ones on its
diagonal. With H = Q E Qᵀ a step takes two products, which float32 does well enough for a mask.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxopt.arrays import Array

Project = Callable[[Array], Array]
"""Tells by how much each element matters which stay: bool [rows, columns]."""
STEPS = 60
_FIRST, _GROWTH, _EVERY = 0.003, 1.25, 2
"""ρ at first, by what it grows, and in how many steps: from next to nothing to more than 1, which
the layers of EfficientNet-Lite0 were found to like; others that do so come within 0.07 dB."""


def split(
    rows: Array, hessian: Array, start: Array, project: Project, steps: int = STEPS
) -> tuple[Array, Array]:
    """Return rows with zeros that are near `rows`, and which of their elements were kept.

    `hessian` [groups, columns, columns] is positive definite. `start` [rows, columns] is what was
    found before, `project` is given [rows, columns]. What is returned has not settled yet where
    `steps` are few: refit it.
    """
    shape = (len(hessian), -1, rows.shape[1])
    scale = np.sqrt(np.einsum("gcc->gc", hessian))[:, None, :]
    scaled = hessian / scale / scale.transpose(0, 2, 1)
    wide = rows.reshape(shape) * scale
    energies, bases = (part.astype(np.float32) for part in np.linalg.eigh(scaled))
    turned = np.ascontiguousarray(bases.transpose(0, 2, 1))
    aim = (wide @ scaled).astype(np.float32)
    allowed = (start.reshape(shape) * scale).astype(np.float32)
    apart = np.zeros_like(aim)
    kept = np.ones(rows.shape, bool)
    rate = np.float32(_FIRST)
    for step in range(1, steps + 1):
        near = ((aim - apart + rate * allowed) @ bases / (energies[:, None] + rate)) @ turned
        moved = near + apart / rate
        kept = project(np.abs(moved).reshape(rows.shape))
        allowed = np.where(kept.reshape(shape), moved, np.float32(0))
        apart += rate * (near - allowed)
        if step % _EVERY == 0:
            rate *= np.float32(_GROWTH)
    found = (allowed / scale).reshape(rows.shape)
    return np.where(kept, found, 0.0), kept
