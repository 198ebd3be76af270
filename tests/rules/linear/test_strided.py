import itertools

import numpy as np
import pytest

from onnxopt.rules.linear import strided
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (
    strided.fold_focus_into_conv,
    strided.fold_space_to_depth_into_conv,
    strided.fold_pixel_unshuffle_into_conv,
)
FOCUS = ((0, 0), (1, 0), (0, 1), (1, 1))
END = 2**31 - 1


def cut(g, x, starts, axes, step, stops=END):
    columns = [list(starts), [stops] * len(axes), list(axes), [step] * len(axes)]
    return g.Slice(x, *(np.array(column) for column in columns))


def focus(phases=FOCUS, size=2, shape=(2, 3, 12, 6), kernel=3, stops=END, nested=False, **options):
    g = Graph()
    x = g.input("x", *shape)
    parts = []
    for row, column in phases:
        if nested:
            parts.append(cut(g, cut(g, x, [row], [2], size), [column], [3], size))
        else:
            parts.append(cut(g, x, [row, column], [2, 3], size, stops))
    joined = g.Concat(*parts, axis=1)
    weights = [g.weight(5, 3 * len(phases), kernel, kernel), g.weight(5)]
    return g.model(g.Conv(joined, *weights, **options))


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pads": [1] * 4},
        {"pads": [1, 0, 0, 2]},
        {"strides": [2, 1], "auto_pad": "VALID"},
        {"auto_pad": "SAME_UPPER"},
    ],
)
def test_focus(nested, options):
    (node,) = assert_rewrites(RULES, focus(nested=nested, **options), becomes=["Conv"]).graph.node
    (kernel,) = [list(a.ints) for a in node.attribute if a.name == "kernel_shape"]
    assert kernel == [6, 6]


def test_other_orders_blocks_and_stops():
    assert_rewrites(RULES, focus(FOCUS[::-1]), becomes=["Conv"])
    phases = tuple(itertools.product(range(3), repeat=2))
    assert_rewrites(RULES, focus(phases, size=3, kernel=1), becomes=["Conv"])
    assert_rewrites(RULES, focus(shape=(2, 3, 6, 6), stops=6, kernel=2), becomes=["Conv"])


def test_free_sizes():
    assert_rewrites(RULES, focus(shape=("n", 3, "h", "w"), kernel=1), becomes=["Conv"])


def test_rows_that_are_shared():
    g = Graph()
    x = g.input("x", 1, 2, 8, 8)
    rows = [cut(g, x, [start], [2], 2) for start in (0, 1)]
    parts = [cut(g, rows[row], [column], [3], 2) for row, column in FOCUS]
    model = g.model(g.Conv(g.Concat(*parts, axis=1), g.weight(4, 8, 3, 3)))
    assert_rewrites(RULES, model, becomes=["Conv"])


@pytest.mark.parametrize(
    "options",
    [
        {"phases": ((0, 0), (0, 0), (0, 1), (1, 1))},
        {"phases": ((0, 0), (1, 1))},
        {"phases": ((0, 0), (1, 0), (0, 1), (1, 2)), "shape": (2, 3, 6, 8), "stops": 6},
        {"shape": (2, 3, 6, 6), "stops": 4, "kernel": 1},
        {"dilations": [2, 2]},
        {"group": 1, "size": 3},
    ],
)
def test_what_is_no_focus_is_left_alone(options):
    assert_untouched(RULES, focus(**options))


@pytest.mark.parametrize(("kernel", "pads"), [(1, 0), (3, 1)])
def test_space_to_depth(kernel, pads):
    g = Graph()
    blocks = g.SpaceToDepth(g.input("x", 2, 3, 8, 6), blocksize=2)
    model = g.model(g.Conv(blocks, g.weight(5, 12, kernel, kernel), pads=[pads] * 4))
    assert_rewrites(RULES, model, becomes=["Conv"], without=("half precision",))


def unshuffled(perm, group=1):
    g = Graph()
    split = g.Reshape(g.input("x", 2, 3, 8, 6), np.array([2, 3, 4, 2, 3, 2]))
    blocks = g.Reshape(g.Transpose(split, perm=perm), np.array([2, 12, 4, 3]))
    return g.model(g.Conv(blocks, g.weight(6, 12 // group, 3, 3), g.weight(6), group=group))


def test_pixel_unshuffle():
    assert_rewrites(RULES, unshuffled([0, 1, 3, 5, 2, 4]), becomes=["Conv"])
    assert_untouched(RULES, unshuffled([0, 1, 5, 3, 2, 4]))
    assert_untouched(RULES, unshuffled([0, 1, 3, 5, 2, 4], group=3))


def test_large_weight_that_others_read_is_not_kept_twice():
    g = Graph()
    x, y = g.input("x", 1, 32, 8, 8), g.input("y", 1, 128, 4, 4)
    weight = g.weight(256, 128, 1, 1)
    blocks = g.SpaceToDepth(x, blocksize=2)
    assert_untouched(RULES, g.model(g.Add(g.Conv(blocks, weight), g.Conv(y, weight))))
