import numpy as np
import pytest

from onnxopt.rules.attention import biases as attention_bias
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (attention_bias.drop_key_bias, attention_bias.fold_value_bias_into_output)
HEADS = np.array([2, 5, 2, 4])


def linear(g, y, bias=True):
    y = g.MatMul(y, g.weight(8, 8))
    return g.Add(y, g.weight(8)) if bias else y


def attention(
    g,
    *,
    query=(0, 2, 1, 3),
    key=(0, 2, 3, 1),
    value=(0, 2, 1, 3),
    back=(0, 2, 1, 3),
    heads=HEADS,
    score=lambda g, y: g.Div(y, 2.0),
    axis=-1,
    bias=True,
):
    x = g.input("x", 2, 5, 8)
    q = g.Transpose(g.Reshape(linear(g, x, bias=False), heads), perm=list(query))
    k = g.Transpose(g.Reshape(linear(g, x), heads), perm=list(key))
    v = g.Transpose(g.Reshape(linear(g, x), heads), perm=list(value))
    p = g.Softmax(score(g, g.MatMul(q, k)), axis=axis)
    y = g.Reshape(g.Transpose(g.MatMul(p, v), perm=list(back)), np.array([2, 5, 8]))
    return linear(g, y, bias)


def biases(model):
    inputs = {tensor.name for tensor in model.graph.initializer}
    adds = [node for node in model.graph.node if node.op_type == "Add"]
    return sum(bool(inputs & set(node.input)) for node in adds)


@pytest.mark.parametrize(
    "score",
    [
        lambda g, y: y,
        lambda g, y: g.Mul(y, 0.5),
        lambda g, y: g.Add(g.Div(y, 2.0), g.input("mask", 2, 1, 1, 5)),
    ],
)
def test_the_biases_of_keys_and_values_go(score):
    g = Graph()
    model = g.model(attention(g, score=score))
    result = assert_rewrites(RULES, model)
    assert biases(model) == 3
    assert biases(result) == 1


def test_a_value_bias_stays_without_another_to_join():
    g = Graph()
    model = g.model(attention(g, bias=False))
    assert biases(assert_rewrites(RULES, model)) == 1


def test_leaves_the_form_that_onnxruntime_knows_in_old_operator_sets():
    g = Graph(opset=12)
    assert_untouched(RULES, g.model(attention(g, axis=3)))


@pytest.mark.parametrize(
    "score",
    [
        lambda g, y: g.Div(2.0, y),
        lambda g, y: g.Mul(y, g.input("m", 2, 2, 5, 5)),
        lambda g, y: g.Where(g.Greater(g.input("m", 1, 1, 5, 5), 0.0), y, -4.0),
        lambda g, y: g.Tanh(y),
    ],
)
def test_a_key_bias_stays_where_scores_are_not_only_shifted(score):
    g = Graph()
    assert_untouched(attention_bias.drop_key_bias, g.model(attention(g, score=score)))


def test_leaves_softmax_over_other_axes():
    g = Graph()
    assert_untouched(RULES, g.model(attention(g, axis=2)))


def test_leaves_heads_that_are_cut_across_tokens():
    g = Graph()
    plain = (0, 1, 2, 3)
    y = attention(
        g, heads=np.array([2, 2, 5, 4]), query=plain, key=(0, 1, 3, 2), value=plain, back=plain
    )
    assert_untouched(RULES, g.model(y))


@pytest.mark.parametrize("back", [(0, 2, 3, 1), (0, 1, 2, 3)])
def test_a_value_bias_stays_where_channels_come_out_in_another_order(back):
    g = Graph()
    model = g.model(attention(g, back=back))
    assert_untouched(attention_bias.fold_value_bias_into_output, model)
