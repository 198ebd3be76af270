"""What CUDA and TensorRT need here, what of it there is, and the exact fix for what is not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from onnxopt.runtime.execution.libraries import Library
from onnxopt.runtime.execution.wheels import Problem
from onnxopt.runtime.machine.devices import Driver, Gpu
from onnxopt.text import human_bytes

# The oldest driver that runs a CUDA version (CUDA Compatibility, table 'minor version').
_OLDEST_DRIVER = {11: 450, 12: 525, 13: 580}
# The first onnxruntime-gpu that was published for a CUDA version.
_FIRST_FOR = {13: "1.27"}
_TENSORRT = ("libnvinfer", "libnvonnxparser")
_DRIVER = "libcuda.so.1"
_WITHOUT = {
    "libcudnn": "convolutions, pooling and recurrent layers",
    "libcufft": "Fourier transforms",
    "libnvrtc": "operators that are compiled when they are needed",
    "libnvinfer_plugin": "operators that are plugins of TensorRT",
}


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine has for providers of NVIDIA.

    `wheel` and `version` are the installed onnxruntime, `built_for` the CUDA version that it was
    built with; `libraries` are those that the provider needs.
    """

    wheel: str
    version: str
    built_for: str = ""
    libraries: Sequence[Library] = ()
    driver: Driver | None = None
    gpus: Sequence[Gpu] = ()

    def find(self, stem: str) -> Library | None:
        """Return the library that begins with `stem`, be it there or not."""
        return next((each for each in self.libraries if each.stem == stem), None)

    @property
    def cuda(self) -> int | None:
        """The CUDA version that this onnxruntime wants; None where nothing tells."""
        runtime = self.find("libcudart")
        if runtime is not None:
            return runtime.major
        major = self.built_for.partition(".")[0]
        return int(major) if major.isdigit() else None


def problems(machine: Machine, *, works: bool) -> list[Problem]:
    """Say everything that keeps the provider from working, or some operators where it `works`."""
    missing = [each for each in machine.libraries if each.path is None and each.name != _DRIVER]
    if works:
        return [
            Problem(
                reason=f"{_missing([each])}: {_WITHOUT[each.stem]} may fail",
                fix=_fix(machine, each),
            )
            for each in missing
            if each.stem in _WITHOUT
        ]
    tensorrt = [each for each in missing if each.stem.startswith(_TENSORRT)]
    groups = ([each for each in missing if each not in tensorrt], tensorrt)
    return [
        *_driver_problems(machine),
        *(
            Problem(reason=_missing(group), fix=_fix(machine, group[0]))
            for group in groups
            if group
        ),
    ]


def _driver_problems(machine: Machine) -> list[Problem]:
    wanted = machine.cuda
    oldest = _OLDEST_DRIVER.get(wanted or 0)
    install = f"install NVIDIA's driver, version {oldest or 525} or newer"
    driver, library = machine.driver, machine.find("libcuda")
    if driver is None or (library is not None and library.path is None and driver.cuda is None):
        return [
            Problem(
                reason=f"there is no NVIDIA driver: {_DRIVER} is not there",
                fix=f"{install}; a container gets it by docker run --gpus all",
            )
        ]
    if wanted and driver.cuda and driver.cuda[0] < wanted:
        highest = ".".join(map(str, driver.cuda))
        before = _FIRST_FOR.get(wanted)
        instead = f", or run: pip install '{machine.wheel}[cuda,cudnn]<{before}'" if before else ""
        return [
            Problem(
                reason=f"the driver {driver.version} runs CUDA {highest} at most,"
                f" and {machine.wheel} {machine.version} wants CUDA {wanted}",
                fix=install + (instead if driver.cuda[0] == wanted - 1 else ""),
            )
        ]
    return []


def _missing(libraries: Sequence[Library]) -> str:
    names = [each.name for each in libraries]
    told = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    others = [other for each in libraries for other in each.others]
    instead = f" ({' and '.join(others)} will not do)" if others else ""
    return f"{told} {'is' if len(names) == 1 else 'are'} not there{instead}"


def _fix(machine: Machine, library: Library) -> str:
    if library.stem.startswith(_TENSORRT):
        return f"run: pip install 'tensorrt-cu{machine.cuda or 12}-libs=={library.major}.*'"
    return f"run: pip install '{machine.wheel}[cuda,cudnn]=={machine.version}'"


def details(machine: Machine) -> dict[str, str]:
    """Tell versions, found against wanted, and devices, for people."""
    built = f" for CUDA {machine.built_for}" if machine.built_for else ""
    told = {machine.wheel: machine.version + built, "driver": _told_driver(machine.driver)}
    for name, stem in (("CUDA", "libcudart"), ("cuDNN", "libcudnn"), ("TensorRT", "libnvinfer")):
        library = machine.find(stem)
        if library is not None:
            there = f"{library.version or library.major} found" if library.path else "missing"
            told[name] = f"{there}, {library.major} wanted"
    for number, gpu in enumerate(machine.gpus):
        size = f", {human_bytes(gpu.memory_bytes)}" if gpu.memory_bytes else ""
        told[f"GPU {number}"] = gpu.name + size
    elsewhere = sorted({each.source for each in machine.libraries if each.in_wheel})
    tensorrt = [name for name in elsewhere if name.startswith("tensorrt")]
    if tensorrt:
        told["note"] = (
            f"onnxopt loads {tensorrt[0]} by itself; other programs need its folder in"
            " LD_LIBRARY_PATH"
        )
    elif elsewhere:
        told["note"] = (
            "onnxopt loads NVIDIA's wheels by itself; other programs call"
            " onnxruntime.preload_dlls() first"
        )
    return told


def _told_driver(driver: Driver | None) -> str:
    if driver is None:
        return "none"
    highest = f"CUDA {'.'.join(map(str, driver.cuda))} at most" if driver.cuda else ""
    return ", ".join(filter(None, [driver.version, highest])) or "unknown"
