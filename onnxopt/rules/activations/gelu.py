"""GELU in the forms that exporters write it.

GELU(x) = x·Φ(x) = x·½·(1 + erf(x/√2)), often approximated by
½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) (Hendrycks and Gimpel 2016). ONNX has both since opset 20,
onnxruntime as its own operators for any opset. With an older opset and standard operators only,
the expression is spelt in the way that onnxruntime recognises when it loads the model: it fuses
x/√2 but not x·√½.

x·σ(1.702·x), the quick GELU, stays: onnxruntime fuses it in every form, while Swish (opset 24) is
taken apart by it into more nodes than there were.
"""

from __future__ import annotations

import math
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, op, product, unless, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")
_SLOPE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _halved(gate: Pattern) -> Pattern:
    """Match x·½·gate, in whatever order and grouping."""
    return (
        product(x, 0.5, gate)
        | op.Mul(x / 2, gate)
        | op.Mul(x, gate / 2)
        | op.Div(op.Mul(x, gate), 2)
    )


def _gated(inner: Pattern) -> Pattern:
    """Match x·½·(1 + inner), also with the half inside the sum."""
    return _halved(1 + inner) | op.Mul(x, 0.5 + 0.5 * inner)


_ERF = _gated(op.Erf(x / math.sqrt(2) | x * math.sqrt(0.5)))
_ERF_KNOWN_GATE = 1 + op.Erf(x / math.sqrt(2))
_ERF_KNOWN = op.Mul(op.Mul(x, 0.5), _ERF_KNOWN_GATE) | op.Mul(op.Mul(x, _ERF_KNOWN_GATE), 0.5)
"""What onnxruntime fuses by itself."""

_TANH = _gated(
    op.Tanh(
        product(
            _SLOPE,
            x + (product(_CUBIC, x, x, x) | product(_CUBIC, x, x**2) | op.Mul(_CUBIC, x**3)),
        )
        | product(_SLOPE, x, 1 + (product(_CUBIC, x, x) | op.Mul(_CUBIC, x**2)))
    )
)
_TANH_KNOWN = op.Mul(
    op.Mul(x, 0.5),
    1
    + op.Tanh(
        op.Mul(_SLOPE, x + op.Mul(_CUBIC, x**3))
        | op.Mul(op.Mul(x, _SLOPE), 1 + op.Mul(x, op.Mul(x, _CUBIC)))
    ),
)


@rule(_ERF, since=20)
def fuse_erf_gelu(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + erf(x/√2)), in whatever order the exporter wrote it, becomes Gelu(x)."""
    return _gelu(new, x).Gelu(x)


@rule(_ERF, until=19, targets=("cpu", "cuda"))
def fuse_erf_gelu_for_onnxruntime(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + erf(x/√2)) becomes onnxruntime's own Gelu, where ONNX has none yet."""
    return _gelu(new, x).of("com.microsoft").Gelu(x)


@rule(unless(_ERF, _ERF_KNOWN), until=19)
def respell_erf_gelu(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + erf(x·√½)) is spelt as onnxruntime recognises it: (x·½)·(1 + erf(x/√2))."""
    gate = new.Add(new.Erf(_gelu(new, x).Div(x, math.sqrt(2))), 1.0)
    return new.Mul(new.Mul(x, 0.5), gate)


@rule(_TANH, since=20)
def fuse_tanh_gelu(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + tanh(√(2/π)·(x + 0.044715·x³))), in whatever order, becomes Gelu(x)."""
    return _gelu(new, x).Gelu(x, approximate="tanh")


@rule(_TANH, until=19, targets=("cpu", "cuda"))
def fuse_tanh_gelu_for_onnxruntime(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + tanh(…)) becomes onnxruntime's own FastGelu, where ONNX has no Gelu yet."""
    return _gelu(new, x).of("com.microsoft").FastGelu(x)


@rule(unless(_TANH, _TANH_KNOWN), until=19)
def respell_tanh_gelu(new: Builder, x: ir.Value) -> Any:
    """x·½·(1 + tanh(…)) is spelt as onnxruntime recognises it, with a Pow for the cube."""
    cubic = _gelu(new, x).Mul(new.Pow(x, 3.0), _CUBIC)
    tanh = new.Tanh(new.Mul(new.Add(x, cubic), _SLOPE))
    return new.Mul(new.Mul(x, 0.5), new.Add(tanh, 1.0))


def _gelu(new: Builder, x: ir.Value) -> Builder:
    """Refuse element types that runtimes have no kernels of Gelu for."""
    if not facts.is_single_or_half(x):
        new.refuse(f"'{x.name}' is not known to be float32 or float16")
    return new
