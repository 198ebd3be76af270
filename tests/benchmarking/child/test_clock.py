"""Timing calls: warmed until steady, every run kept."""

import gc

import pytest

from onnxopt.benchmarking.child import clock
from onnxopt.benchmarking.child.clock import measure, time_runs, warm


@pytest.fixture
def running(monkeypatch):
    """Replace the clock by one that a call moves on by the durations given, the last for ever."""

    def start(*durations_ns):
        now, left, calls = [0], list(durations_ns), [0]

        def call():
            calls[0] += 1
            now[0] += left.pop(0) if len(left) > 1 else left[0]

        monkeypatch.setattr(clock, "perf_counter_ns", lambda: now[0])
        return call, calls

    return start


def test_every_run_is_kept(running):
    call, _ = running(5, 7, 9)
    assert time_runs(call, 3) == [5, 7, 9]


def test_garbage_is_not_collected_meanwhile_and_is_afterwards():
    seen = []
    time_runs(lambda: seen.append(gc.isenabled()), 2)
    assert seen == [False, False]
    assert gc.isenabled()


def test_warming_ends_when_the_runs_are_steady(running):
    call, calls = running(9_000_000, 5_000_000, 2_000_000, 1_000_000)
    warm(call)
    assert 6 <= calls[0] <= 10


def test_warming_gives_up_on_what_never_settles(running):
    call, calls = running(*(1_000_000 * (1 + n) for n in range(200)))
    warm(call)
    assert calls[0] < 40


@pytest.mark.parametrize(
    ("ns", "warming", "runs"), [(400_000_000, 3, 3), (999_999_999, 3, 3), (2_000_000_000, 1, 1)]
)
def test_slow_models_run_three_times_warmed_or_not_and_those_of_seconds_once(
    running, ns, warming, runs
):
    call, calls = running(ns)
    assert measure(call, warm(call)) == [ns] * runs
    assert calls[0] == warming + runs


def test_a_model_that_is_slow_at_first_only_runs_as_often_as_a_fast_one(running):
    call, _ = running(1_500_000_000, 1_000_000)
    assert len(measure(call, warm(call))) == 25


def test_fast_models_run_often(running):
    call, _ = running(10_000)
    assert len(measure(call, warm(call))) == 30


def test_as_many_runs_as_are_wanted(running):
    call, _ = running(2_000_000_000)
    assert len(measure(call, warm(call), runs=7)) == 7
