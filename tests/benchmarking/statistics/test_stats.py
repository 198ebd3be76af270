"""The interval of a ratio: how often it cries wolf, and what it finds."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.benchmarking.statistics.stats import (
    components,
    estimate,
    estimate_apart,
    interval,
    pairs_of,
    student,
)


def _simulate(rng, *, processes=8, sessions=8, faster=1.0, burst=0.0):
    """Draw two models' sessions with the components of variance that were measured."""
    baseline, candidate = [], []
    for _ in range(processes):
        common = rng.normal(0, 0.04)
        sides = [common + rng.normal(0, 0.015) for _ in range(2)]
        times = []
        for side in sides:
            level = side + rng.normal(0, 0.08, sessions)
            level += rng.exponential(0.5, sessions) * (rng.random(sessions) < burst)
            runs = 1e7 * np.exp(level[:, None] + rng.normal(0, 0.02, (sessions, 5)))
            times.append(runs)
        baseline.append(np.median(times[0], axis=1).tolist())
        candidate.append((np.median(times[1], axis=1) / faster).tolist())
    return baseline, candidate


@pytest.mark.parametrize("burst", [0.0, 0.1])
def test_equal_models_differ_in_no_more_than_one_of_twenty(burst):
    rng = np.random.default_rng(7)
    alarms = [estimate(*_simulate(rng, burst=burst)).verdict != "no difference" for _ in range(400)]
    assert np.mean(alarms) < 0.05 + 2 * 0.011  # two standard errors of 400 draws


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(8)
    found = [estimate(*_simulate(rng, faster=1.3)) for _ in range(400)]
    held = [each.low <= 1.3 <= each.high for each in found]
    assert np.mean(held) > 0.95 - 2 * 0.011


def test_a_tenth_is_found_in_nearly_all_comparisons():
    rng = np.random.default_rng(9)
    found = [estimate(*_simulate(rng, faster=1.15)).verdict for _ in range(100)]
    assert found.count("faster") > 90
    slower = [estimate(*_simulate(rng, faster=1 / 1.15)).verdict for _ in range(100)]
    assert slower.count("slower") > 90


def test_a_ratio_above_one_means_that_the_candidate_is_faster():
    found = estimate([[200]] * 5, [[100]] * 5)
    assert found.ratio == pytest.approx(2)
    assert found.verdict == "faster"
    assert (found.sessions, found.processes) == (5, 5)


def test_less_than_one_per_cent_is_no_difference():
    found = estimate([[1005]] * 6, [[1000]] * 6)
    assert found.low > 1
    assert found.verdict == "no difference"


def test_one_process_says_nothing():
    found = estimate([[200, 201, 202, 200]], [[100, 101, 102, 100]])
    assert found.ratio == pytest.approx(2, rel=0.01)
    assert found.verdict == "no difference"


def test_processes_without_a_pair_are_left_out():
    assert estimate([[]], [[]]) is None
    assert estimate([[1], [2]], [[], []]) is None
    found = estimate([[2], [2, 2], []], [[1], [1], [1]])
    assert found.sessions == 2
    assert found.ratio == pytest.approx(2)


def test_a_burst_in_one_session_of_five_is_cut_off():
    quiet = [[100] * 5 for _ in range(4)]
    burst = [[100] * 4 + [900] for _ in range(4)]
    assert estimate(quiet, burst).ratio == pytest.approx(1)


@pytest.mark.parametrize(
    ("degrees", "value"), [(1, 12.7062), (4, 2.77645), (20, 2.08596), (30, 2.04227), (120, 1.97993)]
)
def test_students_quantiles(degrees, value):
    assert student(degrees) == pytest.approx(value, rel=1e-4)


def _unequal(rng, shapes, *, faster=1.0, process=0.015, session=0.08):
    """Draw pairs of sessions, so many for each process."""
    baseline, candidate = [], []
    for sessions in shapes:
        common = rng.normal(0, 0.04)
        for levels, divisor in ((baseline, 1.0), (candidate, faster)):
            level = common + rng.normal(0, process) + rng.normal(0, session, sessions)
            levels.append((1e7 * np.exp(level) / divisor).tolist())
    return baseline, candidate


def test_processes_of_unequal_size_weigh_unequally_and_the_interval_still_holds():
    rng = np.random.default_rng(10)
    shapes = [2, 2, 2, 14, 14, 14, 14, 14, 14, 14]
    found = [estimate(*_unequal(rng, shapes, faster=1.3)) for _ in range(1500)]
    held = [each.low <= 1.3 <= each.high for each in found]
    assert np.mean(held) > 0.95 - 2 * 0.0056
    equal = [estimate(*_unequal(rng, [10] * 10)).half_width for _ in range(100)]
    assert np.median([each.half_width for each in found]) < 1.25 * np.median(equal)


def test_equal_processes_weigh_the_same():
    rng = np.random.default_rng(11)
    pairs = pairs_of(*_unequal(rng, [5] * 6))
    means = [np.mean(np.sort(each)[1:-1]) for each in pairs]
    found = estimate(*_unequal(np.random.default_rng(11), [5] * 6))
    assert np.log(found.ratio) == pytest.approx(np.mean(means))
    error = np.std(means, ddof=1) / np.sqrt(6)
    assert found.half_width == pytest.approx(student(5) * error)


