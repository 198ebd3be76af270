import numpy as np
import pytest

from onnxopt.rules.linear import branches
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph
from tests.rules.layers import statistics

RULES = (
    branches.spell_branches_as_additions,
    branches.merge_parallel_convolutions,
    branches.merge_identity_into_convolution,
)


def conv(g, x, size=1, outputs=8, inputs=8, bias=True, **attributes):
    sizes = (size, size) if isinstance(size, int) else size
    held = [g.weight(outputs, inputs, *sizes), *([g.weight(outputs)] if bias else [])]
    return g.Conv(x, *held, **attributes)


def image(g):
    return g.input("x", 2, 8, 9, 9)


def same(size):
    return [size // 2] * 4


def test_merges_the_three_branches_of_repvgg_in_any_grouping():
    for order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        g = Graph()
        x = image(g)
        parts = [
            conv(g, x, 3, pads=same(3)),
            conv(g, x, 1),
            g.BatchNormalization(x, *statistics(g, 8)),
        ]
        one, two, three = (parts[i] for i in order)
        model = g.model(g.Relu(g.Add(g.Add(one, two), three)))
        assert_rewrites(RULES, model, becomes=["Conv", "Relu"])


def test_merges_the_operands_of_sum():
    g = Graph()
    x, other = image(g), g.input("other", 2, 8, 9, 9)
    parts = [x, other, conv(g, x, 3, pads=same(3)), g.BatchNormalization(x, *statistics(g, 8))]
    assert_rewrites(RULES, g.model(g.Sum(*parts, conv(g, x))), becomes=["Conv", "Add"])
    g = Graph()
    x = image(g)
    assert_rewrites(RULES, g.model(g.Sum(conv(g, x, 3), conv(g, x, 3))), becomes=["Conv"])


def test_merges_past_what_else_is_added():
    g = Graph()
    x, other = image(g), g.input("other", 2, 8, 9, 9)
    model = g.model(g.Add(g.Add(conv(g, x, 3, pads=same(3)), other), conv(g, x)))
    assert_rewrites(RULES, model, becomes=["Conv", "Add"])


@pytest.mark.parametrize("factor", [0.5, np.linspace(0, 1, 8).reshape(1, 8, 1, 1)])
def test_merges_a_scaled_input(factor):
    g = Graph()
    x = image(g)
    model = g.model(g.Add(conv(g, x, 3, pads=same(3)), g.Mul(x, factor)))
    assert_rewrites(RULES, model, becomes=["Conv"])


@pytest.mark.parametrize("group", [2, 8])
def test_merges_within_groups(group):
    g = Graph()
    x = image(g)
    options = {"inputs": 8 // group, "group": group}
    y = g.Add(conv(g, x, 5, pads=same(5), **options), conv(g, x, 3, pads=same(3), **options))
    model = g.model(g.Add(g.Add(y, conv(g, x, **options)), x))
    assert_rewrites(RULES, model, becomes=["Conv"])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((3, {"pads": [1] * 4, "strides": [2, 2]}), (1, {"strides": [2, 2]})),
        ((3, {"pads": [2] * 4, "dilations": [2, 2]}), (1, {})),
        ((5, {"pads": [4] * 4, "dilations": [2, 2]}), (3, {"pads": [2] * 4, "dilations": [2, 2]})),
        ((3, {"auto_pad": "SAME_UPPER"}), (1, {})),
        ((3, {"auto_pad": "SAME_UPPER", "strides": [2, 2]}), (1, {"strides": [2, 2]})),
        (((3, 3), {"pads": [1] * 4}), ((1, 3), {"pads": [0, 1, 0, 1]})),
        ((3, {"pads": [2, 2, 0, 0]}), (1, {})),
    ],
)
def test_merges_what_has_the_same_positions(one, two):
    g = Graph()
    x = image(g)
    parts = [conv(g, x, size, **options) for size, options in (one, two)]
    assert_rewrites(RULES, g.model(g.Add(*parts)), becomes=["Conv"])


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ((3, {"pads": [1] * 4}), (1, {"group": 8, "inputs": 1})),
        (((3, 1), {"pads": [1, 0, 1, 0]}), ((1, 5), {"pads": [0, 2, 0, 2]})),
        ((3, {"pads": [1] * 4}), (3, {"pads": [2] * 4, "dilations": [2, 2]})),
        ((2, {"pads": [0, 0, 1, 1]}), (2, {"pads": [1, 1, 0, 0]})),
        ((3, {"pads": [1] * 4}), (1, {"outputs": 1})),
    ],
)
def test_leaves_what_differs_or_would_be_dearer(one, two):
    g = Graph()
    x = image(g)
    parts = [conv(g, x, size, **options) for size, options in (one, two)]
    assert_untouched(RULES, g.model(g.Add(*parts)))


def test_leaves_other_inputs_and_what_broadcasts():
    g = Graph()
    x = image(g)
    assert_untouched(RULES, g.model(g.Add(conv(g, x), conv(g, g.Abs(x)))))
    g = Graph()
    x = g.input("x", 2, 1, 9, 9)
    assert_untouched(RULES, g.model(g.Add(conv(g, x, inputs=1), x)))
    g = Graph()
    x = image(g)
    assert_untouched(RULES, g.model(g.Add(conv(g, x), g.Mul(x, np.ones((3, 1, 8, 1, 1))))))
    g = Graph()
    x = image(g)
    strided = g.MaxPool(x, kernel_shape=[1, 1], strides=[2, 2])
    assert_untouched(RULES, g.model(g.Add(conv(g, x, strides=[2, 2]), strided)))


def test_free_sizes_are_no_obstacle():
    g = Graph()
    x = g.input("x", "N", 8, "H", "W")
    y = g.Add(conv(g, x, 3, pads=same(3)), conv(g, x))
    feeds = {"x": np.random.default_rng(0).standard_normal((1, 8, 5, 4)).astype(np.float32)}
    assert_rewrites(RULES, g.model(g.Add(y, x)), becomes=["Conv"], feeds=feeds)
