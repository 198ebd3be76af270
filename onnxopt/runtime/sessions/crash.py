"""Loads a model in a process of its own first: onnxruntime may crash, and must not take us along.

A segmentation fault in an optimizer of onnxruntime ends the process without an exception. What a
child process survives, this one will survive too.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from onnxopt.errors import ModelError, ProviderError

_LOAD = """
import sys, onnxruntime
onnxruntime.set_default_logger_severity(4)
onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
"""


def crash_on_loading(model: Path | str) -> str:
    """Say by which signal onnxruntime dies when it loads a model and optimizes it, or nothing.

    An exception is no crash: whoever loads the model next gets it too.
    """
    command = [sys.executable, "-P", "-c", _LOAD, str(model)]
    status = subprocess.run(  # noqa: S603 - this interpreter, and a path that is no option
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False
    ).returncode
    if status >= 0:
        return ""
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"onnxruntime crashes when it loads the model ({name})"


def refusal(model: Path) -> str:
    """Say why onnxruntime does not load a model, or nothing where it does."""
    from onnxopt.runtime.sessions.engine import ONNXRUNTIME, open_engine

    if crash := crash_on_loading(model):
        return crash
    try:
        open_engine(model, optimize="none", only=ONNXRUNTIME)
    except (ModelError, ProviderError) as error:
        return error.message
    return ""
