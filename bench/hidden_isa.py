"""Runs onnxruntime's kernels for older processors on a newer one, by hiding instruction sets.

A private copy of the installed onnxruntime is made in which each `cpuid` instruction traps, and a
small library that answers the trap without AVX512, VNNI and AMX (`hidden_isa.c`). The kernels are
the real ones, so that their saturation and their speed can be measured; the processor's clock and
caches stay what they are.

    python bench/hidden_isa.py avx2                          the variables of the environment
    python bench/hidden_isa.py avx2 -- python script.py      runs a command in it
    python bench/hidden_isa.py --check                       proves it, by sums that saturate

Linux on x86-64 with gcc and objdump.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Literal

import click
from tools import ENVIRONMENTS, FOLDER

Level = Literal["avx2", "avx512", "native"]
LEVELS: tuple[Level, ...] = ("avx2", "avx512", "native")
_CPUID, _TRAP = b"\x0f\xa2", b"\xcc\x90"
_LOAD = 1


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("level", type=click.Choice(LEVELS), default="avx2")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--folder", type=click.Path(path_type=Path), help="Where the copy is to be made.")
@click.option("--check", is_flag=True, help="Run sums that saturate, and time a convolution.")
def main(level: Level, command: tuple[str, ...], folder: Path | None, check: bool) -> None:
    """Print the variables with which any process sees the processor at LEVEL, or run COMMAND."""
    if check:
        script = str(FOLDER / "hidden_isa_check.py")
        for each in LEVELS:
            process = subprocess.run(
                [sys.executable, script], env=environment(each, folder), check=True, text=True,
                stdout=subprocess.PIPE,
            )  # fmt: skip
            click.echo(f"{each:7} {process.stdout.strip()}")
        return
    variables = prepare(level, folder)
    if not command:
        for name, value in variables.items():
            click.echo(f"export {name}={value}")
        return
    raise SystemExit(subprocess.run(command, env=os.environ | variables, check=False).returncode)


def environment(level: Level, folder: Path | None = None) -> dict[str, str]:
    """Return this process's environment, changed so that a child sees the processor at `level`."""
    return os.environ | prepare(level, folder)


def prepare(level: Level, folder: Path | None = None) -> dict[str, str]:
    """Make the copy unless it is there; return the variables with which a process uses it.

    `folder` defaults to one in `bench/.envs/` for the onnxruntime that this interpreter imports.
    'native' hides nothing, but takes the same way: what it costs is in the comparison.
    """
    package = _installed()
    home = folder or ENVIRONMENTS / f"hidden-{_version(package)}-py{sys.version_info.minor}"
    library = home / "hidden_isa.so"
    source = FOLDER / "hidden_isa.c"
    if not library.exists() or library.stat().st_mtime < source.stat().st_mtime:
        copy(package, home / "onnxruntime")
        compile_library(source, library)
    inherited = os.environ.get("PYTHONPATH")
    return {
        "HIDE_ISA": level,
        "LD_PRELOAD": str(library),
        "PYTHONPATH": os.pathsep.join([str(home), *([inherited] if inherited else [])]),
    }


def _installed() -> Path:
    spec = importlib.util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise SystemExit("onnxruntime is not installed for this interpreter")
    return Path(spec.origin).parent


def _version(package: Path) -> str:
    found = re.search(r'^__version__ = "(.+)"', (package / "__init__.py").read_text(), re.MULTILINE)
    return found[1] if found else "unknown"


def copy(package: Path, target: Path) -> int:
    """Copy the package `package` to `target`, its extension module patched.

    Returns how many instructions were replaced.
    """
    shutil.rmtree(target, ignore_errors=True)
    # The shared library for C programs is not what Python loads, and as large as the module.
    ignore = shutil.ignore_patterns("libonnxruntime.so.*", "__pycache__")
    shutil.copytree(package, target, ignore=ignore)
    (module,) = (target / "capi").glob("onnxruntime_pybind11_state*.so")
    return patch(module)


def patch(library: Path) -> int:
    """Replace each `cpuid` in the code of a shared library; return how many there were."""
    code = bytearray(library.read_bytes())
    places = [_offset(code, address) for address in _addresses(library)]
    for place in places:
        assert code[place : place + 2] == _CPUID
        code[place : place + 2] = _TRAP
    library.write_bytes(code)
    return len(places)


def _addresses(library: Path) -> list[int]:
    command = ["objdump", "--disassemble", "--no-show-raw-insn", str(library)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [line for line in process.stdout if "cpuid" in line]
    found = [re.match(r"\s*([0-9a-f]+):\s+cpuid\s*$", line) for line in lines]
    return [int(match[1], 16) for match in found if match]


def _offset(code: bytes | bytearray, address: int) -> int:
    """Return where in the file stands what is loaded to `address` (System V ABI, chapter 5)."""
    (start,) = struct.unpack_from("<Q", code, 32)
    size, count = struct.unpack_from("<HH", code, 54)
    for index in range(count):
        kind, _, offset, virtual, _, length = struct.unpack_from(
            "<IIQQQQ", code, start + index * size
        )
        if kind == _LOAD and virtual <= address < virtual + length:
            return int(offset + address - virtual)
    raise ValueError(f"no segment holds {address:#x}")


def compile_library(source: Path, library: Path) -> None:
    """Compile the library that answers the traps."""
    command = [
        "gcc",
        "-O2",
        "-Wall",
        "-Wextra",
        "-shared",
        "-fPIC",
        "-o",
        str(library),
        str(source),
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
