import numpy as np
import pytest

from onnxopt.rules.attention import fused_biases
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

LOSES = ["overridable", "half precision"]


def attention(key=None, value=None, *, behind=True, mask=False):
    g = Graph()
    q, k, v = (g.input(name, 2, 5, 32) for name in "qkv")
    k = k if key is None else g.Add(k, g.weight(*key))
    v = v if value is None else g.Add(g.weight(*value), v)
    more = (None, None, g.input("mask", 2, 1, 5, 5)) if mask else ()
    y = g.MultiHeadAttention(q, k, v, *more, domain="com.microsoft", num_heads=4, scale=0.3)
    if behind:
        y = g.Add(g.MatMul(y, g.weight(32, 16)), g.weight(16))
    model = g.model(y)
    for size in (2, 5, 16 if behind else 32):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    return model


@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("shape", [(32,), (1, 32), (1, 1, 32)])
def test_a_bias_of_the_keys_goes(shape, mask):
    model = attention(key=shape, behind=False, mask=mask)
    rule = fused_biases.drop_key_bias_of_fused
    assert_rewrites(rule, model, becomes=["MultiHeadAttention"], target="cpu", loses=LOSES)


@pytest.mark.parametrize("mask", [False, True])
def test_a_bias_of_the_values_goes_into_the_next(mask):
    model = attention(value=(32,), mask=mask)
    wanted = ["MultiHeadAttention", "MatMul", "Add"]
    rule = fused_biases.fold_value_bias_of_fused
    unknown = ["also an output", "read twice"]  # onnx infers no type for the outputs these add
    assert_rewrites(rule, model, becomes=wanted, target="cpu", loses=LOSES, without=unknown)


@pytest.mark.parametrize("shape", [(5, 32), (5, 1), (2, 1, 32), (1,)])
def test_summands_that_are_no_rows_stay(shape):
    rules = [fused_biases.drop_key_bias_of_fused, fused_biases.fold_value_bias_of_fused]
    assert_untouched(rules, attention(key=shape), target="cpu")
    assert_untouched(rules, attention(value=shape), target="cpu")


def test_infinite_biases_stay():
    g = Graph()
    q, k, v = (g.input(name, 2, 5, 8) for name in "qkv")
    k = g.Add(k, g.const(np.array([np.inf, *[0.0] * 7])))
    y = g.MultiHeadAttention(q, k, v, domain="com.microsoft", num_heads=2)
    assert_untouched(fused_biases.drop_key_bias_of_fused, g.model(y), target="cpu")
