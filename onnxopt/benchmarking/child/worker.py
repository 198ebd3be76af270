"""The process that measures: nothing but onnxruntime and numpy is loaded in it.

Run as `python -m onnxopt.benchmarking.child.worker` with a plan as JSON on standard input; prints
one JSON object a line as soon as it is known, so that a crash loses only what was being measured.
Before each candidate it says which, so that the parent knows whom to blame. Events:

- `ready`: all is imported, measuring begins;
- `session`: `key`, `times_ns` of the steady runs of one fresh session, `load_ns`, `warm_ns` of
  all runs before them;
  where callers compete or requests arrive at a rate also `wall_ns` and `overloaded`;
- `alone`: what only a process with a single model can tell;
- `failed`: `key`, `message`.
"""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxopt.benchmarking.child import traffic
from onnxopt.benchmarking.child.clock import Call, measure, time_runs, warm
from onnxopt.benchmarking.child.events import receive, tell
from onnxopt.benchmarking.child.feedfile import load_feed
from onnxopt.errors import OnnxOptError
from onnxopt.runtime.machine.devices import device_bytes, energy_joules
from onnxopt.runtime.machine.memory import peak_rss_bytes
from onnxopt.runtime.sessions.binding import prepare
from onnxopt.runtime.sessions.session import (
    RunError,
    assignments,
    cause,
    import_onnxruntime,
    open_session,
)

# So many more runs of a model alone show what memory it holds; a slow one has not so many.
_SOLO_RUNS, _SOLO_NS = 5, 1_000_000_000
_DRIVEN_SECONDS = 0.5
_ENERGY_NS = 1_000_000_000


class Started:
    """A fresh session that has run once; `load_ns` and `first_ns` are what both took."""

    def __init__(self, candidate: Mapping[str, Any]) -> None:
        self.setting = candidate["setting"]
        self.feed = load_feed(Path(candidate["feed"]))
        begun = time.perf_counter_ns()
        self.session = open_session(
            candidate["path"],
            provider=self.setting["provider"],
            threads=self.setting["threads"],
            options=candidate["options"],
        )
        self.load_ns = time.perf_counter_ns() - begun
        self.call = self.running(self.make_call)
        (self.first_ns,) = self.running(lambda: time_runs(self.call, 1))

    def make_call(self) -> Call:
        """Return a call for one caller, with inputs and outputs of its own."""
        provider, io = self.setting["provider"], self.setting["io"]
        return prepare(self.session, self.feed, io=io, provider=provider)

    def running(self, work: Any) -> Any:
        """Run the model; raise `RunError` for whatever onnxruntime raises."""
        try:
            return work()
        except OnnxOptError:
            raise
        except Exception as error:  # onnxruntime's errors share no class but this
            raise RunError(f"onnxruntime stopped: {cause(error)}") from error


def run_alone(candidate: Mapping[str, Any]) -> None:
    """Measure what only a process with a single model can tell: loading, memory, energy."""
    provider = candidate["setting"]["provider"]
    started = Started(candidate)
    started.running(lambda: _run_some(started.call))
    tell(
        event="alone",
        key=candidate["key"],
        load_ns=started.load_ns,
        first_ns=started.first_ns,
        assignments=assignments(started.session),
        peak_rss_bytes=peak_rss_bytes(),
        device_bytes=device_bytes(os.getpid(), provider),
        joules_per_run=_joules_per_run(started.call, provider),
    )


def _run_some(call: Call) -> None:
    begun = time.perf_counter_ns()
    for _ in range(_SOLO_RUNS):
        call()
        if time.perf_counter_ns() - begun > _SOLO_NS:
            return


def _joules_per_run(call: Call, provider: str) -> float | None:
    """Run for a second where a counter of energy can be read, and share out what it counted."""
    before = energy_joules(provider)
    if before is None:
        return None
    runs, begun = 0, time.perf_counter_ns()
    while time.perf_counter_ns() - begun < _ENERGY_NS:
        call()
        runs += 1
    after = energy_joules(provider)
    return None if after is None else (after - before) / runs


