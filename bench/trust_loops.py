"""The loops that people write, in a process that holds numpy and onnxruntime alone.

Run by `trust_lanes` as a child: reads what to do as JSON on standard input, keeps to one processor,
and prints what it found as JSON. Nothing of onnxopt's measuring is used, only its file of inputs.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

WARM_UPS, RUNS = 10, 100
FEWEST_RUNS = 20
MOST_SECONDS = 20.0
"""Of one comparison: a model of more than 90 ms gets fewer runs than `RUNS`."""
_PLAIN_SECONDS, _PLAIN_RUNS = 0.3, 200
_PAIR_RUNS = 10

Call = Callable[[], object]


def open_model(path: str, feed: str) -> Call:
    """Return a call that runs the model in a fresh session with one thread."""
    import onnxruntime

    from onnxopt.benchmarking.child.feedfile import load_feed

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = load_feed(Path(feed))
    return lambda: session.run(None, inputs)


def time_once(call: Call) -> float:
    """Call and return the seconds."""
    begun = perf_counter()
    call()
    return perf_counter() - begun


def time_loop(call: Call, count: int) -> list[float]:
    """Call `count` times and return the seconds of each."""
    return [time_once(call) for _ in range(count)]


def usual(reference: str, candidate: str, feed: str, *, interleaved: bool) -> dict[str, Any]:
    """Compare as is usual: one session each, warm-ups, runs, Welch's test of the two means.

    One model after the other, or run by run in turns. 'Different' means p < 0.05.
    """
    paths = (reference, candidate)
    if interleaved:
        calls = [open_model(path, feed) for path in paths]
        warm = [time_loop(call, WARM_UPS) for call in calls]
        count = affordable(warm[0])
        rounds = [[time_once(call) for call in calls] for _ in range(count)]
        times = [[each[side] for each in rounds] for side in range(2)]
    else:
        times, count = [], 0
        for path in paths:
            call = open_model(path, feed)
            warm_ups = time_loop(call, WARM_UPS)
            count = count or affordable(warm_ups)
            times.append(time_loop(call, count))
    from scipy import stats

    found = stats.ttest_ind(*times, equal_var=False)
    return {
        "ratio": statistics.mean(times[0]) / statistics.mean(times[1]),
        "p": float(found.pvalue),
        "verdict": "different" if found.pvalue < 0.05 else "no difference",
        "runs": count,
    }


def affordable(warm: Sequence[float]) -> int:
    """Return how many runs of each of two models fit into the time of a comparison."""
    typical = statistics.median(warm)
    return max(FEWEST_RUNS, min(RUNS, int(MOST_SECONDS / (2 * typical)) - WARM_UPS))


def plain(model: str, feed: str) -> dict[str, Any]:
    """Do as onnxruntime_perf_test: one session, warm-ups, one run after the other; the median."""
    call = open_model(model, feed)
    typical = statistics.median(time_loop(call, WARM_UPS))
    count = max(WARM_UPS, min(_PLAIN_RUNS, int(_PLAIN_SECONDS / typical)))
    return {"ms": statistics.median(time_loop(call, count)) * 1000, "runs": count}


def side_by_side(models: Sequence[str], feed: str, seconds: float) -> dict[str, Any]:
    """Open fresh sessions of all models at once, run them in turns, and again until time is up.

    Returns for each round of sessions the median ms of each model. Which session is opened first
    rotates.
    """
    begun = perf_counter()
    rounds: list[list[float]] = []
    while perf_counter() - begun < seconds:
        first = len(rounds) % len(models)
        order = [*range(first, len(models)), *range(first)]
        calls = {side: open_model(models[side], feed) for side in order}
        for call in calls.values():
            time_loop(call, WARM_UPS)
        times = [{side: time_once(calls[side]) for side in order} for _ in range(_PAIR_RUNS)]
        medians = [statistics.median(each[side] for each in times) for side in range(len(models))]
        rounds.append([round(median * 1000, 6) for median in medians])
    return {"ms": rounds}


WORK: dict[str, Callable[..., dict[str, Any]]] = {
    work.__name__: work for work in (usual, plain, side_by_side)
}


def serve(known: dict[str, Callable[..., dict[str, Any]]]) -> int:
    """Do what standard input asks for, on the processor that it names, and print the result."""
    told = json.load(sys.stdin)
    os.sched_setaffinity(0, {told["core"]})
    print(json.dumps(known[told["work"]](**told["arguments"])))
    return 0


if __name__ == "__main__":
    sys.exit(serve(WORK))
