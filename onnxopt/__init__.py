"""Optimize, quantize, prune, benchmark and compare ONNX models.

    import onnxopt

    report = onnxopt.optimize("model.onnx", "model.opt.onnx", target="cpu")
    print(report.output.nodes, report.verification.passed)

The names load on first use, so that importing the package costs a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnxopt.api import benchmark, compare, inspect, optimize, prune, quantize
    from onnxopt.errors import OnnxOptError

__all__ = ["OnnxOptError", "benchmark", "compare", "inspect", "optimize", "prune", "quantize"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "OnnxOptError":
        from onnxopt.errors import OnnxOptError

        return OnnxOptError
    if name in __all__:
        from onnxopt import api

        return getattr(api, name)
    raise AttributeError(f"module 'onnxopt' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
