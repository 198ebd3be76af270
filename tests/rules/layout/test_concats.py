import numpy as np
import pytest

from onnxopt.rules.layout import concats
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

END = 2**63 - 1


def ints(*values):
    return np.array(values, np.int64)


def test_concats_along_one_axis_become_one():
    for inner_axis in (1, -1):
        g = Graph()
        x, z = g.input("x", 2, 3), g.input("z", 2, 1)
        y = g.Concat(z, g.Concat(x, z, axis=inner_axis), g.Concat(x, x, axis=1), axis=1)
        assert_rewrites(concats.flatten_concats, g.model(y), becomes=["Concat"])


def test_concats_along_two_axes_or_read_by_others_stay():
    g = Graph()
    x = g.input("x", 2, 3)
    rows = g.Concat(x, x, axis=0)
    assert_untouched(concats.flatten_concats, g.model(g.Concat(rows, rows, axis=1)))
    g = Graph()
    x = g.input("x", 2, 3)
    inner = g.Concat(x, x, axis=0)
    model = g.model(g.Concat(inner, x, axis=0), g.Relu(inner))
    assert_untouched(concats.flatten_concats, model)


def test_operands_of_size_zero_go():
    g = Graph()
    x = g.input("x", 2, 3)
    y = g.Concat(x, np.zeros((2, 0), np.float32), g.Relu(x), axis=1)
    assert_rewrites(concats.drop_empty_operands, g.model(y), becomes=["Relu", "Concat"])
    g = Graph()
    y = g.Concat(np.zeros((2, 0), np.float32), axis=1)
    assert_untouched(concats.drop_empty_operands, g.model(y))


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_the_parts_of_a_split_in_order_are_what_was_split(opset):
    attributes = {"num_outputs": 3} if opset >= 18 else {}
    g = Graph(opset=opset)
    parts = g.Split(g.input("x", 2, "N"), axis=1, outputs=3, **attributes)
    model = g.model(g.Relu(g.Concat(*parts, axis=-1)))
    assert_rewrites(
        concats.join_split, model, becomes=["Relu"], feeds={"x": np.ones((2, 6), np.float32)}
    )
    for order in ((1, 0, 2), (0, 1), (0, 1, 2, 2)):
        g = Graph(opset=opset)
        parts = g.Split(g.input("x", 2, 6), axis=1, outputs=3, **attributes)
        assert_untouched(concats.join_split, g.model(g.Concat(*(parts[k] for k in order), axis=1)))
    g = Graph(opset=opset)
    parts = g.Split(g.input("x", 6, 6), axis=1, outputs=3, **attributes)
    assert_untouched(concats.join_split, g.model(g.Concat(*parts, axis=0)))


def pieces(shape, *bounds):
    g = Graph()
    x = g.input("x", *shape)
    cuts = [g.Slice(x, ints(a), ints(b), ints(1)) for a, b in bounds]
    return g.model(g.Relu(g.Concat(*cuts, axis=1)))


def test_adjoining_slices_are_one_slice_or_all():
    whole = [
        ((2, 6), (0, 2), (2, 4), (4, 6)),
        ((2, 6), (0, 2), (-4, END)),
        ((2, "N"), (0, 2), (2, END)),
    ]
    for shape, *bounds in whole:
        assert_rewrites(concats.join_slices, pieces(shape, *bounds), becomes=["Relu"])
    model = pieces((2, 6), (1, 2), (2, 5))
    assert_rewrites(concats.join_slices, model, becomes=["Slice", "Relu"])


def test_slices_that_do_not_adjoin_stay():
    for shape, *bounds in (
        ((2, 6), (2, 4), (0, 2)),
        ((2, 6), (0, 3), (2, 6)),
        ((2, 6), (0, 2), (3, 6)),
        ((2, 6), (0, 5), (5, 3), (3, 6)),
        ((2, "N"), (0, -2), (-2, END)),
    ):
        assert_untouched(concats.join_slices, pieces(shape, *bounds))


@pytest.mark.parametrize("opset", [11, 13])
def test_a_stack_is_a_concat_that_is_reshaped_once(opset):
    for shape, axis in (((2, 3), 0), (("N", 3), 0), (("N", 3), 1)):
        g = Graph(opset=opset)
        x, z = g.input("x", *shape), g.input("z", *shape)
        stacked = [g.axes("Unsqueeze", value, [axis]) for value in (x, z, g.Relu(x))]
        model = g.model(g.Exp(g.Concat(*stacked, axis=axis)))
        becomes = ["Relu", "Concat", "Reshape", "Exp"]
        assert_rewrites(concats.stack_by_concat, model, becomes=becomes)


def test_a_stack_that_is_an_output_stays_because_a_reshape_would_copy_it():
    g = Graph()
    x = g.input("x", 2, 3)
    stacked = [g.axes("Unsqueeze", value, [0]) for value in (x, g.Relu(x))]
    assert_untouched(concats.stack_by_concat, g.model(g.Concat(*stacked, axis=0)))


def test_a_stack_on_the_last_axis_or_of_unequal_operands_stays():
    g = Graph()
    x, z = g.input("x", 2, 3), g.input("z", 2, 3)
    stacked = [g.axes("Unsqueeze", value, [2]) for value in (x, z)]
    assert_untouched(concats.stack_by_concat, g.model(g.Exp(g.Concat(*stacked, axis=2))))
    g = Graph()
    x, z = g.input("x", "N", "M"), g.input("z", "N", "M")
    stacked = [g.axes("Unsqueeze", value, [0]) for value in (x, z)]
    assert_untouched(concats.stack_by_concat, g.model(g.Exp(g.Concat(*stacked, axis=1))))
