import numpy as np
import pytest

from onnxopt.rules.linear import pad
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (
    pad.fold_pad_into_conv,
    pad.fold_pad_into_average_pool,
    pad.fold_pad_into_max_pool,
)
SPATIAL = [0, 0, 1, 0, 0, 0, 2, 1]


def image(g, size=9):
    return g.input("x", 1, 4, size, size)


def padded(g, x, pads=SPATIAL, value=None, **attributes):
    if g.opset < 11:
        return g.Pad(x, pads=pads, value=value or 0.0, **attributes)
    more = [] if value is None else [value]
    return g.Pad(x, np.array(pads, np.int64), *more, **attributes)


def conv(g, x, size=3, **attributes):
    return g.Conv(x, g.weight(6, 4, size, size), g.weight(6), **attributes)


@pytest.mark.parametrize("opset", [8, 11, 17])
@pytest.mark.parametrize("options", [{}, {"pads": [1, 2, 0, 1]}, {"auto_pad": "VALID"}])
def test_folds_into_conv(opset, options):
    g = Graph(opset)
    model = g.model(conv(g, padded(g, image(g)), **options))
    result = assert_rewrites(RULES, model, becomes=["Conv"])
    pads = next(a.ints for a in result.graph.node[0].attribute if a.name == "pads")
    own = options.get("pads", [0, 0, 0, 0])
    assert [p - o for p, o in zip(pads, own, strict=True)] == [1, 0, 2, 1]


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("options", [{}, {"strides": [2, 3]}])
def test_works_out_what_same_pads(mode, options):
    for size in (8, 9):
        g = Graph()
        y = conv(g, padded(g, image(g, size)), 2, auto_pad=mode, **options)
        assert_rewrites(RULES, g.model(y), becomes=["Conv"])


def test_leaves_same_of_unknown_size_with_a_stride():
    g = Graph()
    y = conv(g, padded(g, g.input("x", 1, 4, "h", "w")), auto_pad="SAME_UPPER", strides=[2, 2])
    assert_untouched(RULES, g.model(y))
    g = Graph()
    y = conv(g, padded(g, g.input("x", 1, 4, "h", "w")), auto_pad="SAME_UPPER")
    assert_rewrites(RULES, g.model(y), becomes=["Conv"])


def test_reads_the_axes_of_new_operator_sets():
    g = Graph(18)
    y = g.Pad(image(g), np.array([1, 2, 0, 1]), None, np.array([-1, 2]))
    result = assert_rewrites(RULES, g.model(conv(g, y)), becomes=["Conv"])
    pads = next(a.ints for a in result.graph.node[0].attribute if a.name == "pads")
    assert list(pads) == [2, 1, 1, 0]


def test_leaves_what_conv_cannot_pad():
    for pads, value, mode in [
        ([0, 0, -1, 0, 0, 0, 1, 1], 0.0, "constant"),
        ([0, 1, 1, 0, 0, 0, 1, 1], 0.0, "constant"),
        (SPATIAL, 0.5, "constant"),
        (SPATIAL, 0.0, "reflect"),
        (SPATIAL, 0.0, "edge"),
    ]:
        g = Graph()
        x = g.input("x", 1, 4 - pads[1], 9, 9)
        assert_untouched(RULES, g.model(conv(g, padded(g, x, pads, value, mode=mode))))
    g = Graph()
    y = g.Pad(image(g), g.Identity(g.const(np.array(SPATIAL))))
    assert_untouched(RULES, g.model(conv(g, y)))


@pytest.mark.parametrize("options", [{}, {"count_include_pad": 1, "pads": [1, 1, 0, 0]}])
def test_folds_into_average_pool_that_counts_the_zeros(options):
    for opset in (8, 17):
        g = Graph(opset)
        y = padded(g, image(g), [0, 0, 1, 0, 0, 0, 1, 1])
        model = g.model(g.AveragePool(y, kernel_shape=[3, 3], strides=[2, 2], **options))
        assert_rewrites(RULES, model, becomes=["AveragePool"])


def test_leaves_average_pools_that_count_otherwise():
    for options in [{"pads": [1, 1, 0, 0]}, {"ceil_mode": 1}, {"kernel_shape": [2, 2]}]:
        g = Graph()
        given = {"kernel_shape": [3, 3], **options}
        assert_untouched(RULES, g.model(g.AveragePool(padded(g, image(g)), **given)))


@pytest.mark.parametrize("before", ["Relu", "Sigmoid", "Clip", "Softmax"])
def test_folds_zeros_into_max_pool_of_what_is_not_negative(before):
    for opset in (8, 11, 17):
        g = Graph(opset)
        x = image(g)
        if before == "Clip":
            y = g.Clip(x, min=0.0) if opset < 11 else g.Clip(x, 0.0)
        else:
            y = g.node(before, x)
        y = g.Reshape(g.Relu(y), np.array([1, 4, 9, 9])) if opset == 17 else y
        y = padded(g, y, [0, 0, 1, 0, 0, 0, 1, 1])
        model = g.model(g.MaxPool(y, kernel_shape=[3, 3], strides=[2, 2]))
        becomes = [before, "MaxPool", *(["Relu", "Reshape"] if opset == 17 else [])]
        assert_rewrites(RULES, model, becomes=becomes)


def test_folds_minus_infinity_into_max_pool_of_anything():
    g = Graph()
    y = padded(g, image(g), [0, 0, 1, 0, 0, 0, 1, 1], -np.inf)
    model = g.model(g.MaxPool(y, kernel_shape=[3, 3], pads=[1, 0, 0, 0]))
    assert_rewrites(RULES, model, becomes=["MaxPool"])
    g = Graph()
    y = padded(g, image(g), [0, 0, 1, 0, 0, 0, 1, 1], np.finfo(np.float32).min)
    result, _ = apply_rules(g.model(g.MaxPool(y, kernel_shape=[3, 3])), RULES)
    assert [node.op_type for node in result.graph.node] == ["MaxPool"]


def test_leaves_max_pools_where_zeros_could_win():
    for options in [{"ceil_mode": 1}, {"dilations": [2, 2]}, {"kernel_shape": [2, 2]}]:
        g = Graph()
        given = {"kernel_shape": [3, 3], **options}
        assert_untouched(RULES, g.model(g.MaxPool(padded(g, g.Relu(image(g))), **given)))
    for before in ("Tanh", "Identity", "Neg"):
        g = Graph()
        y = padded(g, g.node(before, image(g)), [0, 0, 1, 0, 0, 0, 1, 1])
        assert_untouched(RULES, g.model(g.MaxPool(y, kernel_shape=[3, 3])))


def test_leaves_a_max_pool_whose_indices_are_read():
    g = Graph()
    y = padded(g, g.Relu(image(g)), [0, 0, 1, 0, 0, 0, 1, 1])
    pooled, indices = g.MaxPool(y, kernel_shape=[3, 3], outputs=2)
    model = g.model(pooled, g.Cast(indices, to=1))
    assert_untouched(RULES, model)