def run_turns(candidates: Sequence[Mapping[str, Any]], seconds: float, seed: int) -> None:
    """Give every candidate fresh sessions in turn: blocks in random order, ABC CBA in each.

    Another round is not begun where `seconds` would not hold it.
    """
    rng = random.Random(seed)  # noqa: S311 - an order, no secret
    alive = list(candidates)
    begun, longest = time.perf_counter(), 0.0
    for number in range(max(candidate["rounds"] for candidate in candidates)):
        at = time.perf_counter()
        playing = [candidate for candidate in alive if candidate["rounds"] > number]
        blocks = list(dict.fromkeys(candidate["block"] for candidate in playing))
        for block in rng.sample(blocks, len(blocks)):
            members = [candidate for candidate in playing if candidate["block"] == block]
            order = rng.sample(members, len(members))
            for candidate in [*order, *reversed(order)]:
                if candidate in alive and not _take_turn(candidate, rng):
                    alive.remove(candidate)
        longest = max(longest, time.perf_counter() - at)
        if not alive or time.perf_counter() - begun + longest > seconds:
            return


def _take_turn(candidate: Mapping[str, Any], rng: random.Random) -> bool:
    """Measure one fresh session; tell whether it could be done."""
    tell(event="begin", key=candidate["key"])
    # Where the heap stands decides alignment: move it, so that each session draws its own.
    ballast = [bytearray(rng.randrange(1, 1 << 14)) for _ in range(8)]
    try:
        session = _session(candidate, rng)
    except OnnxOptError as error:
        tell(event="failed", key=candidate["key"], message=error.message)
        return False
    tell(event="session", key=candidate["key"], **session)
    del ballast
    gc.collect()
    return True


def _session(candidate: Mapping[str, Any], rng: random.Random) -> dict[str, Any]:
    """Open a session, warm it, measure it; what it is made of is gone afterwards."""
    started = Started(candidate)
    found = started.running(lambda: _warm_and_measure(started, candidate, rng))
    return {"load_ns": started.load_ns, **found}


def _warm_and_measure(
    started: Started, candidate: Mapping[str, Any], rng: random.Random
) -> dict[str, Any]:
    setting, call = started.setting, started.call
    begun = time.perf_counter_ns()
    warmed = warm(call)
    warm_ns = started.first_ns + time.perf_counter_ns() - begun
    rate, callers = setting["rate"], setting["callers"]
    if rate is None and callers == 1:
        return {"times_ns": measure(call, warmed, runs=candidate["runs"]), "warm_ns": warm_ns}
    if rate is None:
        driven = traffic.closed(started.make_call, callers=callers, seconds=_DRIVEN_SECONDS)
    else:
        driven = traffic.open_loop(
            started.make_call,
            rate=rate,
            callers=callers,
            seconds=_DRIVEN_SECONDS,
            seed=rng.randrange(1 << 30),
        )
    return {
        "times_ns": driven.times_ns,
        "wall_ns": driven.wall_ns,
        "overloaded": driven.overloaded,
        "warm_ns": warm_ns,
    }


def main() -> int:
    """Read the plan and carry it out."""
    plan = receive()
    candidates = plan["candidates"]
    import_onnxruntime()  # or the first model would be said to load as long as this does
    gc.freeze()  # what has been imported stays: looking through it takes 3 to 8 ms a session
    tell(event="ready")
    if plan["alone"]:
        (candidate,) = candidates
        tell(event="begin", key=candidate["key"])
        try:
            run_alone(candidate)
        except OnnxOptError as error:
            tell(event="failed", key=candidate["key"], message=error.message)
    else:
        run_turns(candidates, plan["seconds"], plan["seed"])
    tell(event="end")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
