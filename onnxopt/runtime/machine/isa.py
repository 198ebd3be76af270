"""What the processor is: its name, the instruction sets that kernels choose by, usable cores."""

from __future__ import annotations

import math
import os
import platform
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Those by which onnxruntime's CPU kernels (MLAS) are chosen, and which decide what int8 is worth.
_NOTABLE = (
    "sse4_1", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8", "avx512f", "avx512bw",
    "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16",
    "asimd", "asimddp", "asimdhp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Processor:
    """The processor that this process runs on.

    `features` are the instruction sets that matter to inference kernels, as Linux spells them;
    empty where the system does not tell. `cores` is what `usable_cores` returns.
    """

    name: str
    architecture: str
    features: tuple[str, ...]
    cores: int

    def has(self, feature: str) -> bool:
        """Tell whether the instruction set called `feature` (`avx512_vnni`) is there."""
        return feature in self.features

    @property
    def dots_int8(self) -> bool:
        """Whether int8 products are summed in 32 bits: without it, x86 kernels can saturate."""
        return any(map(self.has, ("avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm")))


@cache
def processor() -> Processor:
    """Return the processor, read from `/proc/cpuinfo` or, elsewhere, from the standard library."""
    facts = _cpuinfo(Path("/proc/cpuinfo"))
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    name = facts.get("model name") or platform.processor() or platform.machine() or "unknown"
    return Processor(
        name=name,
        architecture=platform.machine(),
        features=tuple(feature for feature in _NOTABLE if feature in flags),
        cores=usable_cores(),
    )


def usable_cores(root: Path = Path("/")) -> int:
    """Count the physical cores that this process may use: affinity and cgroup quota included.

    Two hardware threads of one core count once, because a matrix product gains nothing from the
    second. A quota of 1.5 processors counts as 2.
    """
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:  # no affinity on this system
        allowed = set(range(os.cpu_count() or 1))
    cores = len({_core_of(cpu, root) for cpu in allowed})
    quota = _cgroup_quota(root)
    return max(1, min(cores, math.ceil(quota)) if quota else cores)


def _core_of(cpu: int, root: Path) -> tuple[str, str]:
    folder = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
    try:
        package = (folder / "physical_package_id").read_text().strip()
        return package, (folder / "core_id").read_text().strip()
    except OSError:
        return "cpu", str(cpu)


def _cgroup_quota(root: Path) -> float | None:
    """Return the processors that the control group grants, the tightest of all its levels."""
    quotas = [quota for folder in control_groups(root) if (quota := _quota_of(folder)) is not None]
    return min(quotas, default=None)


def control_groups(root: Path = Path("/")) -> list[Path]:
    """List the folders of the control groups that grant this process its processor time."""
    return [
        folder
        for controllers, group in _groups(root / "proc/self/cgroup")
        for folder in _levels(root, controllers, group)
    ]


def _groups(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    parts = [line.split(":", 2) for line in lines]
    return [(part[1], part[2]) for part in parts if len(part) == 3 and part[1] in _CPU_GROUPS]


_CPU_GROUPS = ("", "cpu", "cpu,cpuacct", "cpuacct,cpu")


def _levels(root: Path, controllers: str, group: str) -> list[Path]:
    """List the group's folder and those above it; inside a container the root is the group."""
    mount = root / "sys/fs/cgroup" / controllers
    folder = mount / group.lstrip("/")
    above = [folder, *folder.parents]
    return above[: above.index(mount) + 1] if mount in above else [mount]


def _quota_of(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        limit = float("inf") if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return limit if 0 < limit < float("inf") else None


def _cpuinfo(path: Path) -> dict[str, str]:
    try:
        first = path.read_text().split("\n\n", 1)[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}
