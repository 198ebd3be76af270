"""Percentiles from histograms: how exact they are, and how often their intervals hold the truth."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.benchmarking.statistics.tails import Histogram, percentiles

TIMES = st.lists(st.integers(1, 10**13), min_size=1, max_size=200)
LEVELS = st.floats(0.001, 0.999)


def filled(times):
    histogram = Histogram()
    histogram.add(times)
    return histogram


@given(TIMES, LEVELS)
def test_a_quantile_is_the_order_statistic_within_a_twentieth_of_a_per_cent(times, level):
    exact = sorted(times)[max(1, math.ceil(level * len(times) - 1e-9)) - 1]
    assert filled(times).quantile(level) == pytest.approx(exact, rel=0.0005)


@given(TIMES, TIMES, LEVELS)
def test_merged_histograms_are_the_histogram_of_all(one, two, level):
    merged, added = filled(one), filled(one)
    merged.merge(filled(two))
    added.add(np.array(two))
    together = filled(one + two)
    for histogram in (merged, added):
        assert histogram.count == len(one) + len(two)
        assert histogram.quantile(level) == together.quantile(level)


@given(st.lists(TIMES, min_size=2, max_size=6), LEVELS)
def test_an_interval_holds_its_value(processes, level):
    value, low, high = percentiles([filled(times) for times in processes], [level])[level]
    assert math.isnan(value) or low <= value <= high


def test_memory_does_not_grow_with_the_runs():
    rng = np.random.default_rng(0)
    histogram = Histogram()
    for _ in range(20):
        histogram.add((1e7 * np.exp(rng.normal(0, 0.1, 10_000))).astype(int))
    assert histogram.count == 200_000
    assert histogram.buckets.nbytes + histogram.counts.nbytes < 20_000


def test_a_time_of_no_time_counts():
    assert filled([0, 0, 0]).count == 3
    assert filled([0]).quantile(0.5) == pytest.approx(1, rel=0.001)


def test_without_runs_there_is_no_percentile():
    assert math.isnan(Histogram().quantile(0.5))
    assert all(map(math.isnan, percentiles([], [0.5])[0.5]))
    assert percentiles([Histogram(), filled([5, 5])], [0.5])[0.5][0] == pytest.approx(5, rel=0.001)


def test_a_thousandth_is_told_of_a_thousand_runs_and_more():
    few, enough = (percentiles([filled(range(1, n))] * 2, [0.999]) for n in (500, 501))
    assert math.isnan(few[0.999][0])
    assert enough[0.999][0] == pytest.approx(500, rel=0.001)


def test_one_process_bounds_nothing():
    value, low, high = percentiles([filled(range(100, 2000))], [0.5])[0.5]
    assert value == pytest.approx(1049, rel=0.001)
    assert (low, high) == (0, math.inf)


def test_where_few_runs_lie_beyond_it_an_interval_has_no_end():
    rng = np.random.default_rng(1)
    found = percentiles([filled(rng.integers(10**6, 10**7, 200)) for _ in range(6)])
    assert math.isfinite(found[0.9][2])
    assert found[0.999][1] > 0
    assert found[0.999][2] == math.inf


def test_processes_count_by_their_runs():
    found = percentiles([filled([100] * 900), filled([200] * 100)], [0.5, 0.95])
    assert found[0.5][0] == pytest.approx(100, rel=0.001)
    assert found[0.95][0] == pytest.approx(200, rel=0.001)


def _draw(rng, processes, sessions, bursts):
    """Draw runs by process, with the components of variance that were measured."""
    level = rng.normal(0, 0.04, (processes, 1, 1)) + rng.normal(0, 0.08, (processes, sessions, 1))
    runs = level + rng.normal(0, 0.02, (processes, sessions, 30))
    runs += rng.exponential(0.3, runs.shape) * (rng.random(runs.shape) < bursts)
    return (1e7 * np.exp(runs)).astype(int).reshape(processes, -1)


@pytest.mark.parametrize("bursts", [0.0, 0.03])
@pytest.mark.parametrize("processes", [3, 6, 12])
def test_intervals_hold_the_truth_as_often_as_the_module_says(processes, bursts):
    rng = np.random.default_rng(processes)
    levels = (0.5, 0.9, 0.99)
    truth = np.quantile(_draw(rng, 4000, 8, bursts), levels)
    held = np.zeros(3)
    for _ in range(200):
        found = percentiles([filled(times) for times in _draw(rng, processes, 8, bursts)], levels)
        held += [
            found[at][1] <= true <= found[at][2] for at, true in zip(levels, truth, strict=True)
        ]
    said = np.array([0.93, 0.93, 0.86])
    assert (held / 200 > said - 2 * np.sqrt(said * (1 - said) / 200)).all()


@settings(max_examples=20)
@given(st.integers(2, 40), st.floats(0.5, 0.999))
def test_more_confidence_is_a_wider_interval(processes, confidence):
    rng = np.random.default_rng(processes)
    histograms = [filled(rng.integers(10**6, 10**7, 100)) for _ in range(processes)]
    _, low, high = percentiles(histograms, [0.9], confidence=confidence)[0.9]
    _, lower, higher = percentiles(histograms, [0.9], confidence=0.9995)[0.9]
    assert lower <= low <= high <= higher
