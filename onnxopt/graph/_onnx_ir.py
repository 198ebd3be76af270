"""Imports onnx_ir without the third of a second that sympy costs.

onnx_ir uses sympy only for arithmetic on symbolic dimensions, yet imports it at once: 0.3 s and
34 MB of a start that otherwise takes 0.2 s. Where sympy is not loaded already, a stand-in takes its
place while onnx_ir is imported; the first use of any of its names loads the real one.
"""

from __future__ import annotations

import importlib
import logging
import sys
import types
from typing import Any


class _DeferredSympy(types.ModuleType):
    """Stands for sympy inside onnx_ir until one of its names is really used."""

    importing = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if not self.importing:
            return getattr(importlib.import_module("sympy"), name)

        def call(*args: Any, **kwargs: Any) -> Any:
            return getattr(importlib.import_module("sympy"), name)(*args, **kwargs)

        return call


def _import_onnx_ir() -> types.ModuleType:
    if "onnx_ir" in sys.modules or "sympy" in sys.modules:
        return importlib.import_module("onnx_ir")
    stand_in = _DeferredSympy("sympy")
    sys.modules["sympy"] = stand_in
    try:
        return importlib.import_module("onnx_ir")
    finally:
        stand_in.importing = False
        if sys.modules.get("sympy") is stand_in:
            del sys.modules["sympy"]


_import_onnx_ir()
# Its warnings are for those who configure logging; without a handler Python prints them.
logging.getLogger("onnx_ir").addHandler(logging.NullHandler())

import onnx_ir as ir  # noqa: E402

__all__ = ["ir"]
