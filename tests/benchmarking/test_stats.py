"""The interval of a ratio: how often it cries wolf, and what it finds."""

import numpy as np
import pytest

from onnxopt.benchmarking.stats import estimate, student


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
