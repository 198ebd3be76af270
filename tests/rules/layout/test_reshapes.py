import numpy as np
import pytest

from onnxopt.rules.layout import reshapes
from onnxopt.rules.simple import same_shape
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

SINCE = [11, 13, 21]


def ints(*values):
    return np.array(values, np.int64)


def test_two_reshapes_become_one():
    g = Graph()
    y = g.Reshape(g.Reshape(g.input("x", 2, 3, 4), ints(6, 4)), ints(8, 3))
    assert_rewrites(reshapes.merge_reshapes, g.model(y), becomes=["Reshape"])


@pytest.mark.parametrize(
    ("shape", "first", "second"),
    [
        ((2, 3, 4), (0, 12), (0, 2, -1)),
        (("N", 3, 4), (0, 12), (0, 2, 6)),
        (("N", 3, 4), (0, -1), (-1, 4)),
        (("N", 3, 4), (-1, 4), (-1, 12)),
        (("N", "M", 4), (0, 0, 2, 2), (0, 0, -1)),
    ],
)
def test_zeros_and_minus_ones_keep_their_meaning(shape, first, second):
    g = Graph()
    y = g.Reshape(g.Reshape(g.input("x", *shape), ints(*first)), ints(*second))
    assert_rewrites(
        [same_shape.drop_reshape_to_same_shape, reshapes.merge_reshapes], g.model(g.Relu(y))
    )


def test_a_zero_that_would_copy_another_dimension_keeps_both():
    g = Graph()
    y = g.Reshape(g.Reshape(g.input("x", "N", "M", 2), ints(1, 0, -1)), ints(0, -1, 0))
    assert_untouched(reshapes.merge_reshapes, g.model(y))


def test_the_names_on_an_output_are_no_proof():
    g = Graph()
    y = g.Flatten(g.axes("Unsqueeze", g.input("x", "N", 3, 4), [1]), axis=3)
    model = g.model(y)
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "N"
    assert_rewrites(reshapes.merge_reshapes, model, becomes=["Reshape"])


def test_a_zero_that_means_zero_is_left_alone():
    g = Graph()
    y = g.Reshape(g.Reshape(g.input("x", 0, 3), ints(3, 0), allowzero=1), ints(0, 4), allowzero=1)
    assert_untouched(reshapes.merge_reshapes, g.model(y))


@pytest.mark.parametrize("opset", SINCE)
def test_flatten_squeeze_and_unsqueeze_count_as_reshapes(opset):
    g = Graph(opset=opset)
    y = g.Flatten(g.axes("Unsqueeze", g.input("x", 2, 3, 4), [1]), axis=3)
    assert_rewrites(reshapes.merge_reshapes, g.model(y), becomes=["Reshape"])
    g = Graph(opset=opset)
    y = g.Flatten(g.axes("Squeeze", g.input("x", "N", 3, 1, 1), [2, 3]))
    model = g.model(g.Relu(y))
    assert_rewrites(reshapes.merge_reshapes, model, becomes=["Reshape", "Relu"])


def test_a_reshape_that_others_read_is_not_skipped():
    g = Graph()
    inner = g.Reshape(g.input("x", 2, 3, 4), ints(6, 4))
    model = g.model(g.Reshape(inner, ints(8, 3)), g.Relu(inner))
    assert_untouched(reshapes.merge_reshapes, model)


@pytest.mark.parametrize("opset", SINCE)
@pytest.mark.parametrize(("first", "second"), [([0], [2]), ([1, -1], [0]), ([0], [-1, 0])])
def test_two_unsqueezes_become_one(opset, first, second):
    g = Graph(opset=opset)
    y = g.axes("Unsqueeze", g.axes("Unsqueeze", g.input("x", "N", "M"), first), second)
    assert_rewrites(reshapes.merge_unsqueezes, g.model(y), becomes=["Unsqueeze"])


@pytest.mark.parametrize("opset", SINCE)
@pytest.mark.parametrize(("first", "second"), [([0], [2]), ([2], [0, 2]), ([0, 2], [-1])])
def test_two_squeezes_become_one(opset, first, second):
    g = Graph(opset=opset)
    y = g.axes("Squeeze", g.axes("Squeeze", g.input("x", 1, "N", 1, 1), first), second)
    assert_rewrites(reshapes.merge_squeezes, g.model(y), becomes=["Squeeze"])


@pytest.mark.parametrize("opset", SINCE)
@pytest.mark.parametrize(
    ("added", "removed", "becomes"),
    [
        ([1], [1], []),
        ([0, 2], [0, -3], []),
        ([0, 1], [0], ["Unsqueeze"]),
        ([0, 2], [0], ["Unsqueeze"]),
        ([3], [1, 3], ["Squeeze"]),
        ([0], [0, 2], ["Squeeze"]),
    ],
)
def test_squeeze_takes_back_what_unsqueeze_gave(opset, added, removed, becomes):
    g = Graph(opset=opset)
    inner = g.axes("Unsqueeze", g.input("x", "N", 1, "M"), added)
    y = g.Relu(g.axes("Squeeze", inner, removed))
    model = g.model(y)
    assert_rewrites(reshapes.cancel_squeeze_of_unsqueeze, model, becomes=[*becomes, "Relu"])


def test_unsqueeze_gives_back_what_squeeze_took():
    for opset in SINCE:
        g = Graph(opset=opset)
        y = g.axes("Unsqueeze", g.axes("Squeeze", g.input("x", "N", 1, "M"), [1]), [-2])
        model = g.model(g.Relu(y))
        assert_rewrites(reshapes.cancel_unsqueeze_of_squeeze, model, becomes=["Relu"])
    g = Graph()
    y = g.axes("Unsqueeze", g.axes("Squeeze", g.input("x", "N", 1, "M"), [1]), [0])
    assert_untouched(reshapes.cancel_unsqueeze_of_squeeze, g.model(y))


def test_elementwise_operators_between_reshapes_work_on_the_first_ones_input():
    g = Graph()
    t = g.Reshape(g.input("x", "N", 3, 4), ints(0, 12))
    t = g.Clip(g.Mul(g.Tanh(t), 0.5), -1.0, 1.0)
    t = g.Add(np.ones((1, 1), np.float32), t)
    model = g.model(g.Reshape(t, ints(0, 3, 4)))
    becomes = ["Tanh", "Mul", "Clip", "Add"]
    assert_rewrites(reshapes.move_reshape_over_elementwise, model, becomes=becomes)


def test_what_depends_on_the_shape_between_the_reshapes_stays():
    for between in (
        lambda g, t: g.Mul(t, g.weight(12)),
        lambda g, t: g.Add(t, np.ones((1, 1, 1, 1), np.float32)),
        lambda g, t: g.Softmax(t, axis=1),
        lambda g, t: g.Add(t, g.Exp(t)),
    ):
        g = Graph()
        t = between(g, g.Reshape(g.input("x", 2, 3, 4), ints(0, 12)))
        model = g.model(g.Reshape(t, ints(-1, 4)))
        assert_untouched(reshapes.move_reshape_over_elementwise, model)
