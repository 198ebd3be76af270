"""Runs modules of this package as programs, wherever the caller stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import onnxopt


def command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module; a json.py in the caller's folder is none of ours."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """Return the environment in which a fresh interpreter finds this very package."""
    parent = str(Path(onnxopt.__file__).resolve().parents[1])
    paths = [parent, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
