"""Factors of Gram matrices that never fail: what few samples say may be of low rank."""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array

RIDGE = 0.1
"""In mean diagonals, where nothing was held back to choose by: what did least harm to layers of
EfficientNet-Lite0, of other photographs than those it was fitted on."""
_BLOCK = 256
"""Rows that are mirrored at once, columns that are widened at once."""
LEAST_RIDGE = 1e-6
"""In mean diagonals: about what the float32 sums of a Gram matrix know of it."""


def ridged(gram: Array, ridge: float, level: float | None = None) -> tuple[Array, float]:
    """Return G + λ as float64 [columns, columns], and λ: `ridge` times `level`, the mean diagonal.

    It is never less than `LEAST_RIDGE`; a matrix of zeros becomes the identity: what was never
    there has nothing to say.
    """
    wide = np.array(gram, np.float64)
    if level is None:
        level = float(np.diagonal(wide).mean())
    added = max(ridge, LEAST_RIDGE) * level if level > 0 else 1.0
    wide.flat[:: len(wide) + 1] += added
    return wide, added


def cholesky(matrix: Array) -> Array:
    """Return the lower factor of a symmetric matrix, to which as little is added as that takes."""
    from scipy.linalg import LinAlgError
    from scipy.linalg import cholesky as factor

    level = float(np.abs(np.diagonal(matrix)).mean()) if len(matrix) else 0.0
    jitter = 0.0
    while True:
        try:
            tried = matrix if not jitter else matrix + jitter * np.eye(len(matrix))
            return np.asarray(factor(tried, lower=True, check_finite=False))
        except LinAlgError:
            assert np.isfinite(matrix).all(), "a Gram matrix holds NaN or infinity"
            jitter = max(10 * jitter, 1e-12 * level, np.finfo(np.float64).tiny)


def inverse(matrix: Array) -> Array:
    """Return the inverse of a positive definite matrix [columns, columns], float64.

    Memory: the matrix and two more of its size.
    """
    from scipy.linalg import get_lapack_funcs

    factor = cholesky(matrix)
    invert = get_lapack_funcs("potri", (factor,))
    found, _ = invert(factor, lower=1, overwrite_c=1)
    return _mirrored(found)


def _mirrored(lower: Array) -> Array:
    """Write the lower triangle of a matrix over the upper one, in place; return it."""
    for start in range(0, len(lower), _BLOCK):
        stop = min(start + _BLOCK, len(lower))
        lower[start:stop, stop:] = lower[stop:, start:stop].T
        corner = np.tril(lower[start:stop, start:stop])
        lower[start:stop, start:stop] = corner + np.tril(corner, -1).T
    return lower


def times(rows: Array, matrix: Array) -> Array:
    """Return rows @ matrix in float64; some columns of a float32 matrix are widened at once."""
    wide = np.asarray(rows, np.float64)
    made = np.empty((*wide.shape[:-1], matrix.shape[-1]))
    for start in range(0, matrix.shape[-1], _BLOCK):
        part = slice(start, start + _BLOCK)
        made[..., part] = wide @ matrix[..., part].astype(np.float64)
    return made


def solve(matrix: Array, right: Array) -> Array:
    """Return x with matrix x = right, for a positive definite matrix; right [columns, any]."""
    from scipy.linalg import cho_solve

    lower = (cholesky(matrix), True)
    return np.asarray(cho_solve(lower, right, check_finite=False))  # type: ignore[no-untyped-call]
