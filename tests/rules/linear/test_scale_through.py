import numpy as np
import pytest

from onnxopt.rules.linear import scale_through
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph
from tests.rules.layers import image, layer

RULES = (
    scale_through.fold_scale_of_product_into_linear,
    scale_through.fold_scale_from_afar_into_linear,
    scale_through.fold_scale_from_afar_into_next_linear,
)


def heads(g, y, perm):
    return g.Transpose(g.Reshape(y, np.array([2, 4, 2, 4])), perm=perm)


@pytest.mark.parametrize("op_type", ["Mul", "Div"])
@pytest.mark.parametrize("linear_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_the_scale_of_an_attention_goes_into_what_makes_the_query(op_type, linear_first, bias):
    g = Graph()
    q = heads(g, layer(g, "MatMul", g.input("x", 2, 4, 8), bias), [0, 2, 1, 3])
    k = g.input("k", 2, 2, 4, 4)
    y = g.node(op_type, g.MatMul(*((q, k) if linear_first else (k, q))), 0.4)
    becomes = ["MatMul", *["Add"] * bias, "Reshape", "Transpose", "MatMul"]
    assert_rewrites(RULES, g.model(y), becomes=becomes)


def test_a_product_of_two_layers_is_scaled_once():
    g = Graph()
    x = g.input("x", 2, 4, 8)
    q = heads(g, layer(g, "MatMul", x), [0, 2, 1, 3])
    k = heads(g, layer(g, "MatMul", x), [0, 2, 3, 1])
    model = g.model(g.Softmax(g.Div(g.MatMul(q, k), 2.0)))
    result = assert_rewrites(RULES, model)
    assert len(result.graph.node) == len(model.graph.node) - 1


def test_leaves_the_form_that_onnxruntime_knows_in_old_operator_sets():
    g = Graph(opset=12)
    q = heads(g, layer(g, "MatMul", g.input("x", 2, 4, 8)), [0, 2, 1, 3])
    assert_untouched(RULES, g.model(g.Div(g.MatMul(q, g.input("k", 2, 2, 4, 4)), 2.0)))


def test_folds_a_scale_behind_reshapes_and_averages():
    g = Graph()
    y = heads(g, layer(g, "MatMul", g.input("x", 2, 4, 8)), [0, 2, 1, 3])
    assert_rewrites(
        RULES, g.model(g.Mul(y, 0.3)), becomes=["MatMul", "Add", "Reshape", "Transpose"]
    )
    g = Graph()
    y = g.Flatten(g.GlobalAveragePool(layer(g, "Conv", image(g))))
    assert_rewrites(RULES, g.model(g.Div(y, 3.0)), becomes=["Conv", "GlobalAveragePool", "Flatten"])


def test_folds_a_scale_before_reshapes_and_averages():
    g = Graph(opset=11)
    y = g.Reshape(g.Mul(g.Relu(g.input("x", 4, 8, 1, 1)), 0.8), np.array([-1, 8]))
    model = g.model(layer(g, "Gemm", y))
    assert_rewrites(RULES, model, becomes=["Relu", "Reshape", "Gemm"])
    g = Graph(opset=7)
    y = g.GlobalAveragePool(g.Div(image(g), 255.0))
    model = g.model(g.Conv(y, g.weight(8, 8, 1, 1)))
    assert_rewrites(RULES, model, becomes=["GlobalAveragePool", "Conv"])


def test_leaves_what_does_not_commute_with_a_scale():
    for between in ("Relu", "Tanh", "MaxPool"):
        g = Graph()
        y = g.node(
            between,
            layer(g, "Conv", image(g)),
            **({"kernel_shape": [2, 2]} if between == "MaxPool" else {}),
        )
        assert_untouched(RULES, g.model(g.Mul(y, -0.5)))


def test_leaves_what_is_more_than_one_number_or_raises_the_rank():
    for shape in [(4,), (2, 1, 1), (1, 1, 1, 1, 1)]:
        g = Graph()
        y = heads(g, layer(g, "MatMul", g.input("x", 2, 4, 8)), [0, 2, 1, 3])
        assert_untouched(RULES, g.model(g.Mul(y, g.weight(*shape))))


def test_leaves_the_end_of_an_activation():
    g = Graph()
    x = g.input("x", 4, 8, 1, 1)
    y = g.Mul(g.Mul(x, g.Add(g.Erf(g.Div(x, 2**0.5)), 1.0)), 0.5)
    y = g.Reshape(y, np.array([-1, 8]))
    assert_untouched(RULES, g.model(layer(g, "Gemm", y)))
