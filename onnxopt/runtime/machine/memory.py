"""How much memory this process has held, and how much there is for a model to run in."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

from onnxopt.text import human_bytes

_SLICE = Path("/sys/fs/cgroup")


def peak_rss_bytes() -> int:
    """Return the most physical memory that this process ever held."""
    try:
        # Not ru_maxrss: a new process inherits that from the one that started it.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def rss_bytes() -> int:
    """Return the physical memory that this process holds now; the most ever where none tells."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmRSS:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return peak_rss_bytes()


def return_freed() -> None:
    """Give the system back what is free in this process's heap, where the C library can (glibc).

    A session that was closed leaves half of what it took behind otherwise.
    """
    with contextlib.suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def available_bytes() -> int | None:
    """Return the memory that this process can have without swapping; None where nothing tells.

    Of what the kernel says is available, a container may have less.
    """
    try:
        told = Path("/proc/meminfo").read_text()
        free = int(told.partition("MemAvailable:")[2].split()[0]) * 1024
    except (OSError, IndexError, ValueError):
        return None
    try:
        most = int((_SLICE / "memory.max").read_text())
        used = int((_SLICE / "memory.current").read_text())
        cached = (_SLICE / "memory.stat").read_text().partition("inactive_file ")[2].split()[0]
    except (OSError, IndexError, ValueError):
        return free
    return min(free, most - used + int(cached))


def shortage(model_bytes: int) -> str:
    """Say that there is not the memory to run a model of this size, or nothing.

    onnxruntime 1.32 holds a model's weights once, in its own order or as they are in the file: one
    of 6.5 GB took 6.5 GB. One session at a time is open.
    """
    free = available_bytes()
    if free is None or model_bytes <= free:
        return ""
    return (
        f"onnxruntime needs about {human_bytes(model_bytes)} of memory to run the model, and"
        f" {human_bytes(free)} are free"
    )
