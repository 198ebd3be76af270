"""What the numbers were taken on: processor, memory, load and versions; never whose machine."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from onnxopt.runtime.isa import processor
from onnxopt.runtime.providers import installed_wheels

_BUSY = 0.5
_STOLEN = 0.02


def describe() -> dict[str, Any]:
    """Return the environment as plain values; what cannot be found out is left out."""
    cpu = processor()
    found: dict[str, Any] = {
        "processor": cpu.name,
        "architecture": cpu.architecture,
        "instruction_sets": " ".join(cpu.features),
        "usable_cores": cpu.cores,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "load": load(),
        "memory_bytes": _memory("MemTotal"),
        "memory_available_bytes": _memory("MemAvailable"),
        **installed_wheels(),
    }
    for package in ("onnxopt", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {name: value for name, value in found.items() if value not in {None, ""}}


def load() -> float | None:
    """Return how many processes wanted a processor on average over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def busy_warning(cores: int, before: float | None) -> str:
    """Say so when others were using the processor before the measurement began."""
    if before is None or before <= _BUSY * cores:
        return ""
    return f"the machine was busy: load {before:g} on {cores} cores when the benchmark began"


def stolen_share(before: tuple[int, int] | None, after: tuple[int, int] | None) -> float:
    """Return the share of processor time that the hypervisor gave to others in between."""
    if before is None or after is None or after[1] <= before[1]:
        return 0.0
    return (after[0] - before[0]) / (after[1] - before[1])


def stolen_warning(share: float) -> str:
    """Say so when the hypervisor took more than 2 % of the time."""
    if share <= _STOLEN:
        return ""
    return f"the hypervisor gave {share:.0%} of the processor's time to others"


def processor_ticks() -> tuple[int, int] | None:
    """Return stolen and all processor ticks since the system started; None where none are told."""
    line = _read("/proc/stat")
    fields = line.splitlines()[0].split()[1:9] if line else []
    ticks = [int(field) for field in fields if field.isdigit()]
    return (ticks[7], sum(ticks)) if len(ticks) == 8 else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return None


def _memory(name: str) -> int | None:
    for line in (_read("/proc/meminfo") or "").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return None