def test_a_mean_of_one_session_weighs_less_than_one_of_many():
    rng = np.random.default_rng(12)
    quiet = [rng.normal(0, 0.02, 20) for _ in range(8)]
    levels = [np.exp(each).tolist() for each in quiet]
    reference = [[1.0] * 20 for _ in range(8)]
    found = estimate([*reference, [1.0]], [*levels, [1.5]])
    assert found.ratio > 0.95  # a ninth of log 1.5 is 0.045


def test_all_intervals_of_a_report_hold_together():
    rng = np.random.default_rng(13)
    hold = 0
    for _ in range(150):
        draws = [estimate(*_simulate(rng), comparisons=10) for _ in range(10)]
        hold += all(each.low <= 1 <= each.high for each in draws)
    assert hold / 150 > 0.95 - 2 * 0.018
    assert student(9, comparisons=10) > student(9)


def test_sides_that_did_not_take_turns_are_compared_with_an_interval_that_holds():
    rng = np.random.default_rng(14)
    held = []
    for _ in range(400):
        baseline, _ = _unequal(rng, [4] * 6)
        _, candidate = _unequal(rng, [2, 2, 2, 8, 8, 8, 8, 8, 8, 8, 8, 8], faster=1.2)
        found = estimate_apart(baseline, candidate)
        held.append(found.low <= 1.2 <= found.high)
    assert np.mean(held) > 0.95 - 2 * 0.011


def test_sides_apart_know_less_than_pairs():
    found = _unequal(np.random.default_rng(15), [6] * 10)
    assert estimate_apart(*found).half_width > estimate(*found).half_width
    assert estimate_apart(*found).ratio == pytest.approx(estimate(*found).ratio, rel=0.05)


def test_sides_apart_may_be_of_any_length_and_one_process_decides_nothing():
    assert estimate_apart([[2.0, 2.0]], [[]]) is None
    one = estimate_apart([[2.0, 2.0]], [[1.0], [1.0], [1.0]])
    assert (one.ratio, one.low, one.high) == (pytest.approx(2), 0, math.inf)
    assert (one.verdict, one.processes, one.sessions) == ("no difference", 1, 3)
    assert one.half_width == math.inf
    same = estimate_apart([[2.0], [2.0]], [[1.0], [1.0], [1.0]])
    assert (same.verdict, same.low, same.high) == ("faster", same.ratio, same.ratio)


def test_a_model_alone_has_an_interval_that_holds():
    rng = np.random.default_rng(16)
    held = []
    for _ in range(400):
        low, high = interval(_unequal(rng, [6] * 8)[0])
        held.append(low <= 1e7 <= high)
    assert np.mean(held) > 0.95 - 2 * 0.011


def test_of_one_process_or_none_the_interval_says_what_is_known():
    assert all(map(math.isnan, interval([])))
    assert all(map(math.isnan, interval([[]])))
    assert interval([[5.0]]) == (0, math.inf)
    low, high = interval([[5.0, 5.1, 4.9]])
    assert 0 < low < 5 < high


def test_components_are_found_again():
    rng = np.random.default_rng(17)
    found = [
        components([rng.normal(rng.normal(0, 0.05), 0.1, n) for n in (2, 4, 8, 8, 8, 8, 6, 6)])
        for _ in range(300)
    ]
    assert np.mean([each.session for each in found]) == pytest.approx(0.01, rel=0.05)
    assert np.mean([each.process for each in found]) == pytest.approx(0.0025, rel=0.3)
    assert (found[0].processes, found[0].sessions) == (8, 6.25)


def test_components_that_cannot_be_told_are_not_told():
    nothing = components([])
    assert math.isnan(nothing.process)
    assert math.isnan(nothing.session)
    one = components([np.array([1.0, 2.0])])
    assert math.isnan(one.process)
    assert one.session == pytest.approx(0.5)
    single = components([np.array([1.0]), np.array([2.0])])
    assert single.process == pytest.approx(0.5)
    assert math.isnan(single.session)


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.integers(0, 6), min_size=1, max_size=12),
    seed=st.integers(0, 1000),
    scale=st.sampled_from([1e-3, 1.0, 1e9]),
)
def test_an_interval_holds_its_ratio_and_neither_unit_nor_order_matters(shapes, seed, scale):
    baseline, candidate = _unequal(np.random.default_rng(seed), shapes)
    found = estimate(baseline, candidate)
    if found is None:
        assert not any(shapes)
        return
    assert found.low <= found.ratio <= found.high
    back = estimate(candidate[::-1], baseline[::-1])
    assert back.ratio == pytest.approx(1 / found.ratio)
    if math.isfinite(found.high):
        assert back.low == pytest.approx(1 / found.high)
    scaled = [[[level * scale for level in p] for p in side] for side in (baseline, candidate)]
    assert estimate(*scaled).ratio == pytest.approx(found.ratio)
