import numpy as np
import pytest

from onnxopt.rules.attention import projections
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, random_feeds, run
from tests.rules.graphs import Graph

RULE = projections.fuse_projections_into_attention
LOSES = ["overridable", "half precision", "also an output", "read twice", "wrong constant"]
UNTYPED = ["also an output", "read twice"]


def finished(g, y, width=32):
    model = g.model(y)
    for size in (2, 5, width):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    return model


def attention(g, q, k, v, *more):
    return g.MultiHeadAttention(q, k, v, *more, domain="com.microsoft", num_heads=4, scale=0.3)


def layers(biases="qkv", tokens="xxx", widths=(32, 32, 32), mask=False):
    g = Graph()
    inputs = {name: g.input(name, 2, 5, 16) for name in sorted(set(tokens))}
    parts = []
    for name, source, width in zip("qkv", tokens, widths, strict=True):
        y = g.MatMul(inputs[source], g.weight(16, width))
        parts.append(g.Add(y, g.weight(width)) if name in biases else y)
    more = (None, None, g.input("mask", 2, 1, 5, 5)) if mask else ()
    return finished(g, attention(g, *parts, *more))


def split(order=(0, 1, 2), bias=True, sizes=(32, 32, 32)):
    g = Graph()
    y = g.MatMul(g.input("x", 2, 5, 16), g.weight(16, sum(sizes)))
    y = g.Add(y, g.weight(sum(sizes))) if bias else y
    parts = g.Split(y, np.array(sizes), axis=2, outputs=3)
    return finished(g, attention(g, *(parts[place] for place in order)))


@pytest.mark.parametrize("biases", ["qkv", "q", ""])
@pytest.mark.parametrize("mask", [False, True])
def test_three_layers_on_the_same_tokens(biases, mask):
    model = layers(biases, mask=mask)
    options = {"target": "cuda", "loses": LOSES, "without": UNTYPED}
    assert_rewrites(RULE, model, becomes=["Attention"], **options)


@pytest.mark.parametrize("bias", [True, False])
def test_one_layer_that_is_split(bias):
    model = split(bias=bias)
    options = {"target": "cuda", "loses": LOSES, "without": UNTYPED}
    result = assert_rewrites(RULE, model, becomes=["Attention"], **options)
    feeds = random_feeds(model)
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "model",
    [
        layers(tokens="xxy"),
        layers(widths=(32, 32, 16)),
        split(order=(1, 0, 2)),
        split(order=(0, 0, 2)),
        split(sizes=(16, 48, 32)),
    ],
)
def test_others_stay(model):
    assert_untouched(RULE, model, target="cuda")


def test_weights_that_others_read_are_not_copied():
    g = Graph()
    x, w = g.input("x", 2, 5, 16), g.weight(16, 32)
    q, k, v = g.MatMul(x, w), g.MatMul(x, g.weight(16, 32)), g.MatMul(x, g.weight(16, 32))
    g.MatMul(g.Relu(x), w)
    _, outcome = apply_rules(finished(g, attention(g, q, k, v)), [RULE], "cuda")
    assert not outcome.done
