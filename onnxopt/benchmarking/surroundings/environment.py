"""What the numbers were taken on, never whose machine, and what on it speaks against them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxopt.benchmarking.surroundings import counters
from onnxopt.report import Caution
from onnxopt.runtime.execution import libraries
from onnxopt.runtime.execution.wheels import installed_wheels
from onnxopt.runtime.machine import devices
from onnxopt.runtime.machine.devices import GpuState
from onnxopt.runtime.machine.isa import processor
from onnxopt.runtime.machine.memory import available_bytes
from onnxopt.text import human_bytes, human_seconds, plural

# Shares of the time, of the processors, of the memory.
_BUSY = 0.5
_OTHERS = 0.25
_STOLEN = 0.02
_STOPPED = 0.01
_HELD_DOWN = 0.05
_SCARCE = 0.05
_SWAPPED_BYTES = 1 << 20
_PAGE = 4096
# Governors under which the processor itself chooses how fast it is.
_OWN_CHOICE = ("intel_pstate", "amd-pstate")
_SLOW = ("powersave", "conservative")


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """A moment of the machine: `described` goes into the report, the rest is for `judge`.

    Counters run since the machine started; what a system does not tell is None.
    """

    described: Mapping[str, Any] = field(default_factory=dict)
    at: float = 0.0
    cores: int = 1
    load: float | None = None
    ticks: tuple[int, int, int] | None = None
    own_seconds: float = 0.0
    throttled_seconds: float | None = None
    overheated: int | None = None
    swapped_pages: int | None = None
    memory_bytes: int | None = None
    available_bytes: int | None = None
    gpu: GpuState | None = None


def snapshot(providers: Sequence[str] = ()) -> Snapshot:
    """Look at the machine, and at its GPU where one of `providers`, by our names, runs there."""
    on_gpu = next((name for name in providers if name in devices.NVIDIA), "")
    return Snapshot(
        described=describe(providers),
        at=time.monotonic(),
        cores=processor().cores,
        load=load(),
        ticks=counters.ticks(),
        own_seconds=counters.own_seconds(),
        throttled_seconds=counters.throttled_seconds(),
        overheated=counters.overheated(),
        swapped_pages=counters.swapped_pages(),
        memory_bytes=counters.memory("MemTotal"),
        available_bytes=available_bytes(),
        gpu=devices.gpu_state(on_gpu) if on_gpu else None,
    )


def describe(providers: Sequence[str] = ()) -> dict[str, Any]:
    """Return the environment as plain values; what cannot be found out is left out."""
    cpu = processor()
    total, free = counters.memory("SwapTotal"), counters.memory("SwapFree")
    found: dict[str, Any] = {
        "processor": cpu.name,
        "architecture": cpu.architecture,
        "instruction_sets": " ".join(cpu.features),
        "usable_cores": cpu.cores,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "governor": counters.governor(),
        "frequency_mhz": counters.frequency_mhz(),
        "max_frequency_mhz": counters.max_frequency_mhz(),
        "turbo": counters.turbo(),
        "load": load(),
        "memory_bytes": counters.memory("MemTotal"),
        "memory_available_bytes": available_bytes(),
        "swap_used_bytes": total - free if total and free is not None else None,
        **installed_wheels(),
    }
    for package in ("onnxopt", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    for name in providers:
        if name in devices.NVIDIA:
            found |= _gpu(name)
    return {name: value for name, value in found.items() if value not in {None, ""}}


def _gpu(provider: str) -> dict[str, Any]:
    """Describe the GPU, its driver, and the libraries that the provider computes with."""
    gpu, state = devices.gpu_of(provider), devices.gpu_state(provider) or GpuState()
    driver = devices.driver()
    ort_name = {"cuda": "CUDAExecutionProvider"}.get(provider, "TensorrtExecutionProvider")
    versions = {each.stem: each.version for each in libraries.libraries_of(ort_name) if each.path}
    return {
        "gpu": gpu.name if gpu else None,
        "gpu_memory_bytes": gpu.memory_bytes if gpu else None,
        "gpu_driver": driver.version if driver else None,
        "gpu_clock_mhz": state.clock_mhz,
        "gpu_max_clock_mhz": state.max_clock_mhz,
        "gpu_temperature_c": state.temperature_c,
        "gpu_limits": ", ".join(state.limits),
        "cuda": versions.get("libcudart"),
        "cudnn": versions.get("libcudnn"),
        **({"tensorrt": versions.get("libnvinfer")} if provider == "tensorrt" else {}),
    }


def load() -> float | None:
    """Return how many processes wanted a processor on average over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def judge(
    before: Snapshot, after: Snapshot, *, threads: int | None = None, precise: bool = True
) -> list[Caution]:
    """Say what happened on the machine in between that speaks against the numbers.

    `threads` is the largest number that was measured with (times callers), None where that was
    the default; `precise` says that the precision that was asked for has been reached.
    """
    advice = _advice_on_neighbours(precise=precise)
    return [
        *_throttled(before, after, threads),
        *_governed(before),
        *_held_down(before, after),
        *_busy(before, after, advice),
        *_stolen(before, after, advice),
        *_memory(before, after),
    ]


