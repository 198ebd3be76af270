import numpy as np
import pytest

from onnxopt.rules.unread import channels
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, operators, run
from tests.rules.graphs import Graph
from tests.rules.layers import statistics

RULES = (channels.drop_constant_channels, channels.merge_equal_channels)
SAME = {"pads": [1, 1, 1, 1]}


def zeroed(g, gone, *shape, axis=0):
    """Make a weight whose output channels `gone` are zero."""
    weight = g.rng.standard_normal(shape) * 0.3
    np.moveaxis(weight, axis, 0)[gone] = 0
    return g.const(weight)


def doubled(g, *shape, axis=0):
    """Make a weight, or bias, whose output channel 1 is channel 0 again."""
    weight = g.rng.standard_normal(shape) * 0.3
    view = np.moveaxis(weight, axis, 0)
    view[1] = view[0]
    return g.const(weight)


def image(g, channels=4):
    return g.input("x", 2, channels, 7, 7)


def widths(model):
    """Return the number of output channels of each Conv, in order."""
    sizes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [sizes[node.input[1]][0] for node in model.graph.node if node.op_type == "Conv"]


@pytest.mark.parametrize("activation", ["Relu", "Sigmoid", "HardSwish", "LeakyRelu", "Tanh", None])
def test_zero_filters_leave_their_bias(activation):
    g = Graph()
    y = g.Conv(image(g), zeroed(g, [1, 3], 6, 4, 3, 3), g.weight(6), **SAME)
    y = g.node(activation, y) if activation else y
    y = g.Conv(y, g.weight(5, 6, 3, 3), g.weight(5))
    made = assert_rewrites(RULES, g.model(y), becomes=["Conv", *filter(None, [activation]), "Conv"])
    assert widths(made) == [4, 5]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
def test_matrices_too(kind, bias):
    g = Graph(20)
    x = g.input("x", 3, 4) if kind == "Gemm" else g.input("x", 2, 3, 4)
    if kind == "Gemm":
        y = g.Gemm(x, zeroed(g, [0, 2], 6, 4), g.weight(6), transB=1, beta=0.5)
        y = g.Gemm(g.Gelu(y), g.weight(6, 5), *([g.weight(5)] if bias else []), alpha=2.0)
        becomes = ["Gemm", "Gelu", "Gemm"]
    else:
        y = g.Add(g.MatMul(x, zeroed(g, [0, 2], 4, 6, axis=1)), g.weight(6))
        y = g.MatMul(g.Gelu(y), g.weight(6, 5))
        y = g.Add(y, g.weight(5)) if bias else y
        becomes = ["MatMul", "Add", "Gelu", "MatMul", "Add"]
    assert_rewrites(RULES, g.model(y), becomes=becomes)


def test_an_input_between_bounds_never_opens_a_relu():
    g = Graph()
    weight = g.rng.standard_normal((6, 4, 1, 1))
    bias = np.zeros(6)
    bias[[0, 4]] = -np.maximum(weight, 0).sum((1, 2, 3))[[0, 4]]
    y = g.Relu(g.Conv(g.Sigmoid(image(g)), weight, bias))
    y = g.Conv(y, g.weight(5, 6, 3, 3), g.weight(5), **SAME)
    made = assert_rewrites(RULES, g.model(y), becomes=["Sigmoid", "Conv", "Relu", "Conv"])
    assert widths(made) == [4, 5]


def test_negative_filters_on_what_is_not_negative_never_open_a_relu():
    g = Graph()
    weight = g.rng.standard_normal((6, 4, 3, 3))
    weight[2] = -np.abs(weight[2])
    bias = g.rng.standard_normal(6)
    bias[2] = -0.1
    y = g.Conv(g.MaxPool(g.Relu(image(g)), kernel_shape=[2, 2]), weight, bias, **SAME)
    y = g.Conv(g.Relu(y), g.weight(5, 6, 1, 1))
    made = assert_rewrites(RULES, g.model(y), becomes=["Relu", "MaxPool", "Conv", "Relu", "Conv"])
    assert widths(made) == [5, 5]


