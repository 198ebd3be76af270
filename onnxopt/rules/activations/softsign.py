"""Softsign from the division that it is.

softsign(x) = x/(1 + |x|), as the operator's documentation in ONNX defines it. In the graph the
division reads x twice; the three nodes and Softsign agree also at ±0, at infinity (not a number
in both) and where 1 is lost beside |x|. onnxruntime does not fuse it by itself and has no kernel
of Softsign for float64 or bfloat16.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")


@rule(x / (1 + op.Abs(x)))
def fuse_softsign(new: Builder, x: ir.Value) -> Any:
    """x/(1 + |x|) becomes Softsign(x)."""
    if not facts.is_single_or_half(x):
        new.refuse(f"'{x.name}' is not known to be float32 or float16")
    return new.Softsign(x)
