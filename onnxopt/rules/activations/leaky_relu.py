"""LeakyRelu and PRelu from the forms that exporters write: x where x ≥ 0, a·x elsewhere."""

from __future__ import annotations

from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, product, var
from onnxopt.rewrite.rule import Builder, rule

x, slope = var("x"), const("slope")
_POSITIVE = op.Greater(x, 0) | op.GreaterOrEqual(x, 0)
_BELOW = op.Sub(x, op.Abs(x))


@rule(op.Max(x, op.Mul(x, slope)), since=8)
def fuse_max_to_leaky_relu(new: Builder, x: ir.Value, slope: Any) -> Any:
    """Max(x, a·x) for 0 ≤ a ≤ 1 becomes LeakyRelu(x)."""
    if slope.size != 1 or not 0 <= slope.item() <= 1:
        new.refuse("the slope is not one number between 0 and 1")
    return _prelu(new, x, slope)


@rule(op.Where(_POSITIVE, x, op.Mul(x, slope)), since=9)
def fuse_where_to_prelu(new: Builder, x: ir.Value, slope: Any) -> Any:
    """Where(x > 0, x, a·x) becomes LeakyRelu(x) or PRelu(x, a)."""
    return _prelu(new, x, slope)


@rule(op.Add(op.Relu(x), op.Mul(slope, op.Relu(op.Neg(x)))), since=7)
def fuse_relus_to_prelu(new: Builder, x: ir.Value, slope: Any) -> Any:
    """Relu(x) + a·Relu(-x) becomes LeakyRelu(x) or PRelu(x, -a)."""
    return _prelu(new, x, -slope)


@rule(op.Sub(op.Relu(x), op.Mul(slope, op.Relu(op.Neg(x)))), since=7)
def fuse_relu_difference_to_prelu(new: Builder, x: ir.Value, slope: Any) -> Any:
    """Relu(x) - a·Relu(-x) becomes LeakyRelu(x) or PRelu(x, a)."""
    return _prelu(new, x, slope)


@rule(op.Add(op.Relu(x), product(slope, _BELOW, 0.5)), since=7)
def fuse_abs_to_prelu(new: Builder, x: ir.Value, slope: Any) -> Any:
    """Relu(x) + ½·a·(x - |x|) becomes LeakyRelu(x) or PRelu(x, a)."""
    return _prelu(new, x, slope)


def _prelu(new: Builder, x: ir.Value, slope: Any) -> Any:
    """Make LeakyRelu of one slope, PRelu of several; refuse what would give x another shape."""
    if not facts.is_single_or_half(x) or not dims.broadcast_keeps(x, slope.shape):
        new.refuse(f"'{x.name}' is not known to be float32 or float16 of the right shape")
    if slope.size == 1:
        return new.LeakyRelu(x, alpha=float(slope.item()))
    return new.PRelu(x, slope)
