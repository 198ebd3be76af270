"""Drives one session by several callers at once, or by requests that arrive at a rate.

Closed loop: each caller sends its next request as soon as its last is answered. Open loop:
requests arrive as a Poisson process, whoever is free takes the next, and the latency of each
counts from its arrival. Counted from the start of service instead, the requests that waited for
a slow one would look fast, and exactly the bad moments would be left out (G. Tene: coordinated
omission).

onnxruntime releases Python's global lock while it computes; around that a caller holds it for
some µs a run, which two cannot do at the same time. Two callers of a model of one node get
through hardly more than one (4.8 µs a run against 6.1, on two cores that others used as well):
of models that fast, throughput is Python's.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from time import perf_counter_ns, sleep
from typing import NamedTuple

import numpy as np

from onnxopt.benchmarking.child.clock import Call, without_collecting

# What a session does first is left out: so much of the time that is measured.
_WARM = 0.2
# A sleep ends 0.1 to 0.2 ms late: what is left before an arrival is waited for awake.
_AWAKE_NS = 250_000
_LONGEST_SLEEP_NS = 50_000_000
_MOST_ARRIVALS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Traffic:
    """What one session did under load, its first part left out.

    `times_ns` are the latencies of the `served` requests; throughput is `served / wall_ns`.
    `load` is the share of the callers' time that requests need at this rate: from 1 on they
    arrive faster than they are served, the session is `overloaded`, and latencies tell only how
    long it was watched. `late_ns` is how late a free caller began after an arrival (99 of 100
    began earlier): latencies contain it, and it is none of the model's.
    """

    times_ns: list[int]
    wall_ns: int
    served: int
    load: float = 1.0
    overloaded: bool = False
    late_ns: int = 0


def closed(call_factory: Callable[[], Call], *, callers: int, seconds: float) -> Traffic:
    """Let `callers` threads call as fast as answers come, for about `seconds`.

    Each gets a call of its own from `call_factory`. A caller is counted from its first start
    after the warm part to the end of the run that exceeds `seconds`, so that no run is cut in
    two; until the last of them has ended the others go on, uncounted. What a call raises is
    raised here.
    """
    calls = [call_factory() for _ in range(callers)]
    times: list[list[int]] = [[] for _ in calls]
    spans = [0] * callers
    crew = _Crew(callers)

    def drive(number: int) -> None:
        call, mine = calls[number], times[number]
        counted_from = crew.begun_ns + int(_WARM * seconds * 1e9)
        until = counted_from + int(seconds * 1e9)
        while perf_counter_ns() < counted_from and not crew.stop.is_set():
            call()
        begun = end = perf_counter_ns()
        while not mine or (end < until and not crew.stop.is_set()):
            at = perf_counter_ns()
            call()
            end = perf_counter_ns()
            mine.append(end - at)
        spans[number] = end - begun
        crew.one_is_done()
        while not crew.stop.is_set():
            call()

    crew.work(drive)
    served = sum(map(len, times))
    per_ns = sum(len(mine) / max(1, span) for mine, span in zip(times, spans, strict=True))
    return Traffic(times_ns=[*chain(*times)], wall_ns=round(served / per_ns), served=served)


def open_loop(
    call_factory: Callable[[], Call], *, rate: float, callers: int, seconds: float, seed: int
) -> Traffic:
    """Let requests arrive at random, `rate` a second on average, for `seconds`; `callers` serve.

    Each caller gets a call of its own from `call_factory`, and takes the next request when it is
    free: what a queue before them would do, without another thread. At least one request
    arrives, however low the rate. `seconds` after the last, those that still wait are left.
    What a call raises is raised here.
    """
    warm_ns, counted_ns = int(_WARM * seconds * 1e9), int(seconds * 1e9)
    arrivals, came = _arrivals(rate, warm_ns, counted_ns, seed)
    waiting = deque(arrivals)
    calls = [call_factory() for _ in range(callers)]
    served: list[list[_Served]] = [[] for _ in calls]
    crew = _Crew(callers)

    def drive(number: int) -> None:
        call, mine, begun, free = calls[number], served[number], crew.begun_ns, 0
        while free < warm_ns + 2 * counted_ns and not crew.stop.is_set():
            try:
                arrival = waiting.popleft()
            except IndexError:  # all are served, or another caller took the last
                return
            idle = crew.wait_until(begun + arrival)
            start = perf_counter_ns() - begun
            call()
            end = perf_counter_ns() - begun
            # Work on the next begins, for a caller that it waited for, when the last has ended.
            busy = end - (start if idle else max(free, arrival))
            mine.append(_Served(arrival, end, busy, start - arrival if idle else -1))
            free = end

    crew.work(drive)
    found = _concluded(
        [*chain(*served)], rate / callers, warm_ns, counted_ns, unserved=bool(waiting)
    )
    if came:
        return found
    # The one request was called early: it would have come by itself 1 / rate later.
    return replace(found, wall_ns=counted_ns + int(1e9 / rate))


class _Served(NamedTuple):
    """One request, in ns from the beginning; `late` is negative where no caller was free."""

    arrival: int
    end: int
    busy: int
    late: int


def _arrivals(rate: float, warm_ns: int, counted_ns: int, seed: int) -> tuple[list[int], bool]:
    """Draw when requests arrive, in ns, and tell whether one came by itself after the warm part.

    A Poisson process has a Poisson number of arrivals, each of which is uniform in time and
    independent of the others; that one arrival that must be is uniform as well.
    """
    rng = np.random.default_rng(seed)
    warm, counted = (
        rng.uniform(begin, begin + length, min(_MOST_ARRIVALS, rng.poisson(rate * length / 1e9)))
        for begin, length in ((0, warm_ns), (warm_ns, counted_ns))
    )
    came = len(counted) > 0
    if not came:
        counted = rng.uniform(warm_ns, warm_ns + counted_ns, 1)
    drawn: list[int] = np.sort(np.concatenate([warm, counted])).astype(np.int64).tolist()
    return drawn, came


def _concluded(
    served: list[_Served], rate_each: float, warm_ns: int, counted_ns: int, *, unserved: bool
) -> Traffic:
    """Sum up what was served; `rate_each` is a caller's part of the rate."""
    ended = [each for each in served if each.end >= warm_ns]
    load = rate_each * float(np.mean([each.busy for each in ended])) / 1e9
    overloaded = unserved or load >= 1
    # Where it keeps up, all that arrive are served; else what counts is what it got done.
    counted = ended if overloaded else [each for each in ended if each.arrival >= warm_ns]
    late = [each.late for each in counted if each.late >= 0]
    return Traffic(
        times_ns=[each.end - each.arrival for each in counted],
        wall_ns=max(counted_ns, max(each.end for each in counted) - warm_ns),
        served=len(counted),
        load=load,
        overloaded=overloaded,
        late_ns=int(np.percentile(late, 99)) if late else 0,
    )


