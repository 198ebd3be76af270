"""What devices tell of themselves: memory, energy, clocks and limits of GPUs, energy of processors.

GPUs are asked through NVML (the package nvidia-ml-py, if it is installed), processors through the
RAPL counters of Linux. Whatever is missing, refused or not supported is None, never an error.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

NVIDIA = frozenset({"cuda", "tensorrt", "nvtensorrtrtx"})
"""Our names of the providers that compute on an NVIDIA GPU."""

_CPU = "cpu"
_POWERCAP = Path("/sys/class/powercap")
_PROC = Path("/proc")
# Why clocks are below what the GPU could do; idle and clocks that the user has set are no limits.
_LIMITS = {
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "temperature",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}
_POWER_POLICY, _THERMAL_POLICY = 0, 1
_SM_CLOCK = 1

_T = TypeVar("_T")


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One GPU as its driver describes it; `capability` is NVIDIA's, such as `9.0`."""

    name: str
    memory_bytes: int | None = None
    capability: str = ""


@dataclass(frozen=True, kw_only=True)
class GpuState:
    """A moment of a GPU.

    `limits` says what holds its clock down just now. `thermal_ns` and `power_ns` count the time
    for which heat and the power cap did so, since the driver was loaded: read before and after.
    """

    clock_mhz: int | None = None
    max_clock_mhz: int | None = None
    temperature_c: int | None = None
    limits: tuple[str, ...] = ()
    thermal_ns: int | None = None
    power_ns: int | None = None


@dataclass(frozen=True, kw_only=True)
class Driver:
    """NVIDIA's driver: its version, and the highest CUDA version that it runs, as (13, 0)."""

    version: str
    cuda: tuple[int, int] | None = None


def driver(proc: Path = _PROC) -> Driver | None:
    """Return what driver is loaded; None where there is none, or a container hides it."""
    nvml = _nvml()
    version = _asked(nvml.nvmlSystemGetDriverVersion) if nvml else None
    if version is None:
        try:
            told = (proc / "driver/nvidia/version").read_text()
        except OSError:
            told = ""
        found = re.search(r"\s(\d+\.\d+(?:\.\d+)?)\s", told)
        version = found[1] if found else None
    cuda = _highest_cuda()
    if version is None:
        return Driver(version="", cuda=cuda) if cuda else None
    return Driver(version=_text(version), cuda=cuda)


def _highest_cuda() -> tuple[int, int] | None:
    """Ask libcuda, which is the driver's own, so that this works without NVML."""
    found = ctypes.c_int(0)
    library = _libcuda()
    if library is None or library.cuDriverGetVersion(ctypes.byref(found)) != 0 or not found.value:
        return None
    return found.value // 1000, found.value % 1000 // 10


def gpus() -> tuple[Gpu, ...]:
    """Return the GPUs that the driver lists, in NVML's order; empty without NVML."""
    nvml = _nvml()
    count = _asked(nvml.nvmlDeviceGetCount) if nvml else None
    if nvml is None or not count:
        return ()
    handles = (_asked(nvml.nvmlDeviceGetHandleByIndex, index) for index in range(count))
    return tuple(_describe(nvml, handle) for handle in handles if handle is not None)


def gpu_of(provider: str, device: int = 0) -> Gpu | None:
    """Return the GPU that a provider computes on as its `device_id`; None for other providers."""
    nvml, handle = _handle(provider, device)
    return None if nvml is None else _describe(nvml, handle)


def _describe(nvml: ModuleType, handle: Any) -> Gpu:
    memory = _asked(nvml.nvmlDeviceGetMemoryInfo, handle)
    capability = _asked(nvml.nvmlDeviceGetCudaComputeCapability, handle)
    return Gpu(
        name=_text(_asked(nvml.nvmlDeviceGetName, handle) or "NVIDIA GPU"),
        memory_bytes=None if memory is None else int(memory.total),
        capability=".".join(map(str, capability or ())),
    )


def gpu_state(provider: str, device: int = 0) -> GpuState | None:
    """Return clocks, temperature and limits of the GPU that a provider computes on."""
    nvml, handle = _handle(provider, device)
    if nvml is None:
        return None
    reasons = _asked(nvml.nvmlDeviceGetCurrentClocksThrottleReasons, handle) or 0
    return GpuState(
        clock_mhz=_asked(nvml.nvmlDeviceGetClockInfo, handle, _SM_CLOCK),
        max_clock_mhz=_asked(nvml.nvmlDeviceGetMaxClockInfo, handle, _SM_CLOCK),
        temperature_c=_asked(nvml.nvmlDeviceGetTemperature, handle, 0),
        limits=tuple(name for bit, name in _LIMITS.items() if reasons & bit),
        thermal_ns=_violation(nvml, handle, _THERMAL_POLICY),
        power_ns=_violation(nvml, handle, _POWER_POLICY),
    )


