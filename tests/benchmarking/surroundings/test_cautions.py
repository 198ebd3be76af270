"""What speaks against a row, and advice that knows the options in use."""

import math

import numpy as np
import pytest

from onnxopt.benchmarking.surroundings.cautions import slow_first_run, too_short, unsteady

ASKED = {"precision": 0.02, "max_time": 30.0}


def sessions(processes=12, each=6, *, between=0.05, inside=0.08, drift=0.0, seed=0):
    """Draw times as METHODS' components of variance have them on a quiet machine."""
    rng = np.random.default_rng(seed)
    return [
        list(
            1e6
            * np.exp(
                drift * number / (processes - 1)
                + rng.normal(0, between)
                + rng.normal(0, inside, each)
            )
        )
        for number in range(processes)
    ]


def test_what_is_usual_is_no_reason_to_warn():
    warned = [unsteady(sessions(seed=seed), **ASKED) for seed in range(50)]
    assert sum(caution is not None for caution in warned) <= 2


@pytest.mark.parametrize(
    "levels", [[], [[]], [[1e6]], [[1e6, 1.1e6]], [[], [1e6], []], [[0.0, 0.0]] * 9]
)
def test_little_or_nothing_is_no_reason_to_warn(levels):
    assert unsteady(levels, **ASKED) is None


def test_a_drift_is_told_with_its_direction():
    slower = unsteady(sessions(between=0.01, drift=0.3), **ASKED)
    assert slower.kind == "unsteady"
    assert "slower in the course" in slower.message
    assert "cool" in slower.advice
    faster = unsteady(sessions(between=0.01, drift=-0.3), **ASKED)
    assert "faster in the course" in faster.message
    assert "warm" in faster.advice


def test_a_drift_smaller_than_what_is_asked_for_is_not_told():
    assert unsteady(sessions(between=0.01, drift=0.1), precision=0.2, max_time=30) is None


def test_a_wide_spread_is_told_with_where_it_is():
    inside = unsteady(sessions(inside=0.4), **ASKED)
    assert inside.message.startswith("sessions of the same process differ by")
    assert "--max-time 60" in inside.advice
    between = unsteady(sessions(between=0.25, inside=0.05), **ASKED)
    assert between.message.startswith("processes differ by")


def test_time_is_not_asked_for_where_it_would_not_help():
    hopeless = unsteady(sessions(inside=0.9), precision=0.001, max_time=30)
    assert "--max-time" not in hopeless.advice


def test_an_interval_as_narrow_as_wanted_is_well():
    for half_width in (0.001, 0.02, math.nan):
        assert too_short(half_width, run_ns=1e6, **ASKED) is None


def test_an_interval_that_is_too_wide_says_what_time_it_takes():
    caution = too_short(0.04, run_ns=1e6, **ASKED)
    assert caution.message == "the interval is ±4.0% wide, ±2.0% were wanted"
    assert caution.advice == "about --max-time 120 is needed"
    assert too_short(0.0411, run_ns=1e6, **ASKED).advice == "about --max-time 130 is needed"


def test_what_no_time_can_reach_is_said():
    caution = too_short(0.4, run_ns=1e6, precision=0.01, max_time=30)
    assert caution.advice == "more time will not do on this machine: ask for --precision 40%"


@pytest.mark.parametrize("half_width", [0.51, 1.83, 40.0])
def test_nobody_is_told_to_ask_for_an_interval_that_says_nothing(half_width):
    caution = too_short(half_width, run_ns=1e6, precision=0.01, max_time=30)
    assert "--precision" not in caution.advice
    assert "quieter" in caution.advice


def test_an_interval_without_bounds_asks_for_time():
    caution = too_short(math.inf, run_ns=1e6, **ASKED)
    assert "too few processes" in caution.message
    assert "--max-time" in caution.advice


def test_a_run_near_the_clocks_own_time_is_told():
    caution = too_short(0.001, run_ns=900, **ASKED)
    assert caution.kind == "too short"
    assert "0.9 µs" in caution.message
    assert "--batch" in caution.advice


@pytest.mark.parametrize(
    ("first", "median"), [(40, 1), (90, 10), (math.nan, 1), (100, math.nan), (100, 0)]
)
def test_a_first_run_of_usual_length_is_well(first, median):
    assert slow_first_run(first, median) is None


def test_a_slow_first_run_is_told_with_advice_for_the_provider():
    caution = slow_first_run(1234.0, 2.0)
    assert caution.kind == "slow first run"
    assert caution.message == "the first run took 1.23 s, as long as 617 later ones"
    assert "HEURISTIC" in slow_first_run(1234, 2, provider="cuda").advice
    given = slow_first_run(1234, 2, provider="cuda", options=["cudnn_conv_algo_search"])
    assert "HEURISTIC" not in given.advice
    assert "engines" in slow_first_run(1234, 2, provider="tensorrt").advice
