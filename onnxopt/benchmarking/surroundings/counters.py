"""What Linux counts or sets for the processor: frequency, time of others, throttling, swapping.

Where a system does not tell, the answer is None; `root` is for tests.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from onnxopt.runtime.machine.isa import control_groups

_ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"
_FREQUENCY = f"{_CPUS}/cpu0/cpufreq"


def read(path: Path) -> str | None:
    """Return what a file of the kernel says."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> int | None:
    text = read(path) or ""
    return int(text) if text.isdigit() else None


def ticks(root: Path = _ROOT) -> tuple[int, int, int] | None:
    """Return stolen, busy and all processor ticks of the machine since it started."""
    line = (read(root / "proc/stat") or "").partition("\n")[0]
    counts = [int(field) for field in line.split()[1:9] if field.isdigit()]
    if len(counts) != 8:
        return None
    idle, waiting, stolen = counts[3], counts[4], counts[7]
    return stolen, sum(counts) - idle - waiting - stolen, sum(counts)


def own_seconds() -> float:
    """Return the processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


def throttled_seconds(root: Path = _ROOT) -> float | None:
    """Return how long a control group has stopped this process for want of quota, summed up."""
    found = []
    for folder in control_groups(root):
        told = dict(re.findall(r"^(\w+) (\d+)$", read(folder / "cpu.stat") or "", re.MULTILINE))
        if "throttled_usec" in told:
            found.append(int(told["throttled_usec"]) / 1e6)
        elif "throttled_time" in told:
            found.append(int(told["throttled_time"]) / 1e9)
    return max(found, default=None)


def overheated(root: Path = _ROOT) -> int | None:
    """Return how often a processor has slowed down for heat (Intel only)."""
    found = [
        count
        for path in (root / _CPUS).glob("cpu[0-9]*/thermal_throttle/*_throttle_count")
        if (count := _number(path)) is not None
    ]
    return max(found, default=None)


def swapped_pages(root: Path = _ROOT) -> int | None:
    """Return how many pages went to or came from swap."""
    told = re.findall(r"^pswp(?:in|out) (\d+)$", read(root / "proc/vmstat") or "", re.MULTILINE)
    return sum(map(int, told)) if told else None


def memory(name: str, root: Path = _ROOT) -> int | None:
    """Return a line of /proc/meminfo (`MemTotal`), in bytes."""
    found = re.search(rf"^{name}:\s+(\d+)", read(root / "proc/meminfo") or "", re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def governor(root: Path = _ROOT) -> str | None:
    """Return what chooses the frequency, and whose it is: `powersave (intel_pstate)`."""
    name = read(root / _FREQUENCY / "scaling_governor")
    driver = read(root / _FREQUENCY / "scaling_driver")
    return f"{name} ({driver})" if name and driver else name


def frequency_mhz(root: Path = _ROOT) -> int | None:
    """Return the highest frequency at which a processor runs just now."""
    told = [
        khz / 1000
        for path in (root / _CPUS).glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
        if (khz := _number(path)) is not None
    ]
    text = read(root / "proc/cpuinfo") or ""
    told = told or [float(mhz) for mhz in re.findall(r"^cpu MHz\s*: ([\d.]+)$", text, re.MULTILINE)]
    return round(max(told)) if told else None


def max_frequency_mhz(root: Path = _ROOT) -> int | None:
    """Return the highest frequency that the processor has."""
    khz = _number(root / _FREQUENCY / "cpuinfo_max_freq")
    return None if khz is None else round(khz / 1000)


def turbo(root: Path = _ROOT) -> str | None:
    """Tell whether frequencies beyond the nominal one are allowed: `on` or `off`."""
    no_turbo = read(root / _CPUS / "intel_pstate/no_turbo")
    if no_turbo in {"0", "1"}:
        return "off" if no_turbo == "1" else "on"
    boost = read(root / _CPUS / "cpufreq/boost")
    return {"1": "on", "0": "off"}.get(boost or "")
