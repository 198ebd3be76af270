"""The execution providers: what each is called, wants and falls back on, and which work here."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from onnxopt.errors import OnnxOptError, ProviderError
from onnxopt.runtime.execution import libraries, nvidia, wheels
from onnxopt.runtime.execution.libraries import Library
from onnxopt.runtime.execution.probe import Probe, probe_apart, probe_here
from onnxopt.runtime.execution.wheels import Problem, installed_wheels
from onnxopt.runtime.machine import devices
from onnxopt.runtime.machine.isa import processor
from onnxopt.runtime.sessions.session import INSTALL_HINT, import_onnxruntime
from onnxopt.text import near_matches


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One execution provider of onnxruntime.

    `wheel` is the package that has it and `options` are the provider options that a session gets
    unless the caller says otherwise. `fallbacks` take the nodes that it cannot. `formats` are the
    number formats that it has fast kernels for. `builds` says that its first load of a model
    builds something that later ones find.
    """

    name: str
    ort_name: str
    wheel: str
    options: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ("CPUExecutionProvider",)
    formats: tuple[str, ...] = ("float32",)
    builds: bool = False


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    """Whether a provider works here: tried, not looked up.

    `reason` says why not, or what to know although it does; `fix` is the command or the act that
    mends it: the first of `problems`, which are all. `details` are versions and devices, for
    people; `libraries` those that it needs, where that is known.
    """

    name: str
    ort_name: str
    usable: bool
    reason: str = ""
    fix: str = ""
    details: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    libraries: tuple[Library, ...] = ()


_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
PROVIDERS: dict[str, Provider] = {
    provider.name: provider
    for provider in (
        Provider(
            name="cpu",
            ort_name=_CPU,
            wheel="onnxruntime",
            fallbacks=(),
            formats=("float32", "int8"),
        ),
        Provider(
            name="cuda",
            ort_name=_CUDA,
            wheel="onnxruntime-gpu",
            formats=("float16", "bfloat16", "float32"),
        ),
        Provider(
            name="tensorrt",
            ort_name="TensorrtExecutionProvider",
            wheel="onnxruntime-gpu",
            fallbacks=(_CUDA, _CPU),
            formats=("float16", "int8", "float8", "float32"),
            builds=True,
        ),
        Provider(
            name="openvino", ort_name="OpenVINOExecutionProvider", wheel="onnxruntime-openvino"
        ),
        Provider(name="directml", ort_name="DmlExecutionProvider", wheel="onnxruntime-directml"),
        Provider(name="coreml", ort_name="CoreMLExecutionProvider", wheel="onnxruntime"),
        Provider(name="qnn", ort_name="QNNExecutionProvider", wheel="onnxruntime-qnn"),
        Provider(
            name="migraphx", ort_name="MIGraphXExecutionProvider", wheel="onnxruntime-migraphx"
        ),
    )
}
_ALWAYS_SHOWN = ("cpu", "cuda", "tensorrt")
# Sends whole models to a web service: nothing that could be compared.
_NO_PROVIDER = "AzureExecutionProvider"


def find_provider(name: str) -> Provider:
    """Return the provider called `name`, by our name or onnxruntime's, if this build has it.

    Raises `ProviderError` with the fix when it is unknown or not in the installed onnxruntime.
    That it is in the build does not mean that it works: `survey` tries.
    """
    available = import_onnxruntime().get_available_providers()
    provider = _by_name(name, available)
    if provider is None:
        known = {*PROVIDERS, *available} - {_NO_PROVIDER}
        raise ProviderError(f"unknown provider {name!r}", near_matches(name, known))
    if provider.ort_name not in available:
        missing = _not_built(provider)
        raise ProviderError(
            f"provider {provider.name!r} cannot be used: {missing.reason}", missing.fix
        )
    preload(provider.ort_name, *provider.fallbacks)
    return provider


def known_as(name: str) -> str:
    """Return our name of a provider that may be called by onnxruntime's."""
    return short_name(name) if name.endswith("ExecutionProvider") else name.lower()


def short_name(ort_name: str) -> str:
    """Return our name of a provider that onnxruntime calls `ort_name`: `cpu`, `tensorrt`."""
    known = (each.name for each in PROVIDERS.values() if each.ort_name == ort_name)
    return next(known, _unnamed(ort_name).name)


def is_known(name: str) -> bool:
    """Tell whether a provider of that name exists, in the installed onnxruntime or another."""
    return _by_name(name, import_onnxruntime().get_available_providers()) is not None


def _by_name(name: str, available: list[str]) -> Provider | None:
    wanted = name.lower()
    for provider in (*PROVIDERS.values(), *map(_unnamed, available)):
        if wanted in {provider.name, provider.ort_name.lower()}:
            return provider
    return None


def _unnamed(ort_name: str) -> Provider:
    """Describe a provider that we know nothing of, except that this onnxruntime offers it."""
    short = ort_name.removesuffix("ExecutionProvider").lower()
    return Provider(name=short, ort_name=ort_name, wheel="onnxruntime")


def preload(*ort_names: str) -> None:
    """Load the libraries that providers need from NVIDIA's wheels, where nobody else looks."""
    if _CUDA in ort_names:
        _preload_cuda()
        for ort_name in ort_names:
            libraries.preload(ort_name)


@cache
def _preload_cuda() -> None:
    offered = getattr(import_onnxruntime(), "preload_dlls", None)
    if offered is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            offered()


