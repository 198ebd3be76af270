import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.linear import constant_after, constant_before
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph
from tests.rules.layers import image, layer

RULES = (
    constant_before.fold_scale_into_next_linear,
    constant_before.fold_negation_into_next_linear,
    constant_before.fold_shift_into_next_linear,
    constant_before.fold_scale_past_shift,
)


def positive(g, *shape):
    return g.const(g.rng.uniform(0.6, 1.5, shape))


@pytest.mark.parametrize(
    ("op_type", "shape"),
    [("Mul", ()), ("Mul", (8, 1, 1)), ("Div", (1, 1, 1)), ("Div", (1, 8, 1, 1))],
)
@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose"])
@pytest.mark.parametrize("group", [1, 2])
def test_folds_a_scale_into_padded_convolutions(shape, op_type, kind, group):
    g = Graph()
    y = g.node(op_type, image(g), positive(g, *shape))
    y = layer(g, kind, y, bias=group == 1, group=group, pads=[1] * 4)
    assert_rewrites(RULES, g.model(y), becomes=[kind])


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
@pytest.mark.parametrize("shape", [(), (8,), (1, 8)])
def test_folds_a_scale_into_gemm_and_matmul(kind, shape):
    for op_type in ("Mul", "Div"):
        g = Graph()
        y = g.node(op_type, g.input("x", 4, 8), positive(g, *shape))
        model = g.model(layer(g, kind, y, bias=kind == "Gemm"))
        assert_rewrites(RULES, model, becomes=[kind])


def test_keeps_the_other_numbers_of_gemm():
    g = Graph()
    options = {"alpha": 0.5, "beta": 2.0, "transB": 1}
    y = g.Mul(g.input("x", 4, 8), positive(g, 8))
    y = g.Gemm(y, g.weight(5, 8), g.input("bias", 4, 1), **options)
    assert_rewrites(RULES, g.model(y), becomes=["Gemm"])
    g = Graph()
    y = g.Sub(g.input("x", 4, 8), positive(g, 8))
    y = g.Gemm(y, g.weight(5, 8), g.weight(5), **options)
    assert_rewrites(RULES, g.model(y), becomes=["Gemm"])


def test_a_transposed_input_takes_one_number_only():
    g = Graph()
    y = g.Gemm(g.Mul(g.input("x", 8, 4), 0.5), g.weight(8, 5), transA=1)
    assert_rewrites(RULES, g.model(y), becomes=["Gemm"])
    for op_type in ("Mul", "Add"):
        g = Graph()
        y = g.node(op_type, g.input("x", 8, 8), positive(g, 8))
        assert_untouched(RULES, g.model(g.Gemm(y, g.weight(8, 5), g.weight(5), transA=1)))


def test_folds_a_sign():
    g = Graph()
    assert_rewrites(RULES, g.model(layer(g, "Conv", g.Neg(image(g)), pads=[1] * 4)))


@pytest.mark.parametrize("shape", [(), (8, 1, 1)])
@pytest.mark.parametrize("order", ["x + c", "x - c", "c - x"])
@pytest.mark.parametrize("bias", [True, False])
def test_folds_a_shift_where_nothing_is_padded(shape, order, bias):
    g = Graph()
    x, c = image(g), positive(g, *shape)
    y = {"x + c": g.Add, "x - c": g.Sub, "c - x": g.Sub}[order](
        *((c, x) if order[0] == "c" else (x, c))
    )
    y = layer(g, "Conv", y, bias, group=2, auto_pad="VALID", strides=[2, 1])
    assert_rewrites(RULES, g.model(y), becomes=["Conv"])


@pytest.mark.parametrize("order", ["x + c", "c - x"])
def test_folds_a_shift_into_matmul_that_has_a_bias(order):
    for rank in (2, 3):
        g = Graph()
        x, c = g.input("x", *(2,) * (rank - 1), 8), positive(g, 8)
        y = g.Add(x, c) if order == "x + c" else g.Sub(c, x)
        becomes = ["Gemm"] if rank == 2 else ["MatMul", "Add"]
        assert_rewrites(RULES, g.model(layer(g, "MatMul", y)), becomes=becomes)
    g = Graph()
    y = g.Add(g.input("x", 2, 3, 8), positive(g, 8))
    assert_untouched(RULES, g.model(layer(g, "MatMul", y, bias=False)))


