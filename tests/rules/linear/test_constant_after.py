import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from onnxopt.rules.linear import constant_after
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched
from tests.rules.graphs import Graph
from tests.rules.layers import image, layer

RULES = (
    constant_after.fold_scale_into_linear,
    constant_after.fold_negation_into_linear,
    constant_after.fold_shift_into_linear,
    constant_after.fold_subtraction_into_linear,
)


def positive(g, *shape):
    return g.const(g.rng.uniform(0.5, 1.5, shape))


@pytest.mark.parametrize(
    ("op_type", "shape"),
    [
        ("Mul", ()),
        ("Mul", (1, 8, 1, 1)),
        ("Div", (1,)),
        ("Div", (8, 1, 1)),
        ("Add", (1, 1, 1, 1)),
        ("Add", (8, 1, 1)),
        ("Sub", ()),
        ("Sub", (1, 8, 1, 1)),
    ],
)
def test_folds_every_broadcast_of_a_channel_constant_into_conv(op_type, shape):
    g = Graph()
    y = layer(g, "Conv", image(g), bias=len(shape) < 4, group=2, pads=[1] * 4)
    model = g.model(g.node(op_type, y, positive(g, *shape)))
    assert_rewrites(RULES, model, becomes=["Conv"])


@pytest.mark.parametrize("kind", ["Conv", "ConvTranspose", "Gemm"])
@pytest.mark.parametrize("bias", [True, False])
def test_subtracts_a_layer_from_a_constant(kind, bias):
    g = Graph()
    x = g.input("x", 4, 8) if kind == "Gemm" else image(g)
    y = layer(g, kind, x, bias)
    outputs = 4 if kind == "ConvTranspose" else 8
    shape = (outputs,) if kind == "Gemm" else (outputs, 1, 1)
    model = g.model(g.Sub(positive(g, *shape), y))
    assert_rewrites(RULES, model, becomes=[kind])


@pytest.mark.parametrize("group", [1, 2])
def test_folds_into_conv_transpose(group):
    g = Graph()
    y = layer(g, "ConvTranspose", image(g), bias=False, group=group, strides=[2, 2])
    y = g.Mul(g.Add(y, g.weight(1, 4 * group, 1, 1)), positive(g, 4 * group, 1, 1))
    assert_rewrites(RULES, g.model(y), becomes=["ConvTranspose"])


@pytest.mark.parametrize("rank", [3, 5])
def test_folds_into_convolutions_over_lines_and_volumes(rank):
    g = Graph()
    size = (5,) * (rank - 2)
    x = g.input("x", 1, 4, *size)
    y = g.Conv(x, g.weight(6, 4, *(3,) * (rank - 2)), g.weight(6))
    y = g.Sub(g.Div(y, positive(g, 6, *(1,) * (rank - 2))), 0.5)
    assert_rewrites(RULES, g.model(y), becomes=["Conv"])


@pytest.mark.parametrize(
    ("shape", "bias"), [((), (1, 8)), ((8,), ()), ((1, 8), (8,)), ((1, 1), (1,))]
)
def test_folds_into_gemm(shape, bias):
    for options in ({}, {"alpha": 0.5, "beta": 2.0, "transB": 1}):
        g = Graph()
        y = g.Gemm(g.input("x", 4, 8), g.weight(8, 8), g.weight(*bias), **options)
        model = g.model(g.Mul(g.Add(y, g.weight(*shape)), positive(g, *shape)))
        assert_rewrites(RULES, model, becomes=["Gemm"])


def test_leaves_gemm_whose_bias_differs_from_row_to_row():
    for bias in [(4, 1), (4, 8)]:
        g = Graph()
        y = g.Gemm(g.input("x", 4, 8), g.weight(8, 8), g.weight(*bias))
        assert_untouched(RULES, g.model(g.Mul(y, 2.0)))


def test_folds_a_factor_into_matmul_and_the_add_behind_it():
    for rank in (2, 3):
        g = Graph()
        x = g.input("x", 2, *(4,) * (rank - 2), 8)
        y = g.Div(layer(g, "MatMul", x), positive(g, 8))
        becomes = ["Gemm"] if rank == 2 else ["MatMul", "Add"]
        assert_rewrites(RULES, g.model(y), becomes=becomes)
    g = Graph()
    y = g.Mul(layer(g, "MatMul", g.input("x", 2, 4, 8), bias=False), positive(g, 1, 1, 8))
    assert_rewrites(RULES, g.model(y), becomes=["MatMul"])


