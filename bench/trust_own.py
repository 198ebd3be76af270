"""What is asked of onnxopt's own benchmark, each in a fresh process that keeps to one processor.

The calls of onnxopt stand here, each in a function of its own.
"""

from __future__ import annotations

import itertools
import os
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import trust_lanes
import trust_loops

_NEVER_REACHED = 1e-6


def compare(
    reference: str, candidate: str, *, seconds: float, threads: int, precision: float, seed: int
) -> dict[str, Any]:
    """Ask which of two models is faster."""
    from onnxopt.benchmarking.measure import ab

    found = ab(
        reference, candidate, seconds=seconds, threads=threads, precision=precision, seed=seed
    )
    return {
        "ratio": round(found.ratio, 6),
        "low": round(found.low, 6),
        "high": round(found.high, 6),
        "verdict": found.verdict,
        "sessions": found.sessions,
        "processes": found.processes,
    }


def benchmark(model: str, *, seconds: float) -> Any:
    """Return the row of one model on one thread, from as many sessions as the time allows."""
    import onnxopt

    report = onnxopt.benchmark(model, threads=[1], max_time=seconds, precision=_NEVER_REACHED)
    (result,) = report.results
    if result.error:
        raise SystemExit(result.error)
    return result


def make_feed(model: str, path: str) -> dict[str, Any]:
    """Write the input that the benchmark measures a model with."""
    from onnxopt.benchmarking.child.feedfile import describe_feed, save_feed
    from onnxopt.benchmarking.measure import feed_for

    feed = feed_for(model)
    save_feed(Path(path), feed)
    return {"feed": describe_feed(feed)}


def agree(model: str, feed: str, *, seconds: float, sessions: int) -> dict[str, Any]:
    """Time a model by plain loops in fresh processes and by the benchmark, which comes in between.

    Returns the median ms of each of `sessions` sessions of both, and what the benchmark says of
    all its sessions.
    """
    half = sessions // 2
    before = [_plain(model, feed) for _ in range(half)]
    result = benchmark(model, seconds=seconds)
    after = [_plain(model, feed) for _ in range(sessions - half)]
    return {
        "plain_ms": [round(ms, 6) for ms in before + after],
        "benchmark_ms": evenly(session_medians(result.processes), sessions),
        "benchmark_median_ms": round(result.median_ms, 6),
        "benchmark_sessions": sum(len(process["sessions"]) for process in result.processes),
    }


def _plain(model: str, feed: str) -> float:
    (core,) = os.sched_getaffinity(0)
    arguments = {"model": model, "feed": feed}
    job = trust_lanes.Job(key="", script="trust_loops.py", work="plain", arguments=arguments)
    found = trust_lanes.run(job, core)
    if "error" in found:
        raise SystemExit(found["error"])
    return float(found["ms"])


def session_medians(processes: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """Return for each process the median ms of each of its sessions."""
    return [
        [round(statistics.median(run["times_ns"]) / 1e6, 6) for run in process["sessions"]]
        for process in processes
    ]


def evenly(processes: Sequence[Sequence[float]], count: int) -> list[float]:
    """Take `count` sessions, or all where there are fewer, from all processes in turn."""
    longest = max(map(len, processes), default=0)
    turns = ([each[turn] for each in processes if turn < len(each)] for turn in range(longest))
    return list(itertools.chain.from_iterable(turns))[:count]


def loop(model: str, runs: int) -> dict[str, Any]:
    """Time the loop that times, in ns a run: what it takes beside its samples, and in them.

    `beside` is the time of the whole loop less the sum of its samples; `inside` is the sample of a
    call that does nothing.
    """
    import numpy as np

    from onnxopt.benchmarking.child.clock import time_runs
    from onnxopt.runtime.sessions.binding import prepare
    from onnxopt.runtime.sessions.session import open_session

    call = prepare(open_session(model, threads=1), {"x": np.zeros(1, np.float32)})
    time_runs(call, runs // 10)
    begun = perf_counter_ns()
    samples = time_runs(call, runs)
    whole = perf_counter_ns() - begun
    return {
        "beside_ns": (whole - sum(samples)) / runs,
        "inside_ns": statistics.mean(time_runs(_nothing, runs)),
        "sample_ns": statistics.median(samples),
    }


def _nothing() -> None:
    pass


WORK = {work.__name__: work for work in (compare, make_feed, agree, loop)}


if __name__ == "__main__":
    sys.exit(trust_loops.serve(WORK))
