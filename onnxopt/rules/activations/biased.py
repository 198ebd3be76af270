"""A bias in front of a GELU, as onnxruntime's operators that do both.

For `cpu` it is left to onnxruntime, which fuses Add + Gelu into BiasGelu when it loads a model,
unless it can make a Gemm of the Add and the MatMul before it, which is faster (0.96 for BiasGelu).
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x, b = var("x"), var("b")
_SUM = op.Add(x, b, bind="add")
_contrib = op.of("com.microsoft")


@rule(
    _contrib.Gelu(_SUM) | op.Gelu(_SUM, approximate="none"),
    targets=("cuda",),
)
def fuse_bias_gelu(new: Builder, x: ir.Value, b: ir.Value) -> Any:
    """Gelu(x + b) with a constant row b becomes onnxruntime's BiasGelu(x, b)."""
    _check(new, x, b)
    return new.of("com.microsoft").BiasGelu(x, b)


@rule(
    _contrib.FastGelu(_SUM) | op.Gelu(_SUM, approximate="tanh"),
    targets=("cuda",),
)
def fuse_bias_fast_gelu(new: Builder, x: ir.Value, b: ir.Value) -> Any:
    """Gelu(x + b, approximate='tanh') with a constant row b becomes FastGelu(x, b)."""
    _check(new, x, b)
    return new.of("com.microsoft").FastGelu(x, b)


def _check(new: Builder, x: ir.Value, b: ir.Value) -> None:
    """Refuse a summand that is no constant row as long as the last axis, and small matrices."""
    row, shape = facts.static_shape(b), facts.shape(x)
    if row is None or len(row) != 1 or shape is None or shape[-1] != row[0]:
        new.refuse("the summand is no row as long as the last axis")
    if len(shape) < 3 or not facts.is_constant(b) or not facts.is_single_or_half(x):
        new.refuse("a bias of matrices belongs to their Gemm")
