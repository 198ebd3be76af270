import pytest

from onnxopt.rules import load
from onnxopt.rules.layout import slices
from onnxopt.rules.unread import cuts, several
from onnxopt.testing import assert_rewrites, assert_untouched, operators
from tests.rules.graphs import Graph, cut, ints
from tests.rules.unread.checks import check, sizes

RULES = (
    slices.merge_slices_into_split,
    cuts.slice_before_computing,
    several.split_what_is_read,
    several.slices_before_computing,
)


def split(g, x, axis, *lengths):
    if g.opset < 13:
        return g.Split(x, axis=axis, split=list(lengths), outputs=len(lengths))
    return g.Split(x, ints(*lengths), axis=axis, outputs=len(lengths))


@pytest.mark.parametrize("opset", [11, 13, 18])
def test_one_part_of_a_split_is_cut(opset):
    g = Graph(opset)
    parts = split(g, g.input("x", "N", 64), 1, 16, 32, 16)
    model = g.model(g.Exp(parts[1]))
    assert_rewrites(
        several.split_what_is_read, model, becomes=["Slice", "Exp"], loses=["free batch"]
    )


def test_the_part_that_is_read_goes_into_the_weight():
    g = Graph(18)
    y = g.MatMul(g.input("x", 32, 64), g.weight(64, 96))
    parts = g.Split(y, axis=-1, num_outputs=3, outputs=3)
    result = check(g.model(g.Exp(parts[2])), RULES, becomes={"MatMul": 1, "Exp": 1})
    assert sizes(result) == [(64, 32)]


def test_two_parts_of_three_are_all_that_is_computed():
    for first, second in ((0, 1), (1, 2)):
        g = Graph(18)
        y = g.MatMul(g.input("x", 32, 64), g.weight(64, 96))
        parts = split(g, y, 1, 24, 40, 32)
        y = g.MatMul(g.Exp(parts[first]), g.Transpose(parts[first], perm=[1, 0]))
        model = g.model(y, g.Exp(parts[second]))
        result = check(model, RULES)
        assert operators(result)["Split"] == 1
        assert sizes(result) == [(64, 64 if first == 0 else 72)]


def test_parts_with_a_gap_are_cut_where_nothing_can_be_spared_above():
    g = Graph()
    parts = split(g, g.input("x", 64, 96), 1, 8, 80, 8)
    check(g.model(g.Exp(parts[0]), g.Exp(parts[2])), RULES, becomes={"Slice": 2, "Exp": 2})
    g = Graph()
    parts = split(g, g.input("x", 64, 96), 1, 40, 16, 40)
    assert_untouched(RULES, g.model(g.Exp(parts[0]), g.Exp(parts[2])))


def test_a_split_that_is_read_whole_stays():
    g = Graph()
    parts = split(g, g.Exp(g.input("x", 64, 96)), 1, 48, 48)
    assert_untouched(RULES, g.model(g.Exp(parts[0]), parts[1]))


def test_a_split_of_what_others_read_is_cut_but_nothing_is_computed_twice():
    g = Graph()
    y = g.Exp(g.input("x", 64, 96))
    parts = split(g, y, 1, 48, 24, 24)
    model = g.model(g.Exp(parts[0]), y)
    check(model, RULES, becomes={"Exp": 2, "Slice": 1})


def test_slices_share_the_range_from_the_first_to_the_last():
    g = Graph()
    y = g.Conv(g.input("x", 2, 4, 16, 16), g.weight(32, 4, 3, 3), g.weight(32))
    parts = [cut(g, y, 1, 4, 12), cut(g, y, 1, -20, 20)]
    model = g.model(*map(g.Exp, parts))
    result = check(model, RULES)
    assert operators(result) == {"Conv": 1, "Split": 1, "Exp": 2}
    assert sizes(result) == [(16,), (16, 4, 3, 3)]
    assert_rewrites(
        several.slices_before_computing,
        model,
        becomes=["Conv", "Slice", "Slice", "Exp", "Exp"],
    )


def test_slices_that_overlap_or_differ_in_their_axis():
    g = Graph()
    y = g.Exp(g.input("x", 64, 256))
    model = g.model(*(g.Exp(cut(g, y, 0, *part)) for part in ((0, 8), (4, 16))))
    check(model, RULES, becomes={"Slice": 3, "Exp": 3})
    g = Graph()
    y = g.Exp(g.input("x", 64, 64))
    assert_untouched(RULES, g.model(g.Exp(cut(g, y, 0, 0, 8)), g.Exp(cut(g, y, 1, 0, 8))))


def test_query_key_and_value_stay_one_split():
    g = Graph()
    y = g.MatMul(g.input("x", 8, 64), g.weight(64, 96))
    parts = [g.Exp(cut(g, y, 1, start, start + 32)) for start in (0, 32, 64)]
    result = check(g.model(*parts), load())
    assert operators(result) == {"MatMul": 1, "Split": 1, "Exp": 3}
