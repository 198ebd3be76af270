"""The side of a process that works for another: it gets a plan, and tells what it finds.

The plan is JSON on standard input, an event a line of JSON on standard output. The other side is
`processes.listen`.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from typing import Any, TextIO

_SET_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of linux/prctl.h

_told: list[TextIO] = []


def receive() -> dict[str, Any]:
    """Return the plan; from here on what libraries print is no longer among the events."""
    plan: dict[str, Any] = json.load(sys.stdin)
    _end_with_parent()
    _told[:] = [os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")]
    _told[-1].write("\n")  # ends what was printed without an end, at the start of Python
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return plan


def tell(**event: Any) -> None:
    """Print one event."""
    out = _told[-1] if _told else sys.stdout
    out.write(json.dumps(event) + "\n")
    out.flush()


def _end_with_parent() -> None:
    """Ask Linux to end this process with its parent: a model that hangs would outlive a kill -9."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)