def test_folds_into_a_batch_of_matrices():
    g = Graph()
    y = g.Mul(g.MatMul(g.input("x", 3, 4, 8), g.weight(3, 8, 5)), positive(g, 5))
    assert_rewrites(RULES, g.model(y), becomes=["MatMul"])


def test_the_add_behind_matmul_is_its_bias_and_stays():
    g = Graph()
    y = g.Add(g.MatMul(g.input("x", 2, 4, 8), g.weight(8, 8)), g.weight(8))
    assert_untouched(RULES, g.model(y))


@pytest.mark.parametrize("shape", [(1, 1, 7, 7), (2, 1, 1, 1), (2, 8, 1, 1), (1, 1, 1, 1, 1)])
def test_leaves_constants_that_are_not_per_channel(shape):
    for op_type in ("Mul", "Add"):
        g = Graph()
        y = layer(g, "Conv", image(g))
        assert_untouched(RULES, g.model(g.node(op_type, y, g.weight(*shape))))


def test_leaves_a_constant_that_widens_the_output():
    g = Graph()
    y = g.Conv(g.input("x", 1, 3, 8, 8), g.weight(1, 3, 1, 1))
    assert_untouched(RULES, g.model(g.Mul(y, g.weight(1, 4, 1, 1))))


def test_leaves_a_vector_that_has_lost_its_channels():
    g = Graph()
    y = g.MatMul(g.input("x", 8), g.weight(8, 8))
    assert_untouched(RULES, g.model(g.Mul(y, g.weight(1, 8))))


def test_leaves_integers():
    g = Graph()
    x = g.input("x", 2, 4, dtype=TensorProto.INT32)
    y = g.Mul(g.MatMul(x, g.const(np.ones((4, 4), np.int32))), g.const(np.int32(3)))
    assert_untouched(RULES, g.model(y, dtype=TensorProto.INT32))


def test_leaves_a_computed_bias_and_a_computed_weight():
    g = Graph()
    y = g.Conv(image(g), g.weight(8, 8, 1, 1), g.Relu(g.input("bias", 8)))
    assert_untouched(RULES, g.model(g.Add(g.Mul(y, 2.0), 1.0)))
    g = Graph()
    y = g.Conv(image(g), g.input("w", 8, 8, 1, 1))
    assert_untouched(RULES, g.model(g.Mul(y, 2.0)))


def test_leaves_division_by_zero_and_what_is_not_finite():
    for number in (0.0, np.nan):
        g = Graph()
        assert_untouched(RULES, g.model(g.Div(layer(g, "Conv", image(g)), number)))
    g = Graph()
    assert_untouched(RULES, g.model(g.Mul(layer(g, "Conv", image(g)), np.inf)))


def test_leaves_what_half_precision_cannot_hold():
    for number in (1e6, 1e-7):
        g = Graph()
        x = g.input("x", 1, 4, dtype=TensorProto.FLOAT16)
        y = g.Gemm(x, g.const(np.ones((4, 4)), np.float16), g.const(np.ones(4), np.float16))
        y = g.Mul(y, g.const(number**0.5, np.float16))
        y = g.Mul(y, g.const(number**0.5, np.float16))
        result, _ = apply_rules(g.model(y, dtype=TensorProto.FLOAT16), RULES)
        assert [node.op_type for node in result.graph.node] == ["Gemm", "Mul"]


def test_keeps_a_large_weight_that_two_layers_share():
    for size, count in ((8, 2), (200, 4)):
        g = Graph()
        x, w = g.input("x", 2, size), g.weight(size, size)
        outputs = [g.Mul(g.MatMul(x, w), positive(g, size)) for _ in range(2)]
        result, _ = apply_rules(g.model(*outputs), RULES)
        assert len(result.graph.node) == count


def test_an_add_that_starts_a_hard_sigmoid_stays():
    g = Graph()
    y = g.Div(g.Clip(g.Add(layer(g, "Conv", image(g)), 3.0), 0.0, 6.0), 6.0)
    assert_untouched(RULES, g.model(y))
    g = Graph()
    y = g.Clip(g.Add(layer(g, "Conv", image(g)), 3.0), 0.0, 6.0)
    assert_rewrites(RULES, g.model(y), becomes=["Conv", "Clip"])


def test_rounds_once():
    g = Graph()
    y = layer(g, "Conv", image(g), bias=False)
    y = g.Div(y, g.const(np.float32(3)))
    model = g.model(y)
    result, _ = apply_rules(model, RULES)
    before = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float64)
    after = numpy_helper.to_array(result.graph.initializer[0])
    np.testing.assert_array_equal(after, (before / 3).astype(np.float32))
