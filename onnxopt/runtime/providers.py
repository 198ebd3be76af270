"""The execution providers: what each is called, wants and falls back on, and which work here."""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from onnxopt.errors import OnnxOptError, ProviderError
from onnxopt.runtime.isa import processor
from onnxopt.runtime.probe import Probe, probe_apart, probe_here
from onnxopt.runtime.session import INSTALL_HINT, import_onnxruntime
from onnxopt.text import near_matches


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One execution provider of onnxruntime.

    `wheel` is the package that has it and `options` are the provider options that a session gets
    unless the caller says otherwise. `fallbacks` take the nodes that it cannot. `formats` are the
    number formats that it has fast kernels for.
    """

    name: str
    ort_name: str
    wheel: str
    options: Mapping[str, str] = field(default_factory=dict)
    fallbacks: tuple[str, ...] = ("CPUExecutionProvider",)
    formats: tuple[str, ...] = ("float32",)


@dataclass(frozen=True, kw_only=True)
class ProviderStatus:
    """Whether a provider works here: tried, not looked up.

    `reason` says why not, or what to know although it does; `fix` is the command or the act that
    mends it. `details` are versions and devices, for people.
    """

    name: str
    ort_name: str
    usable: bool
    reason: str = ""
    fix: str = ""
    details: Mapping[str, str] = field(default_factory=dict)


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
        reason, fix = _not_built(provider)
        raise ProviderError(f"provider {provider.name!r} cannot be used: {reason}", fix)
    if _CUDA in (provider.ort_name, *provider.fallbacks):
        preload_cuda()
    return provider


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


def preload_cuda() -> None:
    """Load the CUDA and cuDNN libraries of NVIDIA's wheels, where onnxruntime itself would not."""
    preload = getattr(import_onnxruntime(), "preload_dlls", None)
    if preload is not None:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(Exception):
            preload()


def survey() -> tuple[ProviderStatus, ...]:
    """Try every provider with a session of one node and tell which work, and why the rest do not.

    CPU, CUDA and TensorRT are always told of; others where the installed onnxruntime has them.
    Providers other than the CPU are tried in a process of their own, which they may crash.
    """
    try:
        available = import_onnxruntime().get_available_providers()
    except ProviderError as error:
        return tuple(
            ProviderStatus(
                name=name,
                ort_name=PROVIDERS[name].ort_name,
                usable=False,
                reason=error.message,
                fix=error.hint or INSTALL_HINT,
            )
            for name in _ALWAYS_SHOWN
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
    if provider.ort_name not in available:
        reason, fix = _not_built(provider)
        return ProviderStatus(
            name=provider.name, ort_name=provider.ort_name, usable=False, reason=reason, fix=fix
        )
    is_cpu = provider.ort_name == _CPU
    found = probe_here(_CPU) if is_cpu else probe_apart(provider.ort_name, provider.fallbacks)
    reason, fix = ("", "") if found.works else _diagnose(provider, found)
    overlap, uninstall = _overlap()
    if found.works and overlap:
        reason, fix = overlap, uninstall
    return ProviderStatus(
        name=provider.name,
        ort_name=provider.ort_name,
        usable=found.works,
        reason=reason,
        fix=fix,
        details=_cpu_details() if is_cpu else dict(found.details),
    )


def installed_wheels() -> dict[str, str]:
    """Return the installed distributions that bring onnxruntime, with their versions."""
    wheels: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if re.fullmatch(
            r"(onnxruntime|ort-nightly)(-gpu|-directml|-openvino|-qnn|-migraphx)?", name
        ):
            wheels[name] = distribution.version
    return wheels


def _overlap() -> tuple[str, str]:
    """Say when several distributions have written their files over each other."""
    wheels = sorted(installed_wheels())
    if len(wheels) < 2:
        return "", ""
    keep = next((name for name in wheels if name != "onnxruntime"), wheels[0])
    return (
        f"{' and '.join(wheels)} are installed over each other: either may be broken",
        f"run: pip uninstall -y {' '.join(wheels)} && pip install {keep}",
    )


def _not_built(provider: Provider) -> tuple[str, str]:
    wheels = installed_wheels()
    told = ", ".join(f"{name} {version}" for name, version in wheels.items()) or "onnxruntime"
    reason = f"the installed {told} was built without {provider.ort_name}"
    if provider.wheel in wheels:
        return reason, f"it exists for other systems only; use one of: {', '.join(_working())}"
    others = " ".join(wheels)
    uninstall = f"pip uninstall -y {others} && " if others else ""
    return reason, f"run: {uninstall}pip install {provider.wheel}"


def _working() -> list[str]:
    available = import_onnxruntime().get_available_providers()
    return [name for name, provider in PROVIDERS.items() if provider.ort_name in available]


def _diagnose(provider: Provider, found: Probe) -> tuple[str, str]:
    """Turn what a failed try printed into a reason and a fix."""
    missing = re.search(r"(lib\w+\.so[.\d]*): cannot open shared object", found.error)
    if missing is not None:
        library = missing[1]
        package = "tensorrt" if "nvinfer" in library else "'onnxruntime-gpu[cuda,cudnn]'"
        return f"the library {library} is not there", f"run: pip install {package}"
    if re.search(r"no CUDA-capable device|driver version is insufficient|libcuda", found.error):
        return (
            "there is no NVIDIA device, or its driver is too old",
            "install the driver: nvidia-smi must list a device",
        )
    return found.error or f"{provider.ort_name} took no node of a model that it should take", (
        f"use another provider, or reinstall: pip install --force-reinstall {provider.wheel}"
    )


def _cpu_details() -> dict[str, str]:
    cpu = processor()
    details: dict[str, Any] = {
        "processor": cpu.name,
        "instruction sets": " ".join(cpu.features),
        "usable cores": cpu.cores,
        **installed_wheels(),
    }
    with contextlib.suppress(OnnxOptError):
        details.setdefault("onnxruntime", import_onnxruntime().__version__)
    return {name: str(value) for name, value in details.items()}
