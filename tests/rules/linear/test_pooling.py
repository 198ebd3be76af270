import pytest

from onnxopt.rules.linear import pooling
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULE = pooling.average_before_convolution
HALVED = {"kernel_shape": [2, 2], "strides": [2, 2]}


def conv(g, outputs=8, inputs=8, size=1, **attributes):
    x = g.input("x", 2, 8, 6, 7)
    return g.Conv(x, g.weight(outputs, inputs, size, size), g.weight(outputs), **attributes)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pads": [1, 0, 0, 1]},
        {"auto_pad": "SAME_UPPER"},
        {"count_include_pad": 1},
    ],
)
def test_a_pool_goes_first(options):
    g = Graph()
    model = g.model(g.AveragePool(conv(g), **HALVED, **options))
    made = assert_rewrites(RULE, model, becomes=["AveragePool", "Conv"])
    assert made.graph.node[0].op_type == "AveragePool"


@pytest.mark.parametrize("opset", [7, 13, 18])
def test_the_mean_over_all_positions_goes_first(opset):
    g = Graph(opset)
    model = g.model(g.GlobalAveragePool(conv(g, inputs=4, group=2)))
    assert_rewrites(RULE, model, becomes=["GlobalAveragePool", "Conv"])
    g = Graph(opset)
    model = g.model(g.axes("ReduceMean", conv(g), [-1, 2], keepdims=1))
    assert_rewrites(RULE, model, becomes=["ReduceMean", "Conv"])


def test_leaves_what_is_no_mean_or_would_be_dearer():
    for options, pool in [
        ({}, {**HALVED, "pads": [1] * 4, "count_include_pad": 1}),
        ({}, {**HALVED, "ceil_mode": 1}),
        ({}, {"kernel_shape": [2, 2]}),
        ({"outputs": 1}, HALVED),
        ({"size": 3}, HALVED),
        ({"strides": [2, 2]}, HALVED),
        ({"pads": [1] * 4}, HALVED),
    ]:
        g = Graph()
        assert_untouched(RULE, g.model(g.AveragePool(conv(g, **options), **pool)))
    for axes, keepdims in (([2], 1), ([1, 2, 3], 1), ([2, 3], 0)):
        g = Graph()
        model = g.model(g.axes("ReduceMean", conv(g), axes, keepdims=keepdims))
        assert_untouched(RULE, model)
