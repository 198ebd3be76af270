"""The shared libraries that onnxruntime's NVIDIA providers need: where each is, or that it is not.

A library counts as found where the loader finds it (LD_LIBRARY_PATH, its cache, its usual folders)
or in one of NVIDIA's wheels, from where `preload` loads it before onnxruntime asks for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from onnxopt.runtime.execution.elf import needed

_OURS = re.compile(r"lib(cu|nv)\w+\.so\.[\d.]+")
_USUAL = ("/lib64", "/usr/lib64", "/lib", "/usr/lib", "/lib/x86_64-linux-gnu")
_WHEELS = ("nvidia/*/lib", "tensorrt_libs")
_FILES = {
    "CUDAExecutionProvider": "libonnxruntime_providers_cuda.so",
    "TensorrtExecutionProvider": "libonnxruntime_providers_tensorrt.so",
}
# libcufft counts otherwise than CUDA.
_CUFFT = {11: 10, 12: 11, 13: 12}
_CUDNN = 9


@dataclass(frozen=True, kw_only=True)
class Library:
    """One library that a provider needs.

    `source` is `system`, `LD_LIBRARY_PATH` or the wheel that holds it; `others` are versions of it
    that are there but are not the one. Without one that is not `required`, the provider starts and
    some operators fail.
    """

    name: str
    path: str | None = None
    version: str = ""
    source: str = ""
    required: bool = True
    others: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """The name without its version: `libcudnn`."""
        return self.name.partition(".so")[0]

    @property
    def major(self) -> int:
        """The version in the name: 9 for `libcudnn.so.9`."""
        return _major(self.name)

    @property
    def in_wheel(self) -> bool:
        """Whether only a wheel has it, where programs do not look unless told."""
        return self.source not in {"", "system", "LD_LIBRARY_PATH"}


def capi() -> Path | None:
    """Return the folder of the installed onnxruntime's own libraries."""
    with contextlib.suppress(ImportError, ValueError):
        found = importlib.util.find_spec("onnxruntime")
        for place in (found.submodule_search_locations or ()) if found else ():
            return Path(place) / "capi"
    return None


def libraries_of(ort_name: str, folder: Path | None = None) -> tuple[Library, ...]:
    """Find what a provider of NVIDIA needs; `folder` is onnxruntime's own, by default `capi()`.

    Empty for other providers, and where this onnxruntime does not have the provider.
    """
    folder = folder or capi()
    if folder is None or ort_name not in _FILES:
        return ()
    required, optional = _wanted(ort_name, folder)
    return tuple(
        find(name, required=name in required) for name in dict.fromkeys((*required, *optional))
    )


def _wanted(ort_name: str, folder: Path) -> tuple[list[str], list[str]]:
    """Return the sonames that the provider is linked with, and those that it loads when in need."""
    linked = {
        each: [name for name in needed(folder / file) if _OURS.fullmatch(name)]
        for each, file in _FILES.items()
    }
    required = linked[ort_name]
    majors = {name.partition(".so")[0]: _major(name) for names in linked.values() for name in names}
    optional = []
    if ort_name == "CUDAExecutionProvider" and "libcudart" in majors:
        cuda = majors["libcudart"]
        optional = [
            f"libcudnn.so.{majors.get('libcudnn', _CUDNN)}",
            f"libcufft.so.{_CUFFT.get(cuda, cuda - 1)}",
            f"libnvrtc.so.{cuda}",
        ]
    elif "libnvinfer" in majors:
        optional = [f"libnvinfer_plugin.so.{majors['libnvinfer']}"]
    stems = {name.partition(".so")[0] for name in required}
    return required, [name for name in optional if name.partition(".so")[0] not in stems]


def find(name: str, *, required: bool = True) -> Library:
    """Look a library up by its soname, loading nothing."""
    others: set[str] = set()
    stem = name.partition(".so")[0]
    for folder, source in _folders():
        path = folder / name
        if path.exists():
            return _found(name, path, source, required=required)
        others |= {each.name for each in folder.glob(f"{stem}.so.*") if _major(each.name)}
    cached = _loader_cache()
    if name in cached:
        return _found(name, Path(cached[name]), "system", required=required)
    others |= {each for each in cached if each.startswith(f"{stem}.so.")}
    short = {f"{stem}.so.{_major(each)}" for each in others} - {name}
    return Library(name=name, required=required, others=tuple(sorted(short)))


def _found(name: str, path: Path, source: str, *, required: bool) -> Library:
    wheel, version = _wheel_files().get(path, ("", "")) if source == "wheel" else ("", "")
    return Library(
        name=name,
        path=str(path),
        version=version or path.resolve().name.partition(".so.")[2],
        source=wheel or source,
        required=required,
    )


def _folders() -> Iterator[tuple[Path, str]]:
    for entry in filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)):
        yield Path(entry), "LD_LIBRARY_PATH"
    for entry in _USUAL:
        yield Path(entry), "system"
    for entry in dict.fromkeys(sys.path):
        for pattern in _WHEELS:
            for folder in sorted(Path(entry).glob(pattern)) if entry else ():
                yield folder, "wheel"


@cache
def _loader_cache() -> dict[str, str]:
    """Return what the loader's cache maps sonames to; empty where there is none."""
    program = shutil.which("ldconfig") or shutil.which("ldconfig", path="/sbin:/usr/sbin")
    if program is None:
        return {}
    done = subprocess.run([program, "-p"], capture_output=True, text=True, check=False)  # noqa: S603
    pairs = re.findall(r"^\s*(\S+) \([^)]*x86-64[^)]*\) => (\S+)", done.stdout, re.MULTILINE)
    pairs += re.findall(r"^\s*(\S+) \([^)]*AArch64[^)]*\) => (\S+)", done.stdout, re.MULTILINE)
    return dict(reversed(pairs))


@cache
def _wheel_files() -> dict[Path, tuple[str, str]]:
    """Map each library in NVIDIA's wheels to the name and the version of the wheel."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "")
        if name.startswith(("nvidia-", "nvidia_", "tensorrt")):
            for file in distribution.files or ():
                if ".so" in file.name:
                    place = Path(str(distribution.locate_file(file)))
                    found[place] = (name, distribution.version)
    return found


@cache
def preload(ort_name: str) -> None:
    """Load what of a provider's libraries only wheels have, so that onnxruntime finds it loaded.

    Once in a process. Some need others that come later, so what fails is tried again.
    """
    waiting = [each for each in libraries_of(ort_name) if each.in_wheel]
    for _ in range(3):
        waiting = [each for each in waiting if not _load(each)]


def _load(library: Library) -> bool:
    try:
        ctypes.CDLL(library.path, mode=ctypes.RTLD_GLOBAL)
    except OSError:
        return False
    return True


def _major(name: str) -> int:
    found = re.search(r"\.so\.(\d+)", name)
    return int(found[1]) if found else 0