def test_folds_the_usual_normalisation_of_images():
    g = Graph()
    y = g.Div(
        g.Sub(g.Div(g.input("x", 1, 3, 8, 8), 255.0), g.weight(1, 3, 1, 1)), positive(g, 3, 1, 1)
    )
    model = g.model(g.Conv(y, g.weight(4, 3, 3, 3), g.weight(4)))
    assert_rewrites(RULES, model, becomes=["Conv"])
    g = Graph()
    y = g.Div(
        g.Sub(g.Div(g.input("x", 1, 3, 8, 8), 255.0), g.weight(1, 3, 1, 1)), positive(g, 3, 1, 1)
    )
    model = g.model(g.Conv(y, g.weight(4, 3, 3, 3), pads=[1] * 4))
    assert_rewrites(RULES, model, becomes=["Sub", "Conv"])


@pytest.mark.parametrize("scale", [(), (8, 1, 1)])
@pytest.mark.parametrize("shift", [(1,), (1, 8, 1, 1)])
@pytest.mark.parametrize("op_type", ["Add", "Sub"])
def test_a_scale_goes_where_padding_keeps_the_shift(scale, shift, op_type):
    g = Graph()
    y = g.node(op_type, g.Mul(image(g), positive(g, *scale)), positive(g, *shift))
    model = g.model(layer(g, "Conv", y, group=4, pads=[1] * 4))
    assert_rewrites(RULES, model, becomes=[op_type, "Conv"])


def test_leaves_a_shift_beside_padding():
    for kind in ("Conv", "ConvTranspose"):
        g = Graph()
        model = g.model(layer(g, kind, g.Add(image(g), 0.5), pads=[0, 1, 0, 0]))
        assert_untouched(RULES, model)


def test_leaves_a_scale_of_zero_beside_a_shift():
    g = Graph()
    y = g.Add(g.Mul(image(g), g.const(np.zeros((8, 1, 1)))), 0.5)
    assert_untouched(RULES, g.model(layer(g, "Conv", y, pads=[1] * 4)))


def test_leaves_constants_that_broadcast_the_input():
    g = Graph()
    y = g.Mul(g.input("x", 1, 1, 9, 9), positive(g, 1, 8, 1, 1))
    assert_untouched(RULES, g.model(layer(g, "Conv", y)))
    g = Graph()
    y = g.Mul(g.input("x", 8, 9, 9), positive(g, 1, 1, 1, 1))
    assert_untouched(RULES, g.model(layer(g, "Conv", y)))
    g = Graph()
    y = g.Mul(g.input("x", 1, "channels", 9, 9), positive(g, 8, 1, 1))
    assert_untouched(RULES, g.model(layer(g, "Conv", y)))


@pytest.mark.parametrize("shape", [(9, 1), (9,), (2, 1, 1, 1)])
def test_leaves_constants_that_are_not_per_channel(shape):
    for op_type in ("Mul", "Add"):
        g = Graph()
        y = g.node(op_type, image(g), positive(g, *shape))
        assert_untouched(RULES, g.model(layer(g, "Conv", y)))


def test_leaves_integers():
    g = Graph()
    y = g.Mul(g.input("x", 2, 4, dtype=TensorProto.INT32), g.const(np.int32(3)))
    y = g.MatMul(y, g.const(np.ones((4, 4), np.int32)))
    assert_untouched(RULES, g.model(y, dtype=TensorProto.INT32))


def test_leaves_the_last_constant_of_an_activation():
    g = Graph()
    x = g.input("x", 2, 4, 8)
    y = g.Mul(g.Mul(x, g.Add(g.Erf(g.Div(x, 2**0.5)), 1.0)), 0.5)
    assert_untouched(RULES, g.model(layer(g, "MatMul", y)))
    g = Graph()
    x = image(g)
    y = g.Div(g.Mul(x, g.Clip(g.Add(x, 3.0), 0.0, 6.0)), 6.0)
    assert_untouched(RULES, g.model(layer(g, "Conv", y)))


def test_leaves_the_affine_end_of_a_normalisation():
    for bias in (True, False):
        g = Graph()
        x = g.input("x", 2, 4, 8)
        away = g.Sub(x, g.axes("ReduceMean", x, [-1]))
        spread = g.Sqrt(g.Add(g.axes("ReduceMean", g.Mul(away, away), [-1]), 1e-5))
        y = g.Mul(g.Div(away, spread), positive(g, 8))
        y = g.Add(y, g.weight(8)) if bias else y
        assert_untouched(RULES, g.model(layer(g, "MatMul", y)))


def test_folds_from_both_sides():
    g = Graph()
    y = g.Mul(layer(g, "Conv", g.Div(image(g), 2.0), pads=[1] * 4), 3.0)
    rules = (*RULES, constant_after.fold_scale_into_linear)
    assert_rewrites(rules, g.model(y), becomes=["Conv"])
