"""A weight as the product of two thinner ones, so that the layer's output stays as near as it can.

x is what a layer gets in the original model, q what it gets in the changed one; G = E[q qᵀ] and
C = E[x qᵀ] are about the means, λ is a ridge in mean diagonals of G. The best weight of all ranks,

    B = W + (W (C - G) + E)(G + λ')⁻¹,

is pulled towards W; E = E[e qᵀ] is for what is off in that which is added to the output. Cut off
where the error is counted it becomes that of reduced-rank regression (Izenman, 1975): in

    E‖B q - U V q‖² + λ ‖B - U V‖² = ‖(B - U V) L‖²,   L Lᵀ = G + λ,

with the singular values σ of B L, in the directions P of outputs,

    U = P_r,   V = P_rᵀ B,   what is lost = Σ_{i > r} σᵢ².

One decomposition tells every rank. The product is cheaper than W [o, k] while r (o + k) < o k.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights import factor as factors
from onnxopt.pruning.weights.refit import noise, shifted
from onnxopt.sweep.moments import Moments

_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, kw_only=True, eq=False)
class Spectrum:
    """All products of two factors that a weight can be cut off to, best first.

    `up` [outputs, most] and `down` [most, columns] hold the directions in the order of what each
    adds, `lost` [most + 1] is the error of the ranks 0, 1, … beside what B itself loses, and
    `energy` that of the output about its mean, of the original model.
    """

    up: Array
    down: Array
    lost: Array
    energy: float

    @property
    def most(self) -> int:
        """The rank from which on nothing is lost."""
        return len(self.down)


@dataclass(frozen=True, kw_only=True, eq=False)
class Factors:
    """W ≈ up · down, [outputs, rank] and [rank, columns]; `shift` [outputs] is for the bias."""

    up: Array
    down: Array
    shift: Array

    @property
    def rank(self) -> int:
        """How many directions there are between the two."""
        return len(self.down)


@dataclass(frozen=True, kw_only=True, eq=False)
class Gap:
    """What a layer's output should make up for besides its own: e, off in what is added to it.

    `cross` is E[e qᵀ] about the means, [outputs, columns], and `mean` E[e], [outputs].
    """

    cross: Array
    mean: Array


def spectrum(
    rows: Array,
    moments: Moments,
    ridge: float = 0.03,
    pull: float = 1.0,
    *,
    weights: Array | None = None,
    gap: Gap | None = None,
) -> Spectrum:
    """Return all ranks of a weight [outputs, columns] whose input is one group.

    `ridge` is λ where the error is counted, `pull` where W is changed to make up for what is off:
    infinite, and it is not changed. Each output counts by the square of its `weights` [outputs].
    """
    assert len(moments.gram) == 1, "a layer in groups has a matrix for each"
    gram, cross = moments.centred()
    wide = np.asarray(rows, np.float64)
    scale = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    metric, _ = factors.ridged(gram[0], ridge)
    if np.isfinite(pull):
        off = wide @ (cross[0].astype(np.float64) - gram[0])
        if gap is not None:
            off = off + gap.cross
        wide = wide + factors.solve(factors.ridged(gram[0], pull)[0], off.T).T
    scaled = wide * scale[:, None]
    up, values = _directions(scaled, metric)
    dropped = np.concatenate([np.cumsum(values[::-1])[::-1], [0.0]])
    energy = float(np.sum(energies(rows, moments) * scale**2))
    return Spectrum(up=up / scale[:, None], down=up.T @ scaled, lost=dropped, energy=energy)


def energies(rows: Array, moments: Moments) -> Array:
    """Return the energy of each output of the original model about its mean: [outputs].

    What is off in the input counts to the first order only: moments do not tell more.
    """
    gram, cross = moments.centred()
    both = 2 * cross[0].astype(np.float64) - gram[0]
    return np.asarray(np.maximum(np.sum((rows @ both) * rows, axis=1), 0.0))


def _directions(wide: Array, metric: Array) -> tuple[Array, Array]:
    """Return directions of outputs [outputs, most] and the squares of their singular values."""
    from scipy.linalg import eigh

    outputs, columns = wide.shape
    if outputs <= columns:
        squares, up = eigh(wide @ metric @ wide.T)
        return up[:, ::-1], np.maximum(squares[::-1], 0.0)
    # The smaller matrix has the same values; its directions are turned to those of outputs.
    lower = factors.cholesky(metric)
    whitened = wide @ lower
    squares, right = eigh(whitened.T @ whitened)
    squares = np.maximum(squares[::-1], 0.0)
    found, _ = np.linalg.qr(whitened @ right[:, ::-1])
    return found, squares


def factor(
    rows: Array, moments: Moments, rank: int, ridge: float = 0.03, pull: float = 1.0
) -> Factors:
    """Return the best factors of a rank, and what the bias has to make up for."""
    return cut_off(rows, moments, spectrum(rows, moments, ridge, pull), rank)


def cut_off(
    rows: Array, moments: Moments, found: Spectrum, rank: int, gap: Gap | None = None
) -> Factors:
    """Return the factors of one rank of a spectrum."""
    up, down = found.up[:, :rank], found.down[:rank]
    shift = shifted(rows, up @ down, moments)
    return Factors(up=up, down=down, shift=shift if gap is None else shift + gap.mean)


def lost(rows: Array, moments: Moments, made: Factors) -> float:
    """Return the error of factors over the energy of the output, on samples of their own.

    What is off in the input already, and no weight changes, is left out: see `refit.noise`.
    """
    error = noise(made.up @ made.down, made.shift, rows, moments)
    return float(error.sum()) / max(float(energies(rows, moments).sum()), _TINY)


def break_even(outputs: int, columns: int) -> int:
    """Return the highest rank whose factors take fewer multiplications than the weight."""
    return max((outputs * columns - 1) // (outputs + columns), 0)
