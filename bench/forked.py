"""Runs work in a fork of this process: what it crashes or leaks does not stay."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any


def forked(work: Callable[[], Any], timeout: float) -> tuple[Any, str | None]:
    """Return what `work` returns (JSON) and None, or None and the error that ended it.

    The child is killed after `timeout` seconds. Its standard output goes to standard error. Fork
    only a process that runs one thread: modules may be imported, sessions may not be open.
    """
    sys.stdout.flush()
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        _work_and_exit(work, writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        ready, _, _ = select.select([pipe], [], [], timeout)
        if not ready:
            os.kill(child, signal.SIGKILL)
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    if not ready:
        return None, f"killed after {timeout:.0f} s"
    if not told:
        code = os.waitstatus_to_exitcode(status)
        return None, signal.Signals(-code).name if code < 0 else f"exit code {code}"
    value, error = json.loads(told)
    return value, error


def _work_and_exit(work: Callable[[], Any], writing: int) -> None:
    """Tell the outcome through the pipe in one piece, so that no half of it is ever read."""
    os.dup2(2, 1)
    try:
        told = [work(), None]
    except BaseException as error:  # noqa: BLE001 - whatever a tool raises is its result
        traceback.print_exc()
        lines = str(error).strip().splitlines()
        told = [None, f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")]
    os.write(writing, json.dumps(told).encode())
    os._exit(0)
