import numpy as np
import pytest

from onnxopt.graph.edges import Edge
from onnxopt.quantizing.placement.plan import Weight
from onnxopt.quantizing.spec import Spec
from onnxopt.quantizing.weights.matrix import from_rows, to_rows


def weight(axis, columns, groups=1):
    spec = Spec(format="int8", symmetric=True, axis=axis)
    return Weight(edge=Edge("n", 1), tensor="w", spec=spec, columns=columns, groups=groups)


CASES = {
    "conv": ((4, 3, 2, 5), weight(0, (2, 3, 1))),
    "conv of sequences": ((4, 3, 7), weight(0, (2, 1))),
    "depthwise": ((6, 1, 3, 3), weight(0, (2, 3, 1), groups=6)),
    "transposed conv": ((3, 4, 2, 2), weight(1, (2, 3, 0))),
    "gemm": ((5, 7), weight(1, (0,))),
    "gemm, transposed": ((5, 7), weight(0, (1,))),
    "one scale for all": ((5, 7), weight(None, (0,))),
    "axes counted from behind": ((4, 3, 2, 5), weight(-4, (-2, -1, -3))),
}


@pytest.mark.parametrize(("shape", "weight"), CASES.values(), ids=CASES)
def test_a_matrix_goes_back_to_its_array(shape, weight):
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    rows = to_rows(array, weight)
    assert rows.ndim == 2
    assert not np.shares_memory(rows, array)
    np.testing.assert_array_equal(from_rows(rows, shape, weight), array)


def test_a_convs_columns_are_in_the_order_of_kernels():
    array = np.random.default_rng(0).normal(size=(4, 3, 2, 5))
    rows = to_rows(array, weight(0, (2, 3, 1)))
    place = np.ravel_multi_index((1, 4, 2), (2, 5, 3))
    assert rows[3, place] == array[3, 2, 1, 4]


def test_gemm_and_its_transpose_have_the_same_rows():
    array = np.random.default_rng(0).normal(size=(5, 7))
    np.testing.assert_array_equal(
        to_rows(array, weight(1, (0,))), to_rows(array.T, weight(0, (1,)))
    )


def test_rows_are_what_multiplies_an_input():
    array, x = np.random.default_rng(0).normal(size=(5, 7)), np.ones((2, 5))
    np.testing.assert_allclose(x @ to_rows(array, weight(1, (0,))).T, x @ array)
