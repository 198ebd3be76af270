"""Collects sessions: several fresh processes, in each of which the models take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from onnxopt.benchmarking.processes import Candidate, measure_turns

# What a process needs before it measures: starting Python, importing numpy and onnxruntime.
_START_SECONDS = 0.35
_FEWEST_PROCESSES = 3


@dataclass(kw_only=True)
class Turns:
    """What was measured: `times[key][process][session]` is a list of ns, `failed` key to reason.

    Every key has one entry for each process, empty where the model could not be measured in it.
    """

    times: dict[str, list[list[list[int]]]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)


def take_turns(
    candidates: Sequence[Candidate],
    *,
    seconds: float,
    processes: int,
    seed: int = 0,
    timeout: float = 120.0,
    enough: Callable[[Turns], bool] | None = None,
    progress: Callable[[float], None] | None = None,
) -> Turns:
    """Measure `candidates` in about `seconds`, in at most `processes` fresh processes.

    At least three processes are made even where a single round takes longer than its share.
    `enough` is asked after each process whether to go on. A model that fails is left out of the
    processes that follow.
    """
    turns = Turns(times={candidate.key: [] for candidate in candidates})
    begun = time.perf_counter()
    for number in range(processes):
        alive = [candidate for candidate in candidates if candidate.key not in turns.failed]
        left = seconds - (time.perf_counter() - begun)
        if not alive or (number >= min(_FEWEST_PROCESSES, processes) and left <= 0):
            break
        share = max(0.0, left) / (processes - number) - _START_SECONDS
        _add_process(turns, alive, share, seed + number, timeout)
        if progress is not None:
            progress((number + 1) / processes)
        if enough is not None and enough(turns):
            break
    return turns


def _add_process(
    turns: Turns, alive: Sequence[Candidate], seconds: float, seed: int, timeout: float
) -> None:
    for process in turns.times.values():
        process.append([])
    for event in measure_turns(alive, seconds=seconds, seed=seed, timeout=timeout):
        if event["event"] == "session":
            turns.times[event["key"]][-1].append(event["times_ns"])
        elif event["event"] == "failed":
            blamed = [event["key"]] if event["key"] else [candidate.key for candidate in alive]
            turns.failed.update(dict.fromkeys(blamed, event["message"]))
