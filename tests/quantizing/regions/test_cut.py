from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantizing.regions.cut import Border, Problem, cheapest, front

TIME = st.integers(-50, 50).map(float)
COST = st.integers(0, 30).map(float)
NOISE = st.integers(0, 40).map(lambda number: number / 1000)


@st.composite
def problems(draw, fixed=True):
    names = [f"r{place}" for place in range(draw(st.integers(1, 7)))]
    some = st.lists(st.sampled_from(names), unique=True, max_size=3).map(tuple)
    borders = draw(
        st.lists(
            st.builds(Border, cost=COST, inner=some, outer=some, outside=st.booleans()), max_size=8
        )
    )
    return Problem(
        saved={name: draw(TIME) for name in names},
        noise={name: draw(NOISE) for name in names},
        borders=borders,
        fixed=draw(st.dictionaries(st.sampled_from(names), st.booleans())) if fixed else {},
    )


def subsets(problem):
    for size in range(len(problem.saved) + 1):
        for chosen in map(frozenset, combinations(problem.saved, size)):
            if all((name in chosen) == label for name, label in problem.fixed.items()):
                yield chosen


def worth(problem, chosen, trade):
    return problem.gain(chosen) - trade * problem.error(chosen)


@given(problems(), st.sampled_from([0.0, 1.0, 300.0, 5000.0]))
@settings(max_examples=70, deadline=None)
def test_the_cut_is_the_best_of_all_subsets(problem, trade):
    found = cheapest(problem, trade)
    best = max(worth(problem, chosen, trade) for chosen in subsets(problem))
    assert worth(problem, found.int8, trade) == pytest.approx(best, abs=1e-4)
    assert all((name in found.int8) == label for name, label in problem.fixed.items())


@given(problems(fixed=False))
@settings(max_examples=25, deadline=None)
def test_the_front_holds_every_corner_of_the_hull(problem):
    found = front(problem, most=1000)
    for trade in (0.5, 20.0, 100.0, 400.0, 2000.0, 30000.0):
        best = max(worth(problem, chosen, trade) for chosen in subsets(problem))
        known = [0.0, *(worth(problem, choice.int8, trade) for choice in found)]
        assert max(known) == pytest.approx(best, abs=1e-3 + 1e-5 * trade)


@given(problems(fixed=False))
@settings(max_examples=25, deadline=None)
def test_no_point_of_the_front_beats_another_but_all_int8(problem):
    found = [each for each in front(problem) if each.int8 != problem.everything()]
    for one, two in combinations(found, 2):
        assert (one.gain > two.gain) == (one.noise > two.noise)


def test_a_fast_region_between_two_slow_ones_pays_for_its_borders():
    def problem(cost):
        return Problem(
            saved={"a": -1.0, "b": 10.0, "c": -1.0},
            noise=dict.fromkeys("abc", 0.01),
            borders=[
                Border(cost=cost, inner=("b",), outer=("a",)),
                Border(cost=cost, inner=("b",), outer=("c",)),
            ],
        )

    assert cheapest(problem(0.4), 0.0).int8 == {"b"}
    assert cheapest(problem(2.0), 0.0).int8 == {"a", "b", "c"}
    assert cheapest(problem(2.0), 1000.0).int8 == set()


def test_a_conversion_is_paid_once_for_all_readers():
    border = Border(cost=3.0, inner=("b", "c"), outer=("a",))
    problem = Problem(
        saved={"a": -10.0, "b": 2.0, "c": 2.0}, noise=dict.fromkeys("abc", 0.0), borders=[border]
    )
    assert cheapest(problem, 0.0).int8 == {"b", "c"}
    assert problem.gain({"b", "c"}) == 1.0


def test_what_is_surrounded_by_int8_counts_as_int8():
    problem = Problem(
        saved={"a": 10.0, "softmax": -50.0, "b": 100.0},
        noise={"a": 0.1, "softmax": 0.2, "b": 0.3},
        surrounded={"softmax": frozenset("ab")},
    )
    found = cheapest(problem, 0.0)
    assert found.int8 == {"a", "softmax", "b"}
    assert found.gain == 60.0
    assert found.noise == pytest.approx(0.6)
    caution = Border(cost=50.0, inner=("a",), outer=("softmax",))
    careful = cheapest(replace(problem, cautions=[caution]), 0.0)
    assert careful.int8 == {"b"}
    assert careful.gain == 100.0


def test_a_long_front_is_thinned_but_keeps_its_ends_and_all_int8():
    names = [f"r{place}" for place in range(60)]
    problem = Problem(
        saved={name: 100.0 + place for place, name in enumerate(names)} | {"slow": -5.0},
        noise={name: 1e-6 * 1.3**place for place, name in enumerate(names)} | {"slow": 1e-3},
    )
    whole, thin = front(problem, most=1000), front(problem, most=10)
    assert len(whole) == 61
    assert len(thin) == 10
    assert thin[0].int8 == problem.everything()
    assert thin[1].int8 == set(names)
    assert thin[-1] == whole[-1]


def test_float_only_and_nothing_at_all_give_an_empty_front():
    assert front(Problem(saved={}, noise={})) == []
    assert front(Problem(saved={"a": 5.0}, noise={"a": 0.1}, fixed={"a": False})) == []
    assert [c.int8 for c in front(Problem(saved={"a": 5.0}, noise={"a": 0.1}))] == [{"a"}]