def _advice_on_neighbours(*, precise: bool) -> str:
    fair = "models took turns, so comparisons hold, but times are longer than on a quiet machine"
    return fair if precise else "measure again when it is quiet, or give more --max-time"


def _throttled(before: Snapshot, after: Snapshot, threads: int | None) -> Iterator[Caution]:
    stopped = _gone(before.throttled_seconds, after.throttled_seconds)
    if stopped > _STOPPED * max(1.0, after.at - before.at):
        fewer = threads is not None and threads > after.cores
        yield Caution(
            kind="throttled",
            message=f"the container's processor quota stopped it for {human_seconds(stopped)}",
            advice=f"measure with --threads {after.cores} or fewer"
            if fewer
            else "raise the quota (docker run --cpus), or leave one core free with --threads",
        )
    times = _gone(before.overheated, after.overheated)
    if times:
        yield Caution(
            kind="throttled",
            message=f"the processor slowed down for heat {plural(int(times), 'time')}",
            advice="cool it better, or measure with fewer --threads",
        )


def _governed(before: Snapshot) -> Iterator[Caution]:
    governor = str(before.described.get("governor", ""))
    if governor.startswith(_SLOW) and not any(name in governor for name in _OWN_CHOICE):
        yield Caution(
            kind="throttled",
            message=f"the governor {governor} holds the processor's frequency down",
            advice="run: sudo cpupower frequency-set -g performance",
        )


def _held_down(before: Snapshot, after: Snapshot) -> Iterator[Caution]:
    """Say what held the GPU's clock down, for how much of the time."""
    if before.gpu is None or after.gpu is None or after.at <= before.at:
        return
    for what, early, late in (
        ("heat", before.gpu.thermal_ns, after.gpu.thermal_ns),
        ("the power cap", before.gpu.power_ns, after.gpu.power_ns),
    ):
        share = _gone(early, late) / 1e9 / (after.at - before.at)
        if share > _HELD_DOWN:
            yield Caution(
                kind="throttled",
                message=f"{what} held the GPU's clock down for {min(share, 1):.0%} of the time",
                advice="a lower clock is steadier: sudo nvidia-smi --lock-gpu-clocks MHZ",
            )


def _busy(before: Snapshot, after: Snapshot, advice: str) -> Iterator[Caution]:
    if before.load is not None and before.load > _BUSY * before.cores:
        told = f"load {before.load:g} on {before.cores} cores when the benchmark began"
        yield Caution(kind="busy", message=f"the machine was busy: {told}", advice=advice)
    elapsed = after.at - before.at
    if before.ticks is None or after.ticks is None or elapsed < 1:
        return
    ran, passed = (after.ticks[index] - before.ticks[index] for index in (1, 2))
    if passed <= 0:
        return
    processors = passed / os.sysconf("SC_CLK_TCK") / elapsed
    ours = (after.own_seconds - before.own_seconds) / elapsed
    others = processors * ran / passed - ours
    if others > _OTHERS * processors:
        yield Caution(
            kind="busy",
            message=f"other programs used {others:.1f} of {processors:.0f} processors meanwhile",
            advice=advice,
        )


def _stolen(before: Snapshot, after: Snapshot, advice: str) -> Iterator[Caution]:
    if before.ticks is None or after.ticks is None:
        return
    taken, _, passed = (late - early for early, late in zip(before.ticks, after.ticks, strict=True))
    if passed > 0 and taken > _STOLEN * passed:
        told = f"the hypervisor gave {taken / passed:.0%} of the processor's time to others"
        yield Caution(kind="stolen", message=told, advice=advice)


def _memory(before: Snapshot, after: Snapshot) -> Iterator[Caution]:
    swapped = _gone(before.swapped_pages, after.swapped_pages) * _PAGE
    advice = "close what else holds memory, or measure fewer models at a time"
    if swapped > _SWAPPED_BYTES:
        told = f"the machine swapped {human_bytes(swapped)} meanwhile"
        yield Caution(kind="memory", message=told, advice=advice)
    free = after.available_bytes
    if free is not None and after.memory_bytes and free < _SCARCE * after.memory_bytes:
        told = f"only {human_bytes(free)} of memory are free"
        yield Caution(kind="memory", message=told, advice=advice)


def _gone(before: float | None, after: float | None) -> float:
    """Return by how much a counter went up; 0 where it is not told."""
    return 0.0 if before is None or after is None else max(0.0, after - before)
