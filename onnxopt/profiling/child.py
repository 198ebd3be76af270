"""The process that profiles: nothing but onnxruntime and numpy is loaded in it.

Run as `python -m onnxopt.profiling.child` with a plan as JSON on standard input, which
`onnxopt.benchmarking.processes.listen` sends; prints one event with what was found.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean, median
from typing import Any

from onnxopt.benchmarking.child.events import receive, tell
from onnxopt.benchmarking.child.feedfile import load_feed
from onnxopt.errors import OnnxOptError
from onnxopt.graph.work import macs, traffic
from onnxopt.profiling.roofline import CACHED, STREAMED, total
from onnxopt.profiling.trace import Call, Key, Run, read_runs
from onnxopt.runtime.sessions.binding import prepare
from onnxopt.runtime.sessions.session import RunError, assignments, cause, open_session

# Weights that a kernel has packed for itself are not in the trace: one run without packing tells.
_UNPACKED = {"session.disable_prepacking": "1"}
_OPENED_TWICE = frozenset({"cpu", "cuda"})
# A captured graph is launched as a whole: the trace would see no nodes.
_GRAPHS = frozenset({"enable_cuda_graph", "trt_cuda_graph_enable"})
_WARM_SECONDS, _WARM_RUNS = 0.3, 3
_FEWEST_RUNS, _MOST_RUNS = 5, 300
_MOST_EVENTS = 30_000  # each takes 30 µs to read
_SMALLEST, _LARGEST = 256, 8192
_LONG_SECONDS = 0.05  # the next larger product takes eight times as long


def main() -> int:
    """Read the plan and carry it out."""
    plan = receive()
    # Kernels of CUDA are only queued by the node that the trace times, unless each is waited for.
    os.environ.setdefault("CUDA_LAUNCH_BLOCKING", "1")
    tell(event="begin", key="")
    try:
        found = _ceiling(plan) if plan["ceiling"] else _profile(plan)
    except OnnxOptError as error:
        tell(event="failed", key="", message=error.message)
    else:
        tell(event="profiled", **found)
    tell(event="end")
    return 0


class _Traced:
    """A session that profiles every run; `end` returns them."""

    def __init__(self, plan: Mapping[str, Any], path: str, *, packed: bool = True) -> None:
        self.setting = plan["setting"]
        self.session = open_session(
            path,
            provider=self.setting["provider"],
            threads=self.setting["threads"],
            options={k: v for k, v in plan["options"].items() if k not in _GRAPHS},
            config=None if packed else _UNPACKED,
            trace=Path(plan["folder"], "packed" if packed else "unpacked"),
        )

    def call(self, feed: Mapping[str, Any]) -> Callable[[], object]:
        """Return a call that runs the model; it raises whatever onnxruntime raises."""
        return prepare(self.session, feed, io=self.setting["io"], provider=self.setting["provider"])

    def end(self) -> list[Run]:
        """Stop profiling, and read the trace."""
        stop: Callable[[], str] = self.session.end_profiling
        path = Path(stop())
        try:
            return read_runs(path)
        finally:
            path.unlink(missing_ok=True)


def _profile(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Profile a model for about `seconds`: rows of nodes, and the time of a run."""
    feed = load_feed(Path(plan["feed"]))
    worked = _work(plan, feed)
    traced = _Traced(plan, plan["path"])
    most = _MOST_RUNS
    if worked:
        most = max(1, min(most, _MOST_EVENTS // sum(map(len, worked.calls.values()))))
    call = traced.call(feed)
    try:
        call()
        warm = 1 + _repeat(call, _WARM_SECONDS, _WARM_RUNS, most)
        _repeat(call, plan["seconds"], _FEWEST_RUNS, most)
    except Exception as error:  # onnxruntime's errors share no class but this
        raise RunError(f"onnxruntime stopped: {cause(error)}") from error
    runs = traced.end()[warm:]
    if not runs:
        raise RunError("onnxruntime's trace holds no complete run")
    return _summary(_undisturbed(runs), worked)


def _repeat(call: Callable[[], object], seconds: float, fewest: int, most: int) -> int:
    """Call for so long, at least `fewest` and at most `most` times; return how often."""
    begun, count = time.perf_counter(), 0
    while count < most and (count < fewest or time.perf_counter() - begun < seconds):
        call()
        count += 1
    return count


def _undisturbed(runs: list[Run]) -> list[Run]:
    """Return the middle half of runs by their time, whose means add up as a median's do not."""
    ordered = sorted(runs, key=lambda run: run.us)
    quarter = len(ordered) // 4
    return ordered[quarter : len(ordered) - quarter]


def _work(plan: Mapping[str, Any], feed: Mapping[str, Any]) -> Run | None:
    """Run once without packed weights: the shapes of all that is read; None where it cannot be."""
    if plan["setting"]["provider"] not in _OPENED_TWICE:
        return None  # it compiles the model: opening it takes minutes
    try:
        traced = _Traced(plan, plan["path"], packed=False)
        traced.call(feed)()
        return traced.end()[0]
    except Exception:  # noqa: BLE001 - what matters is told by the session that is timed
        return None


def _summary(runs: list[Run], worked: Run | None) -> dict[str, Any]:
    keys = dict.fromkeys(key for run in runs for key in run.calls)
    nodes = [_row(key, runs, (worked or runs[0]).calls.get(key)) for key in keys]
    return {
        "runs": len(runs),
        "total_ms": fmean(run.us for run in runs) / 1e3,
        "nodes": nodes,
    }


def _row(key: Key, runs: list[Run], calls: list[Call] | None) -> dict[str, Any]:
    """Say of a node what it takes in one run, and what it does there, where that is known."""
    timed = [call for run in runs for call in run.calls.get(key, ())]
    done = calls or []
    moved = [int(traffic(key.op, call.read, call.written)) for call in done]
    return {
        "name": key.name,
        "op": key.op,
        "provider": timed[0].provider,
        "calls": len(timed) / len(runs),
        "ms": sum(call.us for call in timed) / len(runs) / 1e3,
        "median_ms": _median_us(key, runs) / 1e3,
        "macs": total(macs(key.op, call.inputs, call.outputs) for call in done) if done else None,
        "bytes": sum(moved) if done else None,
        "inputs": done[0].inputs if done else timed[0].inputs,
    }


def _median_us(key: Key, runs: list[Run]) -> float:
    """Return the median over runs: what other processes take from a few of them is not in it."""
    return median(sum(call.us for call in run.calls.get(key, ())) for run in runs)


def _ceiling(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Measure what a matrix product and copies reach at most: GFLOP/s, GB/s."""
    import numpy as np

    copies = {
        name: _copy(plan, np.ones(size // 8, np.float32), runs)
        for name, size, runs in (("gbs", STREAMED, 9), ("cached_gbs", CACHED, 301))
    }
    return {"gflops": _product(plan), **copies}


def _copy(plan: Mapping[str, Any], array: Any, runs: int) -> float:
    traced = _Traced(plan, plan["copy"])
    call = traced.call({"x": array})
    _repeat(call, 0.0, runs, runs)
    if not _ran_there(traced):
        return float("nan")
    moved: int = 2 * array.nbytes
    return moved / min(_kernel_us(traced.end())) / 1e3


def _product(plan: Mapping[str, Any]) -> float:
    """Multiply ever larger matrices, until that gets no faster."""
    import numpy as np

    traced = _Traced(plan, plan["product"])
    rng = np.random.default_rng(0)
    sizes: list[int] = []
    size, best = _SMALLEST, 0.0
    while size <= _LARGEST:
        call = traced.call({"x": rng.random((size, size), np.float32)})
        call()
        begun = time.perf_counter()
        count = _repeat(call, _LONG_SECONDS, 3, 100)
        seconds = (time.perf_counter() - begun) / count
        speed = size**3 / seconds
        sizes += [size] * (count + 1)
        if speed < 0.95 * best or seconds > _LONG_SECONDS:
            break
        size, best = 2 * size, max(best, speed)
    if not _ran_there(traced):
        return float("nan")
    times = _kernel_us(traced.end())
    return max(2 * n**3 / us / 1e3 for n, us in zip(sizes, times, strict=False) if us)


def _kernel_us(runs: list[Run]) -> list[int]:
    return [sum(call.us for calls in run.calls.values() for call in calls) for run in runs]


def _ran_there(traced: _Traced) -> bool:
    """Tell whether the provider took the node: another's speed would be no ceiling."""
    wanted = traced.session.get_providers()[0]
    takers = {provider for _, _, provider in assignments(traced.session)}
    return not takers or wanted in takers


if __name__ == "__main__":
    raise SystemExit(main())
