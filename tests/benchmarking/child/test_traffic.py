"""Sessions under load: who is counted, from when, and when it is too much.

What sleeps takes at least that long: assertions about time are lower bounds, which a busy machine
cannot break.
"""

import gc
import threading
import time
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from onnxopt.benchmarking.child.traffic import _arrivals, closed, open_loop
from onnxopt.errors import DataError


def sleeping(seconds):
    """Make calls that take at least so long, and remember how many ran at the same time."""
    running, peak, made, lock = [0], [0], [0], threading.Lock()

    def factory():
        made[0] += 1

        def call():
            with lock:
                running[0] += 1
                peak[0] = max(peak[0], running[0])
            time.sleep(seconds)
            with lock:
                running[0] -= 1

        return call

    return factory, made, peak


def test_callers_run_at_the_same_time_each_with_a_call_of_its_own():
    factory, made, peak = sleeping(0.02)
    closed(factory, callers=3, seconds=0.1)
    assert (made[0], peak[0]) == (3, 3)


def test_throughput_of_a_closed_loop_counts_whole_runs():
    factory, _, _ = sleeping(0.01)
    found = closed(factory, callers=3, seconds=0.1)
    assert found.served == len(found.times_ns) >= 3
    assert min(found.times_ns) >= 10_000_000
    assert found.wall_ns * 3 >= found.served * 10_000_000
    assert (found.load, found.overloaded) == (1, False)


def test_a_run_longer_than_the_time_is_counted_once_for_each_caller():
    factory, _, _ = sleeping(0.1)
    found = closed(factory, callers=2, seconds=0.02)
    assert found.served == 2
    assert found.wall_ns >= 100_000_000


def test_requests_at_a_low_rate_do_not_wait_for_each_other():
    factory, _, _ = sleeping(0.001)
    found = open_loop(factory, rate=50, callers=2, seconds=0.3, seed=1)
    assert found.served == len(found.times_ns) > 0
    assert min(found.times_ns) >= 1_000_000
    assert not found.overloaded
    assert 0 < found.load < 1
    assert found.wall_ns >= 300_000_000


def test_latency_counts_from_the_arrival_and_not_from_the_start_of_service():
    # 60 requests in 0.2 s of which each takes 10 ms or more: the last waits for all before it.
    factory, _, _ = sleeping(0.01)
    found = open_loop(factory, rate=300, callers=1, seconds=0.2, seed=0)
    assert max(found.times_ns) >= (found.served - 1) * 10_000_000 - 200_000_000
    assert max(found.times_ns) >= 100_000_000


@pytest.mark.parametrize("callers", [1, 2])
def test_more_requests_than_can_be_served_overload_it_and_it_ends(callers):
    factory, _, peak = sleeping(0.02)
    found = open_loop(factory, rate=100_000, callers=callers, seconds=0.1, seed=0)
    assert found.overloaded
    assert found.load > 100
    assert 1 <= found.served <= callers * (0.22 / 0.02 + 1)
    assert found.wall_ns * callers >= (found.served - callers) * 20_000_000
    assert peak[0] == callers


def test_a_request_that_takes_longer_than_all_the_time_is_told():
    factory, _, _ = sleeping(0.1)
    found = open_loop(factory, rate=1000, callers=1, seconds=0.01, seed=0)
    assert (found.served, found.overloaded) == (1, True)
    assert found.times_ns[0] >= 100_000_000


def test_requests_so_rare_that_none_would_come_count_for_the_time_until_one_would():
    factory, _, _ = sleeping(0)
    found = open_loop(factory, rate=0.001, callers=1, seconds=0.02, seed=0)
    assert found.served == 1
    assert found.wall_ns == 20_000_000 + 1_000 * 10**9


def test_arrivals_are_a_poisson_process():
    arrivals, came = _arrivals(5000.0, 200_000_000, 1_000_000_000, seed=0)
    gaps = [after - before for before, after in pairwise(arrivals)]
    assert came
    assert min(gaps) >= 0
    assert len(arrivals) == pytest.approx(6000, abs=3 * 6000**0.5)
    assert stats.kstest(gaps, "expon", args=(0, 1e9 / 5000)).pvalue > 0.01
    counts = np.histogram(arrivals, np.arange(0, 1.2e9, 1e7))[0]
    assert np.var(counts) / np.mean(counts) == pytest.approx(1, abs=0.4)


def test_arrivals_are_bounded_and_depend_on_the_seed_only():
    drawn = [_arrivals(1e12, 1000, 10**9, seed=seed)[0] for seed in (1, 1)]
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) <= 2_000_000


class BoomError(RuntimeError):
    pass


def crashing_at(count):
    left = [count]

    def call():
        left[0] -= 1
        if left[0] <= 0:
            raise BoomError("boom")
        time.sleep(0.001)

    return lambda: call


@pytest.mark.parametrize("at", [1, 5])
@pytest.mark.parametrize(
    "drive",
    [
        lambda factory: closed(factory, callers=3, seconds=20),
        lambda factory: open_loop(factory, rate=500, callers=3, seconds=20, seed=0),
    ],
    ids=["closed", "open"],
)
def test_what_a_call_raises_stops_all_and_is_raised(at, drive):
    before = threading.active_count()
    with pytest.raises(BoomError, match="boom"):
        drive(crashing_at(at))
    assert threading.active_count() == before
    assert gc.isenabled()


def test_a_call_that_cannot_be_made_starts_nothing():
    def factory():
        raise DataError("no")

    before = threading.active_count()
    with pytest.raises(DataError):
        closed(factory, callers=2, seconds=1)
    assert threading.active_count() == before


def test_threads_that_cannot_be_started_let_the_others_go(monkeypatch):
    real, started = threading.Thread.start, []

    def start(thread):
        started.append(thread)
        if len(started) == 3:
            raise RuntimeError("can't start new thread")
        real(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    factory, _, _ = sleeping(0.001)
    with pytest.raises(RuntimeError, match="new thread"):
        closed(factory, callers=4, seconds=20)
    for thread in started[:2]:
        thread.join(timeout=10)
        assert not thread.is_alive()
