import itertools

import numpy as np
import pytest

from onnxopt.rules.layout import slices
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, operators, run
from tests.rules.graphs import END, Graph, cut, ints


@pytest.mark.parametrize("opset", [9, 10, 13])
def test_slices_of_two_axes_become_one(opset):
    for shape in ((4, 6), ("N", "M")):
        g = Graph(opset=opset)
        y = cut(g, cut(g, g.input("x", *shape), 0, 1, 3), 1, -2, END)
        model = g.model(y)
        # An axis below zero would need the rank, which is known here.
        assert_rewrites(slices.merge_slices, model, becomes=["Slice"])


PARTS = [(1, END, 1), (0, 5, 1), (2, 7, 2), (0, -1, 1), (-4, END, 1), (-1, -END, -1), (9, 1, -3)]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(PARTS, PARTS)))
def test_slices_of_one_axis_compose_as_in_python(first, second):
    g = Graph()
    model = g.model(cut(g, cut(g, g.input("x", 2, 8), 1, *first), 1, *second))
    result, outcome = apply_rules(model, [slices.merge_slices])
    assert outcome.done == {"merge_slices": 1}
    feed = {"x": np.arange(16, dtype=np.float32).reshape(2, 8)}
    np.testing.assert_array_equal(run(result, feed)[0], run(model, feed)[0])


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_slices_of_an_axis_of_unknown_size_compose_where_they_count_from_the_front(size):
    parts = [(0, 3, 1), (1, END, 1), (1, 6, 2), (2, END, 3)]
    for first, second in itertools.product(parts, parts):
        g = Graph()
        model = g.model(cut(g, cut(g, g.input("x", "N"), 0, *first), 0, *second))
        result, outcome = apply_rules(model, [slices.merge_slices])
        assert outcome.done == {"merge_slices": 1}
        feed = {"x": np.arange(size, dtype=np.float32)}
        np.testing.assert_array_equal(run(result, feed)[0], run(model, feed)[0])


def test_slices_that_count_from_an_unknown_end_stay():
    for first, second in (((1, -1), (0, 2)), ((0, 4), (-2, END)), ((-3, END), (1, 2))):
        g = Graph()
        model = g.model(cut(g, cut(g, g.input("x", "N"), 0, *first), 0, *second))
        assert_untouched(slices.merge_slices, model)


def test_bounds_computed_at_run_time_and_shared_slices_stay():
    g = Graph()
    start = g.input("start", 1, dtype=7)
    y = g.Slice(cut(g, g.input("x", 4), 0, 1, 3), start, ints(2))
    assert_untouched(slices.merge_slices, g.model(y))
    g = Graph()
    inner = cut(g, g.input("x", 4, 4), 0, 1, 3)
    model = g.model(cut(g, inner, 1, 0, 2), cut(g, inner, 1, 1, 3))
    assert_untouched(slices.merge_slices, model)


def concat_of_three(g, middle=3):
    parts = [g.input("a", 2, 2), g.input("b", 2, middle), g.input("c", 2, 4)]
    return g.Concat(*parts, axis=1)


@pytest.mark.parametrize(
    ("taken", "becomes"),
    [
        ((0, 2), ["Relu"]),
        ((2, 5), ["Relu"]),
        ((-4, END), ["Relu"]),
        ((3, 5), ["Slice", "Relu"]),
        ((-2, END), ["Slice", "Relu"]),
        ((0, 5, 2), None),
        ((1, 4), None),
    ],
)
def test_a_slice_of_one_operand_of_a_concat_skips_the_concat(taken, becomes):
    g = Graph()
    model = g.model(g.Relu(cut(g, concat_of_three(g), 1, *taken)))
    if becomes is None:
        assert_untouched(slices.slice_concat_part, model)
    else:
        assert_rewrites(slices.slice_concat_part, model, becomes=becomes, loses=["free batch"])


def test_operands_of_unknown_size_are_only_passed_from_their_known_side():
    g = Graph()
    model = g.model(g.Relu(cut(g, concat_of_three(g, "M"), 1, 0, 2)))
    assert_rewrites(slices.slice_concat_part, model, becomes=["Relu"])
    for taken in ((2, 5), (-4, END), (-4, -1)):
        g = Graph()
        model = g.model(cut(g, concat_of_three(g, "M"), 1, *taken))
        assert_untouched(slices.slice_concat_part, model)


@pytest.mark.parametrize("opset", [9, 12, 13, 18])
def test_slices_that_cut_an_axis_into_parts_become_a_split(opset):
    g = Graph(opset=opset)
    x = g.input("x", 2, 7)
    a, b, c = cut(g, x, 1, 0, 2), cut(g, x, 1, 2, 6), cut(g, x, 1, -1, END)
    model = g.model(g.Relu(c), g.Exp(a), g.Neg(b))
    becomes = ["Split", "Relu", "Exp", "Neg"]
    assert_rewrites(slices.merge_slices_into_split, model, becomes=becomes, loses=["free batch"])


def test_the_split_stands_before_all_that_reads_its_parts():
    g = Graph()
    x = g.input("x", 4, 2)
    first = g.Relu(cut(g, x, 0, 0, 2))
    model = g.model(g.Add(first, cut(g, x, 0, 2, 4)))
    nodes = model.graph.node
    nodes.insert(0, nodes.pop(2))
    result, _ = apply_rules(model, [slices.merge_slices_into_split])
    assert [node.op_type for node in result.graph.node] == ["Split", "Relu", "Add"]


def test_slices_that_overlap_leave_gaps_or_are_cut_again_stay():
    for parts in ([(0, 3), (2, 6)], [(0, 2), (3, 6)], [(0, 6), (0, 6)], [(0, 3), (3, 5)]):
        g = Graph()
        x = g.input("x", 2, 6)
        model = g.model(*(g.Relu(cut(g, x, 1, *part)) for part in parts))
        assert_untouched(slices.merge_slices_into_split, model)
    g = Graph()
    x = g.input("x", 4, 6)
    halves = [cut(g, cut(g, x, 1, *part), 0, 0, 2) for part in ((0, 3), (3, 6))]
    result, _ = apply_rules(g.model(*halves), [slices.merge_slices_into_split])
    assert operators(result) == {"Slice": 4}