class _Crew:
    """Threads that begin together; what one of them raises stops all."""

    def __init__(self, size: int) -> None:
        self.begun_ns = 0
        self.stop = threading.Event()
        self._size = self._busy = size
        self._go = threading.Event()
        self._lock = threading.Lock()
        self._errors: list[BaseException] = []

    def work(self, drive: Callable[[int], None]) -> None:
        """Run `drive` with the number of each until all have ended; raise what one raised."""
        threads = [
            threading.Thread(target=self._run, args=(drive, number), daemon=True)
            for number in range(self._size)
        ]
        with without_collecting():
            try:
                for thread in threads:
                    thread.start()
                self.begun_ns = perf_counter_ns()
                self._go.set()
                for thread in threads:
                    thread.join()
            finally:  # interrupted, or too many threads for this machine
                self.stop.set()
                self._go.set()
        if self._errors:
            raise self._errors[0]

    def _run(self, drive: Callable[[int], None], number: int) -> None:
        self._go.wait()
        try:
            if not self.stop.is_set():
                drive(number)
        except BaseException as error:  # noqa: BLE001 - raised by `work`, in the caller's thread
            self._errors.append(error)
            self.stop.set()

    def one_is_done(self) -> None:
        """Stop when all have said so."""
        with self._lock:
            self._busy -= 1
            if not self._busy:
                self.stop.set()

    def wait_until(self, due_ns: int) -> bool:
        """Wait for a moment of `perf_counter_ns`; tell whether there was anything to wait for.

        Asking the clock in a loop would keep the global lock from the other callers for its 5 ms;
        `sched_yield` hands it over, and takes 1 µs where `sleep(0)` takes 80.
        """
        left = due_ns - perf_counter_ns()
        if left <= 0:
            return False
        while left > 0 and not self.stop.is_set():
            if left > _AWAKE_NS:
                sleep(min(left - _AWAKE_NS, _LONGEST_SLEEP_NS) / 1e9)
            else:
                os.sched_yield()
            left = due_ns - perf_counter_ns()
        return True
