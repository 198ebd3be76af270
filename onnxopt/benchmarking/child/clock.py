"""Times calls: warm until steady, then a few runs, every one of them kept in nanoseconds.

Around each call the loop spends about 0.13 µs, of which the sample holds about half: two readings
of the clock and one item of a list.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator, Sequence
from statistics import median
from time import perf_counter_ns

Call = Callable[[], object]

_WINDOW = 3
_STEADY = 0.05
_FEWEST_RUNS, _MOST_RUNS = 3, 30
# From here on one run warms, and one is measured: a session is the sample, not a run, and what a
# run of seconds does not even out by itself, two more would hardly.
_LONG_NS = 1_000_000_000
# Two sessions differ far more than two runs: what is left of a session after this is wasted.
_RUNS_NS = 25_000_000
_WARM_NS = 300_000_000


@contextlib.contextmanager
def without_collecting() -> Iterator[None]:
    """Keep Python from collecting garbage meanwhile: its pauses are none of the model's."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def time_runs(call: Call, count: int) -> list[int]:
    """Call `count` times and return how long each took, in ns."""
    times = [0] * count
    with without_collecting():
        for index in range(count):
            begun = perf_counter_ns()
            call()
            times[index] = perf_counter_ns() - begun
    return times


def warm(call: Call) -> list[int]:
    """Call until the median of three runs stays within 5 % of that of the three before.

    Returns the times in ns. Gives up after 0.3 s (but never before three runs, unless the first
    takes a second or more): a model that still drifts then is measured as it is.
    """
    times: list[int] = []
    while True:
        times += time_runs(call, 1)
        spent = sum(times)
        if len(times) >= 2 * _WINDOW and _is_steady(times):
            return times
        if spent >= _WARM_NS and (len(times) >= 3 or times[0] >= _LONG_NS):
            return times


def _is_steady(times: list[int]) -> bool:
    before, after = median(times[-2 * _WINDOW : -_WINDOW]), median(times[-_WINDOW:])
    return abs(after - before) <= _STEADY * before


def measure(call: Call, warmed: Sequence[int], *, runs: int | None = None) -> list[int]:
    """Return the times of `runs` steady runs, in ns; `warmed` is what `warm` returned.

    Where `runs` is not given they are 3 to 30, about 25 ms in all; one where it takes a second.
    """
    times = time_runs(call, 1)
    if runs is None:
        # Of a model that only began slowly, what warmed tells nothing.
        typical = max(1, min(int(median(warmed[-_WINDOW:])), times[0]))
        fewest = 1 if typical >= _LONG_NS else _FEWEST_RUNS
        runs = min(_MOST_RUNS, max(fewest, _RUNS_NS // typical))
    return times + time_runs(call, runs - 1)