def test_a_number_does_not_go_into_a_bias_beside_padding():
    for activation, fires in (("Relu", True), ("Sigmoid", False)):
        g = Graph()
        bias = -np.abs(g.rng.standard_normal(6))
        y = g.Conv(image(g), zeroed(g, [1, 3], 6, 4, 3, 3), bias)
        y = g.Conv(g.node(activation, y), g.weight(5, 6, 3, 3), g.weight(5), **SAME)
        (assert_rewrites if fires else assert_untouched)(RULES, g.model(y))


@pytest.mark.parametrize("padded", [True, False])
def test_channels_go_through_what_stands_between(padded):
    g = Graph()
    bias = np.abs(g.rng.standard_normal(6)) if not padded else np.zeros(6)
    y = g.Conv(image(g), zeroed(g, [1, 3], 6, 4, 1, 1), bias)
    y = g.PRelu(y, g.const(np.abs(g.rng.standard_normal((6, 1, 1)))))
    y = g.Mul(g.Clip(y, 0.0, 6.0), g.weight(6, 1, 1))
    y = g.Conv(y, g.weight(6, 1, 3, 3), np.zeros(6), group=6, **(SAME if padded else {}))
    y = g.AveragePool(g.Relu(y), kernel_shape=[2, 2])
    y = g.BatchNormalization(y, *statistics(g, 6))
    y = g.Conv(y, g.weight(5, 6, 1, 1), g.weight(5))
    between = ["PRelu", "Clip", "Mul", "Conv", "Relu", "AveragePool", "BatchNormalization"]
    made = assert_rewrites(RULES, g.model(y), becomes=["Conv", *between, "Conv"])
    assert widths(made) == [4, 4, 5]


def test_a_zero_depthwise_filter_takes_the_channel_with_it():
    g = Graph()
    y = g.Relu(g.Conv(image(g), g.weight(6, 4, 1, 1), g.weight(6)))
    y = g.Relu(g.Conv(y, zeroed(g, [2], 6, 1, 3, 3), g.weight(6), group=6, **SAME))
    y = g.Conv(y, g.weight(5, 6, 1, 1), g.weight(5))
    made = assert_rewrites(RULES, g.model(y), becomes=["Conv", "Relu", "Conv", "Relu", "Conv"])
    assert widths(made) == [5, 5, 5]


@pytest.mark.parametrize("pool", ["GlobalAveragePool", "ReduceMean", "AveragePool"])
def test_channels_go_through_the_end_of_a_classifier(pool):
    g = Graph()
    y = g.Relu(g.Conv(image(g), zeroed(g, [1, 3], 6, 4, 1, 1), g.weight(6)))
    options = {
        "ReduceMean": {"axes": [2, 3], "keepdims": 0},
        "AveragePool": {"kernel_shape": [7, 7]},
    }
    y = g.node(pool, y, **options.get(pool, {}))
    y = y if pool == "ReduceMean" else g.Reshape(y, np.array([2, 6]))
    model = g.model(g.Gemm(y, g.weight(5, 6), g.weight(5), transB=1))
    flat = [] if pool == "ReduceMean" else ["Flatten"]
    made = assert_rewrites(RULES, model, becomes=["Conv", "Relu", pool, *flat, "Gemm"])
    assert widths(made) == [4]


def test_silu_as_two_nodes_is_one_way():
    g = Graph()
    y = g.Conv(image(g), zeroed(g, [1, 3], 6, 4, 1, 1), g.weight(6))
    y = g.Mul(y, g.Sigmoid(y))
    made = assert_rewrites(RULES, g.model(g.Conv(y, g.weight(5, 6, 3, 3))))
    assert widths(made) == [4, 5]


def test_equal_channels_become_one():
    g = Graph()
    y = g.Conv(image(g), doubled(g, 6, 4, 3, 3), doubled(g, 6))
    y = g.Conv(g.Erf(y), g.weight(5, 6, 3, 3), g.weight(5), **SAME)
    made = assert_rewrites(RULES, g.model(y), becomes=["Conv", "Erf", "Conv"])
    assert widths(made) == [5, 5]
    g = Graph()
    y = g.Add(g.MatMul(g.input("x", 3, 4), doubled(g, 4, 6, axis=1)), doubled(g, 6))
    model = g.model(g.MatMul(g.Tanh(y), g.weight(6, 5)))
    assert_rewrites(RULES, model, becomes=["MatMul", "Add", "Tanh", "MatMul"])


