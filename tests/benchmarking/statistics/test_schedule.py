"""Counts that follow from variances and costs."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.benchmarking.statistics.schedule import (
    FEWEST_PROCESSES,
    FEWEST_RUNS,
    MOST_RUNS,
    Costs,
    processes_wanted,
    rounds,
    runs_of,
)
from onnxopt.benchmarking.statistics.stats import Components

USUAL = Costs(process=0.3, session=0.05, run=0.002, runs=10)
FOUND = Components(process=0.0005, session=0.01, processes=8, sessions=4)

seconds = st.one_of(st.just(0.0), st.floats(1e-9, 1e4))
variances = st.one_of(st.floats(0, 10), st.just(math.nan))
costs = st.builds(Costs, process=seconds, session=seconds, run=seconds, runs=st.floats(0, 1e6))
found = st.builds(
    Components,
    process=variances,
    session=variances,
    processes=st.integers(0, 100),
    sessions=st.floats(1, 100),
)


@given(found=st.one_of(found, st.none()), costs=costs, sides=st.integers(1, 9), all_=seconds)
def test_rounds_are_within_bounds_and_fit_into_the_time(found, costs, sides, all_):
    made = rounds(found, costs, sides, seconds=all_, left=all_ / 2)
    assert 1 <= made <= 8
    if made > 1:
        assert costs.process + made * costs.round_of(sides) <= all_ / 8 + 1e-6


def test_hardly_measurable_rounds_are_few_where_no_time_is_left():
    costs = Costs(process=1, session=0, run=1, runs=5e-324)
    found = Components(process=0, session=0, processes=3, sessions=1)
    assert rounds(found, costs, 1, seconds=0, left=0) == 1


@given(within=variances, medians=variances, costs=costs)
def test_runs_are_within_bounds(within, medians, costs):
    made = runs_of(within, medians, costs)
    assert made is None or FEWEST_RUNS <= made <= MOST_RUNS


@given(found=found, precision=st.floats(0.001, 0.9), comparisons=st.integers(1, 100))
def test_processes_are_within_bounds(found, precision, comparisons):
    if math.isfinite(found.process):
        made = processes_wanted(found, precision, comparisons)
        assert FEWEST_PROCESSES <= made <= 11_000


@given(st.floats(1e-6, 1), st.floats(1, 100))
def test_the_more_sessions_differ_the_more_there_are_in_a_process(variance, more):
    made = [
        rounds(replace(FOUND, session=each), USUAL, 2, seconds=1e6, left=1e6)
        for each in (variance, variance * more)
    ]
    assert made[0] <= made[1]


@given(st.floats(1e-3, 10), st.floats(1, 100))
def test_the_dearer_a_process_is_the_more_sessions_it_has(process, more):
    made = [
        rounds(FOUND, replace(USUAL, process=each), 2, seconds=1e6, left=1e6)
        for each in (process, process * more)
    ]
    assert made[0] <= made[1]


@given(st.floats(1e-6, 1), st.floats(1, 100))
def test_the_more_runs_differ_the_more_of_them_a_session_has(variance, more):
    made = [runs_of(each, 0.5, replace(USUAL, runs=1e6)) for each in (variance, variance * more)]
    assert made[0] <= made[1]


def test_the_spread_between_processes_decides_nothing_about_sessions():
    """It would choose by chance, and intervals would miss."""
    made = {
        rounds(replace(FOUND, process=each), USUAL, 2, seconds=1e6, left=1e6)
        for each in (0.0, 1e-4, 1.0)
    }
    assert len(made) == 1


@pytest.mark.parametrize(
    ("unknown", "costs"),
    [(None, USUAL), (replace(FOUND, processes=2), USUAL), (replace(FOUND, session=math.nan), USUAL),
     (FOUND, replace(USUAL, session=0.0, run=0.0))],
)  # fmt: skip
def test_where_nothing_is_known_there_is_one_round(unknown, costs):
    assert rounds(unknown, costs, 2, seconds=1e6, left=1e6) == 1


def test_a_round_is_two_sessions_of_each_model():
    assert USUAL.round_of(3) == pytest.approx(2 * 3 * (0.05 + 10 * 0.002))


def test_runs_that_explain_all_of_the_medians_are_as_many_as_may_be():
    assert runs_of(0.04, 0.001, USUAL) == MOST_RUNS
    assert runs_of(0.0001, 0.01, USUAL) == FEWEST_RUNS
    assert runs_of(math.nan, 0.01, USUAL) is None
    assert runs_of(0.0001, 0.01, replace(USUAL, run=0.0)) is None


def test_a_narrower_interval_and_more_comparisons_take_more_processes():
    wide, narrow = (processes_wanted(FOUND, each, 1) for each in (0.05, 0.01))
    assert FEWEST_PROCESSES <= wide < narrow
    assert processes_wanted(FOUND, 0.01, 20) > narrow
    assert processes_wanted(replace(FOUND, sessions=8), 0.01, 1) < narrow
