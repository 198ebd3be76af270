"""The process that measures: nothing but onnxruntime and numpy is loaded in it.

Run as `python -m onnxopt.benchmarking.worker` with a plan as JSON on standard input; prints one
JSON object a line as soon as it is known, so that a crash loses only what was being measured.
Before each candidate it says which, so that the parent knows whom to blame.
"""

from __future__ import annotations

import gc
import json
import random
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxopt.benchmarking.clock import Call, measure, time_runs
from onnxopt.benchmarking.feedfile import load_feed
from onnxopt.errors import OnnxOptError
from onnxopt.runtime.memory import peak_rss_bytes
from onnxopt.runtime.session import RunError, cause, open_session, placement, prepare

_SOLO_RUNS = 5


def tell(**event: Any) -> None:
    """Print one event."""
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def start(candidate: Mapping[str, Any]) -> tuple[Any, Call, int, int]:
    """Open a fresh session and run it once: session, call, and the ns that each of both took."""
    feed = load_feed(Path(candidate["feed"]))
    begun = time.perf_counter_ns()
    session = open_session(
        candidate["path"],
        provider=candidate["provider"],
        threads=candidate["threads"],
        options=candidate["options"],
    )
    load_ns = time.perf_counter_ns() - begun
    call = prepare(session, feed)
    try:
        (first_ns,) = time_runs(call, 1)
    except Exception as error:  # onnxruntime's errors share no class but this
        raise RunError(f"onnxruntime stopped: {cause(error)}") from error
    return session, call, load_ns, first_ns


def run_alone(candidate: Mapping[str, Any]) -> None:
    """Measure what only a process with a single model can tell: loading, and memory."""
    session, call, load_ns, first_ns = start(candidate)
    time_runs(call, _SOLO_RUNS)
    tell(
        event="alone",
        key=candidate["key"],
        load_ns=load_ns,
        first_ns=first_ns,
        placement=placement(session),
        peak_rss_bytes=peak_rss_bytes(),
    )


def run_turns(candidates: Sequence[Mapping[str, Any]], seconds: float, seed: int) -> None:
    """Give every candidate fresh sessions in turn, in random order and back (ABC CBA)."""
    rng = random.Random(seed)  # noqa: S311 - an order, no secret
    alive = list(candidates)
    begun = time.perf_counter()
    longest = 0.0
    while alive:
        at = time.perf_counter()
        order = rng.sample(alive, len(alive))
        for candidate in [*order, *reversed(order)]:
            if candidate in alive and not _take_turn(candidate, rng):
                alive.remove(candidate)
        longest = max(longest, time.perf_counter() - at)
        if time.perf_counter() - begun + longest > seconds:
            return


def _take_turn(candidate: Mapping[str, Any], rng: random.Random) -> bool:
    """Measure one fresh session; tell whether it could be done."""
    tell(event="begin", key=candidate["key"])
    # Where the heap stands decides alignment: move it, so that each session draws its own.
    ballast = [bytearray(rng.randrange(1, 1 << 14)) for _ in range(8)]
    try:
        session, call, _, _ = start(candidate)
        times = measure(call)
    except OnnxOptError as error:
        tell(event="failed", key=candidate["key"], message=error.message)
        return False
    tell(event="session", key=candidate["key"], times_ns=times)
    del session, call, ballast
    gc.collect()
    return True


def main() -> int:
    """Read the plan and carry it out."""
    plan = json.load(sys.stdin)
    candidates = plan["candidates"]
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
