"""Products and inverses of large matrices: in parts, and as exact as in one piece."""

import numpy as np
import pytest

from onnxopt.pruning.weights import factor


@pytest.mark.parametrize("size", [1, 255, 256, 700])
def test_an_inverse_is_symmetric_and_inverts(size):
    rng = np.random.default_rng(size)
    drawn = rng.standard_normal((size, 2 * size))
    matrix, added = factor.ridged((drawn @ drawn.T / size).astype(np.float32), 0.1)
    kept = matrix.copy()
    found = factor.inverse(matrix)
    assert added > 0
    np.testing.assert_array_equal(matrix, kept)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(found @ matrix, np.eye(size), atol=1e-9)


@pytest.mark.parametrize("shape", [(5, 300), (2, 5, 300)])
def test_products_in_parts_are_those_of_the_whole(shape):
    rng = np.random.default_rng(0)
    rows = rng.standard_normal(shape)
    matrix = rng.standard_normal((*shape[:-2], 300, 600)).astype(np.float32)
    found = factor.times(rows, matrix)
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, rows @ matrix.astype(np.float64), rtol=1e-12)
