import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.graph import formulas

NAMES = {"a": 2, "b": 3, "c": 5}
dims = st.one_of(st.integers(0, 6), st.sampled_from(sorted(NAMES)))


def value(dim):
    """Evaluate a formula with numbers for its names."""
    if isinstance(dim, int):
        return dim
    return eval(dim, {"__builtins__": {}}, dict(NAMES))


@given(st.lists(dims, min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_sums_and_products_are_right_and_have_one_spelling(parts, random):
    for combine, expected in (
        (formulas.total, sum),
        (formulas.product, math.prod),
    ):
        found = parts[0]
        for part in parts[1:]:
            found = combine(found, part)
        assert value(found) == expected([value(part) for part in parts])
        shuffled = random.sample(parts, len(parts))
        again = shuffled[0]
        for part in shuffled[1:]:
            again = combine(again, part)
        assert again == found


@given(dims, dims)
def test_what_was_added_or_multiplied_can_be_taken_away(one, other):
    assert formulas.difference(formulas.total(one, other), other) == one
    if value(one) and value(other):
        assert formulas.quotient(formulas.product(one, other), other) == one


@pytest.mark.parametrize(
    ("one", "other"), [(None, 1), ("a", None), ("a?", 2), ("unknown 1:x", "a"), ("(a)//b", 3)]
)
def test_what_is_not_understood_stays_unknown(one, other):
    for combine in (formulas.total, formulas.product, formulas.difference, formulas.quotient):
        assert combine(one, other) is None


def test_sums_are_not_multiplied():
    assert formulas.product("a + b", "c") is None
    assert formulas.total("2*a", "c") is None
    assert formulas.difference("a", "b") is None
    assert formulas.difference("a", 1) is None
    assert formulas.quotient("a", "b") is None
    assert formulas.quotient(7, 2) is None
    assert formulas.quotient("a", 0) is None