def survey() -> tuple[ProviderStatus, ...]:
    """Try every provider with a session of one node and tell which work, and why the rest do not.

    CPU, CUDA and TensorRT are always told of; others where the installed onnxruntime has them.
    Providers other than the CPU are tried in a process of their own, which they may crash.
    """
    try:
        available = import_onnxruntime().get_available_providers()
    except ProviderError as error:
        broken = wheels.problems() or [
            Problem(reason=error.message, fix=error.hint or INSTALL_HINT)
        ]
        return tuple(
            _status(PROVIDERS[name], usable=False, problems=broken) for name in _ALWAYS_SHOWN
        )
    shown = [PROVIDERS[name] for name in _ALWAYS_SHOWN]
    for ort_name in available:
        provider = _by_name(ort_name, available)
        if provider is not None and provider not in shown and ort_name != _NO_PROVIDER:
            shown.append(provider)
    return tuple(_try(provider, available) for provider in shown)


def check_usable(name: str) -> Provider:
    """Try the provider called `name` and return it; raise `ProviderError` with the fix."""
    provider = find_provider(name)
    if provider.ort_name == _CPU:
        return provider
    status = _try(provider, [provider.ort_name])
    if not status.usable:
        raise ProviderError(f"provider {name!r} cannot be used: {status.reason}", status.fix)
    return provider


def _try(provider: Provider, available: list[str]) -> ProviderStatus:
    if provider.ort_name == _CPU:
        found = probe_here(_CPU)
        faults = [] if found.works else _diagnose(provider, found)
        faults = [*faults, *wheels.problems()]
        return _status(provider, usable=found.works, problems=faults, details=_cpu_details())
    machine = _machine(provider) if provider.name in devices.NVIDIA else None
    if provider.ort_name not in available:
        found, faults = Probe(works=False), [_not_built(provider)]
        faults += nvidia.problems(machine, works=False) if machine else []
    else:
        found = probe_apart(provider.ort_name, provider.fallbacks)
        faults = nvidia.problems(machine, works=found.works) if machine else []
        if not found.works:
            faults = faults or _diagnose(provider, found)
        faults += wheels.problems()
    return _status(
        provider,
        usable=found.works,
        problems=faults,
        details={**found.details, **(nvidia.details(machine) if machine else {})},
        needs=machine.libraries if machine else (),
    )


def _status(
    provider: Provider,
    *,
    usable: bool,
    problems: Sequence[Problem],
    details: Mapping[str, str] | None = None,
    needs: Sequence[Library] = (),
) -> ProviderStatus:
    return ProviderStatus(
        name=provider.name,
        ort_name=provider.ort_name,
        usable=usable,
        reason=problems[0].reason if problems else "",
        fix=problems[0].fix if problems else "",
        details=dict(details or {}),
        problems=tuple(problems),
        libraries=tuple(needs),
    )


def _machine(provider: Provider) -> nvidia.Machine:
    onnxruntime = import_onnxruntime()
    installed = installed_wheels()
    wheel = next((name for name in installed if name != "onnxruntime"), "onnxruntime")
    return nvidia.Machine(
        wheel=wheel,
        version=installed.get(wheel, str(onnxruntime.__version__)),
        built_for=str(getattr(onnxruntime, "cuda_version", "") or ""),
        libraries=libraries.libraries_of(provider.ort_name),
        driver=devices.driver(),
        gpus=devices.gpus(),
    )


def _not_built(provider: Provider) -> Problem:
    installed = installed_wheels()
    told = ", ".join(f"{name} {version}" for name, version in installed.items()) or "onnxruntime"
    reason = f"the installed {told} was built without {provider.ort_name}"
    if provider.wheel in installed:
        fix = f"it exists for other systems only; use one of: {', '.join(_working())}"
        return Problem(reason=reason, fix=fix)
    uninstall = f"pip uninstall -y {' '.join(installed)} && " if installed else ""
    return Problem(reason=reason, fix=f"run: {uninstall}pip install {provider.wheel}")


def _working() -> list[str]:
    available = import_onnxruntime().get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider.ort_name in available]


def _diagnose(provider: Provider, found: Probe) -> list[Problem]:
    """Turn what a failed try printed into a reason and a fix."""
    missing = re.search(r"(lib\w+\.so[.\d]*): cannot open shared object", found.error)
    if missing is not None:
        return [
            Problem(
                reason=f"the library {missing[1]} is not there",
                fix=f"install the package that has {missing[1]}",
            )
        ]
    if re.search(r"no CUDA-capable device|driver version is insufficient|libcuda", found.error):
        return [
            Problem(
                reason="there is no NVIDIA device, or its driver is too old",
                fix="install the driver: nvidia-smi must list a device",
            )
        ]
    took_none = f"{provider.ort_name} took no node of a model that it should take"
    fix = f"use another provider, or reinstall: pip install --force-reinstall {provider.wheel}"
    return [Problem(reason=found.error or took_none, fix=fix)]


def _cpu_details() -> dict[str, str]:
    cpu = processor()
    details: dict[str, Any] = {
        "processor": cpu.name,
        "instruction sets": " ".join(cpu.features),
        "usable cores": cpu.cores,
        **installed_wheels(),
    }
    with contextlib.suppress(OnnxOptError, AttributeError):
        onnxruntime = import_onnxruntime()
        if not installed_wheels():
            details["onnxruntime"] = onnxruntime.__version__
        details["build"] = onnxruntime.get_build_info().removeprefix("ORT Build Info: ")
    return {name: str(value) for name, value in details.items()}
