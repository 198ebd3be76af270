import pytest

from onnxopt.rules.norms import residual
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULE = residual.add_before_normalization_by_sum


def normalized(g, total, size=8):
    return g.LayerNormalization(total, g.weight(size), g.weight(size), axis=-1)


@pytest.mark.parametrize("shape", [(2, 3, 8), (6, 8)])
def test_a_residual_sum_is_spelt_as_sum(shape):
    g = Graph()
    x, y = g.input("x", *shape), g.input("y", *shape)
    model = g.model(normalized(g, g.Add(x, y)))
    wanted = ["Sum", "LayerNormalization"]
    assert_rewrites(RULE, model, becomes=wanted, target="cpu", loses=["half precision"])


def test_others_may_read_it_too():
    g = Graph()
    total = g.Add(g.input("x", 2, 3, 8), g.input("y", 2, 3, 8))
    model = g.model(normalized(g, total), g.Relu(total))
    assert_rewrites(RULE, model, target="cpu", loses=["half precision"])


def test_elsewhere_and_for_other_targets_it_stays():
    g = Graph()
    model = g.model(normalized(g, g.Add(g.input("x", 2, 3, 8), g.input("y", 2, 3, 8))))
    for target in ("portable", "cuda", "tensorrt"):
        assert_untouched(RULE, model, target=target)
    g = Graph()
    assert_untouched(RULE, g.model(normalized(g, g.Add(g.input("x", 2, 3, 8), g.weight(8)))))
    g = Graph()
    model = g.model(g.Relu(g.Add(g.input("x", 2, 3, 8), g.input("y", 2, 3, 8))))
    assert_untouched(RULE, model, target="cpu")
