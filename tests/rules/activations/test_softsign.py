import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.activations import softsign
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph


def example(opset=17, one=1.0, one_first=True, dtype=TensorProto.FLOAT):
    g = Graph(opset)
    x = g.input("x", 3, 4, dtype=dtype)
    magnitude = g.Abs(x)
    total = g.Add(one, magnitude) if one_first else g.Add(magnitude, one)
    return g, x, total


@pytest.mark.parametrize("opset", [7, 17, 22])
@pytest.mark.parametrize("one_first", [True, False])
def test_division_becomes_softsign(opset, one_first):
    g, x, total = example(opset, one_first=one_first)
    model = g.model(g.Div(x, total))
    assert_rewrites(softsign.fuse_softsign, model, becomes=["Softsign"])


def test_one_that_raises_the_rank_is_left_alone():
    g, x, total = example(one=np.ones((1, 1, 1)))
    assert_untouched(softsign.fuse_softsign, g.model(g.Div(x, total)))


def test_other_expressions_are_left_alone():
    for one in (2.0, 1.001):
        g, x, total = example(one=one)
        assert_untouched(softsign.fuse_softsign, g.model(g.Div(x, total)))
    g, x, total = example()
    assert_untouched(softsign.fuse_softsign, g.model(g.Div(total, x)))
    g, x, total = example()
    assert_untouched(softsign.fuse_softsign, g.model(g.Div(g.input("y", 3, 4), total)))


def test_types_without_a_kernel_stay():
    for dtype, name in ((TensorProto.DOUBLE, "float64"), (TensorProto.INT64, "int64")):
        g = Graph(17)
        x = g.input("x", 3, 4, dtype=dtype)
        total = g.Add(g.const(1, name), g.Abs(x))
        assert_untouched(softsign.fuse_softsign, g.model(g.Div(x, total), dtype=dtype))
