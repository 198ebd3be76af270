"""The error of a matrix of weights at a unit's output, from second moments of the unit's input.

    E‖Wx - Qx‖² = Σ_rows d G dᵀ,   d = w - q,   G = E[x xᵀ]

so that no sample has to be kept. Wherever a Gram matrix is asked for, it has one of these forms:

    None                           every column counts the same
    [columns]                      its diagonal
    [columns, columns]
    [groups, columns, columns]     one for each group; a group's rows follow each other

Where the bias is corrected afterwards (E[Wx] - E[Qx] is added to it), the mean of the error costs
nothing: take G = E[x xᵀ] - E[x] E[x]ᵀ.

With x̂, the input as the quantized layers in front make it, and e = x - x̂,

    E[(w x - q x̂)²] = E[(w e)²] + 2 w E[e x̂ᵀ] dᵀ + d E[x̂ x̂ᵀ] dᵀ,

which is least, of all real numbers, at t = w + w E[e x̂ᵀ] E[x̂ x̂ᵀ]⁻¹: the same problem with
another target. It is written in e because float32 has no room for differences of squares.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array


def times(rows: Array, gram: Array | None) -> Array:
    """Return each row times the (symmetric) Gram matrix of its group: [rows, columns]."""
    if gram is None:
        return rows
    if gram.ndim == 1:
        return np.asarray(rows * gram)
    if gram.ndim == 2:
        return np.asarray(rows @ gram)
    grouped = rows.reshape(len(gram), -1, rows.shape[1])
    return np.asarray(grouped @ gram).reshape(rows.shape)


def squared(rows: Array, gram: Array | None) -> Array:
    """Return r G rᵀ of each row, which is E[(r x)²]: [rows], never below 0."""
    return np.asarray(np.maximum(np.einsum("rc,rc->r", times(rows, gram), rows), 0))


def error(rows: Array, integers: Array, scales: Array, gram: Array | None = None) -> Array:
    """Return the SQNR of each row's output in dB: [rows], +inf where nothing is lost."""
    lost = squared(rows - integers * scales[:, None], gram)
    kept = squared(rows, gram)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(lost > 0, 10 * np.log10(kept / lost), np.inf))


def diagonal(gram: Array | None) -> Array | None:
    """Return the diagonal: [columns] or [groups, columns]."""
    if gram is None or gram.ndim == 1:
        return gram
    return np.asarray(np.diagonal(gram, axis1=-2, axis2=-1))


def full(gram: Array | None, columns: int) -> Array:
    """Return the Gram matrix in its last form, of one group where it was of no groups."""
    if gram is None:
        gram = np.ones(columns, np.float32)
    if gram.ndim == 1:
        gram = np.diag(gram)
    return np.asarray(gram if gram.ndim == 3 else gram[None])


def shrunk(gram: Array, share: float = 0.0, ridge: float = 0.0) -> Array:
    """Return (1 - share) G + share diag(G) + ridge: what few samples say is half believed.

    `share` doubts what they say of pairs of inputs; `ridge`, in mean diagonals, that an input is
    as good as never there.
    """
    place = np.arange(gram.shape[-1])
    level = np.asarray(gram if gram.ndim == 1 else np.diagonal(gram, axis1=-2, axis2=-1))
    level = level + ridge * level.mean(axis=-1, keepdims=True)
    if gram.ndim == 1:
        return np.asarray(level, gram.dtype)
    pulled = np.asarray(gram * (1 - share), gram.dtype)
    pulled[..., place, place] = level
    return pulled


@dataclass(frozen=True, kw_only=True, eq=False)
class Moments:
    """Second moments of a unit's input over some samples.

    `gram` is E[x̂ x̂ᵀ] of the input x̂ that the unit gets. `off` is E[(x - x̂) x̂ᵀ], x the input in
    the float model, of the form [columns, columns] or with groups; None where x̂ is x.
    """

    gram: Array
    off: Array | None = None

    def lost(self, rows: Array, made: Array) -> Array:
        """Return E[(w x - m x̂)²] of each row w and what was made of it, m: [rows].

        That is less E[(w x - w x̂)²], which no choice of m changes: it may be negative.
        """
        difference = rows - made
        lost = squared(difference, self.gram)
        if self.off is None:
            return lost
        return np.asarray(lost + 2 * np.einsum("rc,rc->r", times(rows, self.off), difference))


def target(rows: Array, moments: Moments, ridge: float) -> Array:
    """Return the rows t that bring an input which is off already nearest to the float output.

    `ridge`, in mean diagonals of the Gram matrix, pulls towards `rows`.
    """
    if moments.off is None:
        return rows
    columns = rows.shape[1]
    gram = full(shrunk(full(moments.gram, columns), ridge=ridge), columns).astype(np.float64)
    place = np.arange(columns)
    # A group whose input was always 0 keeps its rows.
    gram[:, place, place] += np.where(gram.any(axis=(1, 2)), 0.0, 1.0)[:, None]
    wanted = times(rows.astype(np.float64), moments.off).reshape(len(gram), -1, columns)
    moved = np.linalg.solve(gram, wanted.transpose(0, 2, 1)).transpose(0, 2, 1)
    return np.asarray(rows + moved.reshape(rows.shape), rows.dtype)
