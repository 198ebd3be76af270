import numpy as np
import pytest

from onnxopt.rules.layout import gathers
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

END = 2**63 - 1


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", [11, 13])
def test_gather_of_the_only_element_needs_no_index(opset):
    for index, becomes in ((np.array(0), ["Squeeze", "Relu"]), (ints(-1), ["Relu"])):
        g = Graph(opset=opset)
        y = g.Relu(g.Gather(g.input("x", 2, 1, "N"), index, axis=1))
        assert_rewrites(gathers.drop_gather_of_one, g.model(y), becomes=becomes)
    for size, index in ((2, np.array(0)), ("M", np.array(0)), (1, ints(0, 0)), (1, ints(0)[None])):
        g = Graph(opset=opset)
        y = g.Gather(g.input("x", 2, size), index, axis=1)
        assert_untouched(gathers.drop_gather_of_one, g.model(y))


@pytest.mark.parametrize("opset", [9, 11, 13])
@pytest.mark.parametrize(("start", "stop"), [(1, 2), (0, 1), (-2, -1), (-1, END)])
def test_a_slice_of_one_element_that_is_squeezed_is_a_gather(opset, start, stop):
    if opset < 11 and start < 0:
        return  # Gather could not count from the end yet
    g = Graph(opset=opset)
    x = g.input("x", "N", 3)
    if opset < 10:
        part = g.Slice(x, starts=[start], ends=[stop], axes=[1])
    else:
        part = g.Slice(x, ints(start), ints(stop), ints(1))
    model = g.model(g.axes("Squeeze", part, [1]))
    assert_rewrites(gathers.turn_slice_squeeze_into_gather, model, becomes=["Gather"])


@pytest.mark.parametrize(("start", "stop", "axis"), [(0, END, 1), (-1, 0, 1), (0, 1, 0)])
def test_other_slices_that_are_squeezed_stay(start, stop, axis):
    g = Graph()
    part = g.Slice(g.input("x", 1, 1), ints(start), ints(stop), ints(1))
    model = g.model(g.axes("Squeeze", part, [axis]))
    assert_untouched(gathers.turn_slice_squeeze_into_gather, model)


@pytest.mark.parametrize("opset", [11, 13])
@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_axis_that_is_taken_and_put_back_is_kept(opset, axis):
    g = Graph(opset=opset)
    y = g.axes("Unsqueeze", g.Gather(g.input("x", 4, 4, 4), np.array(-2), axis=axis), [axis])
    assert_rewrites(gathers.keep_gathered_axis, g.model(y), becomes=["Gather"])


def test_an_axis_put_elsewhere_or_in_a_computed_shape_stays():
    g = Graph()
    y = g.axes("Unsqueeze", g.Gather(g.input("x", 4, 4), np.array(1), axis=0), [1])
    assert_untouched(gathers.keep_gathered_axis, g.model(y))
    g = Graph()
    size = g.axes("Unsqueeze", g.Gather(g.Shape(g.input("x", "N", 4)), np.array(0)), [0])
    assert_untouched(gathers.keep_gathered_axis, g.model(size, dtype=7))
