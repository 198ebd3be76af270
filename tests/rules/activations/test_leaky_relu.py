import numpy as np
import pytest

from onnxopt.rules.activations import leaky_relu
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = [
    leaky_relu.fuse_max_to_leaky_relu,
    leaky_relu.fuse_where_to_prelu,
    leaky_relu.fuse_relus_to_prelu,
    leaky_relu.fuse_relu_difference_to_prelu,
    leaky_relu.fuse_abs_to_prelu,
]


def spelt(kind, slope, shape=(2, 3, 4)):
    g = Graph(17)
    x = g.input("x", *shape)
    if kind == "max":
        return g.model(g.Max(x, g.Mul(slope, x)))
    if kind == "where":
        return g.model(g.Where(g.Greater(x, 0.0), x, g.Mul(x, slope)))
    if kind == "where or equal":
        return g.model(g.Where(g.GreaterOrEqual(x, 0.0), x, g.Mul(x, slope)))
    if kind == "relus":
        return g.model(g.Add(g.Relu(x), g.Mul(g.Relu(g.Neg(x)), -slope)))
    if kind == "relu difference":
        return g.model(g.Sub(g.Relu(x), g.Mul(g.Relu(g.Neg(x)), slope)))
    return g.model(g.Add(g.Relu(x), g.Mul(g.Mul(slope, g.Sub(x, g.Abs(x))), 0.5)))


KINDS = ["max", "where", "where or equal", "relus", "relu difference", "abs"]


@pytest.mark.parametrize("kind", KINDS)
def test_one_slope(kind):
    assert_rewrites(RULES, spelt(kind, np.float64(0.1)), becomes=["LeakyRelu"])


@pytest.mark.parametrize("kind", KINDS[1:])
def test_a_slope_for_each_channel(kind):
    slopes = np.array([0.1, -0.5, 2.0]).reshape(3, 1)
    assert_rewrites(RULES, spelt(kind, slopes), becomes=["PRelu"])


def test_what_stays():
    for slope in (1.5, -0.1):
        assert_untouched(RULES, spelt("max", np.float64(slope)))
    for kind in KINDS:
        assert_untouched(RULES, spelt(kind, np.full((4, 1, 1, 1), 0.1)))
        assert_untouched(RULES, spelt(kind, np.full((3, 1), 0.1), shape=(2, 1, 4)))
