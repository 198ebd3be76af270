"""Runs a command as a child and tells how long it took and how much memory it had at most."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Run:
    """What became of a child: wall-clock seconds from start to end, peak resident memory, exit.

    `cpu_seconds` is what all its threads computed, which other work on the machine hardly
    changes. `error` is the last line that it wrote where it failed, None where it did not.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    error: str | None


def run(command: list[str], log: Path, timeout: float, env: Mapping[str, str] | None = None) -> Run:
    """Run `command` with its output in `log`; kill it after `timeout` seconds.

    `env` is its environment, without it this process's.

    The kernel counts the peak from the moment of the fork, so the peak of a child is never below
    what the parent holds: a parent that imports little is what makes the figure right.
    """
    with log.open("wb") as file:
        start = time.perf_counter()
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, env=env
        )
        killer = threading.Timer(timeout, child.kill)
        killer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        finally:
            killer.cancel()
        seconds = time.perf_counter() - start
    child.returncode = os.waitstatus_to_exitcode(status)
    return Run(
        seconds=seconds,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
        peak_rss_bytes=usage.ru_maxrss * 1024,
        error=_error(child.returncode, log, timeout if seconds >= timeout else None),
    )


def _error(code: int, log: Path, timeout: float | None) -> str | None:
    if code == 0:
        return None
    if timeout is not None:
        return f"killed after {timeout:.0f} s"
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    if code < 0:
        return f"{signal.Signals(-code).name} {last}".strip()
    return last or f"exit code {code}"
