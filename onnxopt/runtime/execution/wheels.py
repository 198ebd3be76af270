"""The wheels that bring onnxruntime: all of them write the same folder, over each other."""

from __future__ import annotations

import importlib.metadata
import re
from dataclasses import dataclass
from pathlib import Path

_NAME = re.compile(r"(onnxruntime|ort-nightly)(-[a-z0-9-]+)?")
# What else carries onnxruntime in its name, and lives in a folder of its own.
_NEIGHBOURS = re.compile(
    r"onnxruntime-(genai|extensions|tools|customops|ep|node|web)(-.*)?|ort-nightly-(genai).*"
)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Something that is wrong with the installation: what, and the command or act that mends it."""

    reason: str
    fix: str


def installed_wheels() -> dict[str, str]:
    """Return the installed distributions that bring onnxruntime, with their versions."""
    return {name: each.version for name, each in _wheels().items()}


def _wheels() -> dict[str, importlib.metadata.Distribution]:
    """Find those in the folder that Python looks into first: others are hidden behind it."""
    found: dict[str, importlib.metadata.Distribution] = {}
    folders = set()
    for distribution in importlib.metadata.distributions():
        name = str(distribution.metadata["Name"] or "").lower().replace("_", "-")
        if _NAME.fullmatch(name) and not _NEIGHBOURS.fullmatch(name):
            folders.add(str(distribution.locate_file("")))
            if len(folders) > 1:
                break
            found[name] = distribution
    return dict(sorted(found.items()))


def problems() -> list[Problem]:
    """Say what is wrong with the installed wheels: several, or one whose files another took away.

    Uninstalling one of two takes the files of both.
    """
    wheels = _wheels()
    told = [f"{name} {each.version}" for name, each in wheels.items()]
    if len(wheels) > 1:
        keep = next((name for name in wheels if name != "onnxruntime"), "onnxruntime")
        return [
            Problem(
                reason=f"{' and '.join(told)} are installed over each other: either may be broken",
                fix=f"run: pip uninstall -y {' '.join(wheels)} && pip install {keep}",
            )
        ]
    for name, distribution in wheels.items():
        if gone := _missing_files(distribution):
            return [
                Problem(
                    reason=f"{gone} files of {name} {distribution.version} are gone:"
                    " uninstalling or installing another onnxruntime takes them along",
                    fix="run: pip install --force-reinstall --no-deps"
                    f" {name}=={distribution.version}",
                )
            ]
    return []


def _missing_files(distribution: importlib.metadata.Distribution) -> int:
    """Count the files that the wheel has written and that are no longer there."""
    return sum(
        1
        for file in distribution.files or ()
        if file.parts[0] == "onnxruntime"
        and file.suffix != ".pyc"
        and not Path(str(distribution.locate_file(file))).exists()
    )