def _violation(nvml: ModuleType, handle: Any, policy: int) -> int | None:
    told = _asked(nvml.nvmlDeviceGetViolationStatus, handle, policy)
    return None if told is None else int(told.violationTime)


def device_bytes(pid: int, provider: str, device: int = 0) -> int | None:
    """Return the memory of the GPU that process `pid` holds: weights, arena, CUDA's own context.

    In a container the driver lists processes by numbers of the host. One that is alone on the
    device, under a number that is nobody's here, is then taken to be `pid`: so ask only once it
    has a session on the device.
    """
    nvml, handle = _handle(provider, device)
    listed = _asked(nvml.nvmlDeviceGetComputeRunningProcesses, handle) if nvml else None
    if not listed:
        return None
    own = [each for each in listed if each.pid == pid]
    if not own and len(listed) == 1 and not (_PROC / str(listed[0].pid)).exists():
        own = list(listed)
    known = [int(each.usedGpuMemory) for each in own if each.usedGpuMemory is not None]
    return sum(known) if known else None


def energy_joules(provider: str, device: int = 0) -> float | None:
    """Read a counter of energy: what matters is the difference of two readings in one process.

    For `cpu` all of the machine's processors and their memory, whoever uses them (RAPL, which most
    systems let only root read); for NVIDIA's providers the whole board of one GPU (Volta and
    later). None where nothing tells.
    """
    if provider == _CPU:
        return _rapl().read()
    nvml, handle = _handle(provider, device)
    spent = _asked(nvml.nvmlDeviceGetTotalEnergyConsumption, handle) if nvml else None
    return None if spent is None else spent / 1000


class RaplMeter:
    """The energy counters of the processors, added up beyond their wrap-around.

    A counter starts at 0 again after some hundred kJ (`max_energy_range_uj`), many minutes: read
    it more often than that.
    """

    def __init__(self, root: Path = _POWERCAP) -> None:
        self._zones = _zones(root)
        self._last: dict[Path, int] = {}
        self._spent = 0

    def read(self) -> float | None:
        """Return joules since the first reading; None where a counter cannot be read."""
        if not self._zones:
            return None
        for zone in self._zones:
            now = _number(zone / "energy_uj")
            if now is None:
                return None
            gone = now - self._last.get(zone, now)
            if gone < 0:
                gone += (_number(zone / "max_energy_range_uj") or 0) + 1
            self._last[zone] = now
            self._spent += max(0, gone)
        return self._spent / 1e6


def _zones(root: Path) -> list[Path]:
    """List packages, and the memory beside them: what else there is lies within these."""
    found = []
    for zone in sorted(root.glob("intel-rapl:*")):
        try:
            name = (zone / "name").read_text().strip()
        except OSError:
            continue
        if name.startswith(("package", "dram")):
            found.append(zone)
    return found


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


@cache
def _rapl() -> RaplMeter:
    return RaplMeter()


@cache
def _nvml() -> ModuleType | None:
    """Return NVML, started; None where the package or the driver is missing."""
    try:
        import pynvml
    except ImportError:
        return None
    module: ModuleType = pynvml
    try:
        module.nvmlInit()
    except Exception:  # noqa: BLE001 - no driver, no permission, another pynvml: all the same here
        return None
    return module


@cache
def _libcuda() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def _handle(provider: str, device: int) -> tuple[ModuleType, Any] | tuple[None, None]:
    """Return NVML and the GPU that CUDA numbers `device`, which NVML may number otherwise."""
    nvml = _nvml() if provider in NVIDIA else None
    if nvml is None:
        return None, None
    place = _pci_bus(device)
    handle = _asked(nvml.nvmlDeviceGetHandleByPciBusId, place) if place else None
    if handle is None and "CUDA_VISIBLE_DEVICES" not in os.environ:
        handle = _asked(nvml.nvmlDeviceGetHandleByIndex, device)
    return (None, None) if handle is None else (nvml, handle)


def _pci_bus(device: int) -> bytes | None:
    """Ask CUDA where device number `device` sits; makes no context on it."""
    library = _libcuda()
    if library is None or library.cuInit(0) != 0:
        return None
    number, place = ctypes.c_int(0), ctypes.create_string_buffer(32)
    if library.cuDeviceGet(ctypes.byref(number), device) != 0:
        return None
    return place.value if library.cuDeviceGetPCIBusId(place, 32, number) == 0 else None


def _asked(question: Callable[..., _T], *arguments: Any) -> _T | None:
    """Return NVML's answer; None where this device, driver or user gets none."""
    try:
        return question(*arguments)
    except Exception:  # noqa: BLE001 - NVML has an error class for each reason, and none helps
        return None


def _text(told: Any) -> str:
    return told.decode() if isinstance(told, bytes) else str(told)