def test_what_differs_on_the_way_is_not_equal():
    g = Graph()
    y = g.Conv(image(g), doubled(g, 6, 4, 3, 3), doubled(g, 6))
    y = g.Conv(g.Mul(y, g.weight(6, 1, 1)), g.weight(5, 6, 3, 3))
    assert_untouched(RULES, g.model(y))
    g = Graph()
    y = g.Conv(image(g), doubled(g, 6, 4, 3, 3), g.weight(6))
    assert_untouched(RULES, g.model(g.Conv(y, g.weight(5, 6, 3, 3))))


@pytest.mark.parametrize(
    ("width", "gone", "left"), [(32, 9, 32), (32, 17, 16), (24, 9, 16), (12, 3, 9), (8, 8, 8)]
)
def test_whole_blocks_of_channels_remain_whole(width, gone, left):
    g = Graph()
    y = g.Conv(image(g), zeroed(g, list(range(gone)), width, 4, 1, 1), g.weight(width))
    model = g.model(g.Conv(g.Relu(y), g.weight(5, width, 1, 1)))
    if left == width:
        assert_untouched(RULES, model)
    else:
        assert widths(assert_rewrites(RULES, model)) == [left, 5]


def test_a_layer_of_zeros_keeps_one_channel():
    g = Graph()
    y = g.Conv(image(g), np.zeros((6, 4, 1, 1)), g.weight(6))
    made = assert_rewrites(RULES, g.model(g.Conv(g.Relu(y), g.weight(5, 6, 1, 1))))
    assert widths(made) == [1, 5]


def test_leaves_groups_branches_shared_weights_and_two_sources():
    def layers(g):
        return g.Conv(image(g), zeroed(g, [1, 3], 6, 4, 1, 1), g.weight(6))

    g = Graph()
    assert_untouched(RULES, g.model(g.Conv(layers(g), g.weight(6, 3, 1, 1), group=2)))
    g = Graph()
    y = g.Conv(image(g, 2), zeroed(g, [1, 3], 6, 1, 1, 1), g.weight(6), group=2)
    assert_untouched(RULES, g.model(g.Conv(y, g.weight(5, 6, 1, 1))))
    g = Graph()
    y = layers(g)
    assert_untouched(RULES, g.model(g.Conv(g.Relu(y), g.weight(5, 6, 1, 1)), g.Abs(y)))
    g = Graph()
    x, w = image(g), zeroed(g, [1, 3], 6, 4, 1, 1)
    y = g.Conv(g.Conv(x, w, g.weight(6)), g.weight(5, 6, 1, 1))
    assert_untouched(RULES, g.model(y, g.Conv(g.Abs(x), w)))
    g = Graph()
    y = g.Add(layers(g), g.input("other", 2, 6, 7, 7))
    assert_untouched(RULES, g.model(g.Conv(y, g.weight(5, 6, 1, 1))))
    g = Graph()
    assert_untouched(RULES, g.model(g.Conv(g.Softmax(layers(g), axis=1), g.weight(5, 6, 1, 1))))


def test_wrong_bounds_would_show():
    """Interval arithmetic holds against samples, with every sign of weights and inputs."""
    for seed in range(20):
        g = Graph(seed=seed)
        source = g.node(["Relu", "Sigmoid", "Tanh", "Softsign"][seed % 4], image(g))
        y = g.Conv(source, g.weight(16, 4, 1, 1), g.const(g.rng.uniform(-3, 1, 16)))
        model = g.model(g.Conv(g.Relu(y), g.weight(5, 16, 1, 1), g.weight(5)))
        made, _ = apply_rules(model, RULES)
        assert operators(made) == operators(model)
        x = (np.random.default_rng(seed).standard_normal((2, 4, 7, 7)) * 50).astype(np.float32)
        np.testing.assert_allclose(
            run(made, {"x": x})[0], run(model, {"x": x})[0], rtol=1e-3, atol=1e-3
        )
