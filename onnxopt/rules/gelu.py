"""GELU in the forms that exporters write it.

GELU(x) = x·Φ(x) = x·½·(1 + erf(x/√2)) (Hendrycks and Gimpel 2016); ONNX has it since opset 20.
"""

from __future__ import annotations

import math
from typing import Any

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, product, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")


@rule(product(x, 0.5, 1 + op.Erf(x / math.sqrt(2) | x * math.sqrt(0.5))), since=20)
def fuse_erf_gelu(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + erf(x/√2)), in whatever order the exporter wrote it, becomes Gelu(x)."""
    return new.Gelu(x)
