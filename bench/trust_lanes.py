"""Does jobs in child processes, one on each of some processors at a time."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Job:
    """A function of `script` to call in a child; `key` names what comes of it in the results.

    `told` is written down beside what the function returns.
    """

    key: str
    script: str
    work: str
    arguments: Mapping[str, Any]
    told: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 300.0


def cores(count: int) -> list[int]:
    """Return so many processors that this process may use; fewer where there are fewer."""
    return sorted(os.sched_getaffinity(0))[:count]


def spread(jobs: Sequence[Job], lanes: Sequence[int]) -> Iterator[tuple[Job, dict[str, Any]]]:
    """Do the jobs in order, one on each of the processors `lanes` at a time; yield what ended.

    A job whose child fails or takes too long comes to `{"error": …}`.
    """
    free: queue.Queue[int] = queue.Queue()
    for core in lanes:
        free.put(core)

    def do(job: Job) -> dict[str, Any]:
        core = free.get()
        try:
            return run(job, core)
        finally:
            free.put(core)

    pool = ThreadPoolExecutor(len(lanes))
    try:
        futures = {pool.submit(do, job): job for job in jobs}
        for future in as_completed(futures):
            yield futures[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def run(job: Job, core: int) -> dict[str, Any]:
    """Do one job in a fresh child that keeps to one processor.

    To what the job found come `core`, the `load` of the machine when it began, and `seconds`: all
    that it took, the start of the child included.
    """
    told = json.dumps({"work": job.work, "arguments": job.arguments, "core": core})
    load, begun = os.getloadavg()[0], time.perf_counter()
    command = [sys.executable, str(FOLDER / job.script)]
    try:
        child = subprocess.run(
            command, input=told, capture_output=True, check=False, text=True, timeout=job.timeout
        )
    except subprocess.TimeoutExpired:
        return {"error": f"stopped after {job.timeout:.0f} s"}
    if child.returncode:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return {"error": lines[-1]}
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    seconds = round(time.perf_counter() - begun, 3)
    return {**job.told, **found, "core": core, "load": round(load, 2), "seconds": seconds}
