import pytest

from onnxopt.rules.linear import chains as linear_chain
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (linear_chain.merge_convolutions, linear_chain.merge_matrices)


def conv(g, x, outputs, inputs, size=1, bias=True, **attributes):
    held = [g.weight(outputs, inputs, size, size), *([g.weight(outputs)] if bias else [])]
    return g.Conv(x, *held, **attributes)


@pytest.mark.parametrize("first_bias", [True, False])
@pytest.mark.parametrize("second_bias", [True, False])
def test_merges_pointwise_convolutions(first_bias, second_bias):
    g = Graph()
    y = conv(g, g.input("x", 1, 4, 6, 6), 8, 4, bias=first_bias)
    assert_rewrites(RULES, g.model(conv(g, y, 3, 8, bias=second_bias)), becomes=["Conv"])


def test_a_pointwise_convolution_follows_any_other():
    g = Graph()
    options = {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}
    y = conv(g, g.input("x", 1, 4, 7, 7), 8, 4, 3, **options)
    assert_rewrites(RULES, g.model(conv(g, y, 3, 8)), becomes=["Conv"])


@pytest.mark.parametrize("options", [{"strides": [2, 2]}, {"pads": [1, 1, 0, 0]}])
def test_a_pointwise_convolution_precedes_any_other_whose_padding_meets_no_bias(options):
    padded = "pads" in options
    g = Graph()
    y = conv(g, g.input("x", 1, 2, 7, 7), 8, 2, bias=not padded)
    assert_rewrites(RULES, g.model(conv(g, y, 3, 8, 3, **options)), becomes=["Conv"])
    g = Graph()
    y = conv(g, g.input("x", 1, 2, 7, 7), 8, 2)
    assert_untouched(RULES, g.model(conv(g, y, 3, 8, 3, pads=[0, 0, 0, 1])))


def test_leaves_two_kernels_groups_and_padded_or_strided_points():
    for one, two in [
        ((8, 4, 3), (3, 8, 3)),
        ((8, 4, 3), (3, 8, 1, {"pads": [1, 1, 1, 1]})),
        ((8, 4, 3), (3, 8, 1, {"strides": [2, 2]})),
        ((8, 4, 1, {"strides": [2, 2]}), (3, 8, 3)),
        ((8, 2, 1, {"group": 2}), (3, 8, 1)),
        ((8, 4, 1), (2, 4, 1, {"group": 2})),
    ]:
        g = Graph()
        y = g.input("x", 1, 4, 7, 7)
        for outputs, inputs, size, *options in (one, two):
            y = conv(g, y, outputs, inputs, size, **(options[0] if options else {}))
        assert_untouched(RULES, g.model(y))


def test_leaves_bottlenecks():
    g = Graph()
    y = conv(g, conv(g, g.input("x", 1, 8, 6, 6), 2, 8), 8, 2)
    assert_untouched(RULES, g.model(y))
    g = Graph()
    y = g.MatMul(g.MatMul(g.input("x", 3, 8), g.weight(8, 2)), g.weight(2, 8))
    assert_untouched(RULES, g.model(y))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rank", [1, 2, 3])
def test_merges_products_with_matrices(bias, rank):
    g = Graph()
    y = g.MatMul(g.input("x", *(3,) * (rank - 1), 4), g.weight(4, 8))
    y = g.Add(y, g.weight(8)) if bias else y
    model = g.model(g.MatMul(y, g.weight(8, 5)))
    assert_rewrites(RULES, model, becomes=["MatMul", *["Add"] * bias])


def test_merges_gemms_whatever_their_attributes():
    one = {"alpha": 0.5, "beta": 2.0, "transA": 1, "transB": 1}
    two = {"alpha": 3.0, "transB": 1}
    for opset, bias in ((7, True), (17, True), (17, False)):
        g = Graph(opset)
        held = [g.weight(8)] if bias else []
        y = g.Gemm(g.input("x", 4, 3), g.weight(8, 4), *held, **one)
        held = [g.weight(5)] if bias else []
        assert_rewrites(RULES, g.model(g.Gemm(y, g.weight(5, 8), *held, **two)), becomes=["Gemm"])


def test_merges_a_gemm_with_a_product():
    g = Graph()
    y = g.Gemm(g.input("x", 3, 4), g.weight(4, 8), g.weight(8))
    assert_rewrites(RULES, g.model(g.MatMul(y, g.weight(8, 5))), becomes=["Gemm"])
    g = Graph()
    y = g.MatMul(g.input("x", 3, 4), g.weight(4, 8))
    assert_rewrites(RULES, g.model(g.Gemm(y, g.weight(8, 5), g.weight(5))), becomes=["Gemm"])


def test_leaves_a_transposed_middle_and_weights_of_others():
    g = Graph()
    y = g.Gemm(g.input("x", 3, 4), g.weight(4, 8), g.weight(8))
    assert_untouched(RULES, g.model(g.Gemm(y, g.weight(3, 5), g.weight(5), transA=1)))
    g = Graph()
    x, w = g.input("x", 8, 8), g.weight(8, 8)
    y = g.MatMul(g.MatMul(x, w), g.weight(8, 8))
    assert_untouched(RULES, g.model(y, g.MatMul(g.Relu(x), w)))
