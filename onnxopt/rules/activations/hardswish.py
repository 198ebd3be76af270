"""HardSigmoid and HardSwish from clamps.

HardSigmoid(x) = max(0, min(1, α·x + β)) is clip(a·x + b, 0, h)·s for s·h = 1, with α = a·s and
β = b·s; α and β are computed from the constants that stand in the graph. HardSwish(x) (since
opset 14) is x·HardSigmoid(x) with α = ⅙ and β = ½ (Howard et al. 2019). onnxruntime takes HardSwish
apart into these two nodes, so that before opset 14 the pair serves as well.

Chains of Relu, Min and Max are made one Clip by `clamps`.
"""

from __future__ import annotations

import math
from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, product, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.simple.clamps import read_clamp

x, y = var("x"), var("y")
times, over = const("times", default=1), const("over", default=1)
_CLIP = op.Clip(x, ..., bind="clip")


@rule(op.Div(_CLIP, over) | op.Mul(_CLIP, times) | _CLIP, since=7)
def fuse_hard_sigmoid(new: Builder, clip: ir.Node, x: ir.Value, times: Any, over: Any) -> Any:
    """clip(a·x + b, 0, h)/h becomes HardSigmoid(x)."""
    return _hard_sigmoid(new, clip, x, times, over)


@rule(
    op.Div(op.Mul(y, _CLIP), over) | product(y, _CLIP, times) | op.Mul(op.Div(y, over), _CLIP),
    since=7,
)
def fuse_product_with_hard_sigmoid(
    new: Builder, clip: ir.Node, x: ir.Value, y: ir.Value, times: Any, over: Any
) -> Any:
    """y·clip(a·x + b, 0, h)/h, in whatever order, becomes y·HardSigmoid(x)."""
    return new.Mul(y, _hard_sigmoid(new, clip, x, times, over))


@rule(op.Mul(x, op.HardSigmoid(x, bind="gate")), since=14)
def fuse_hard_swish(new: Builder, x: ir.Value, gate: ir.Node) -> Any:
    """x·HardSigmoid(x), with a slope of one sixth, becomes HardSwish(x)."""
    alpha, beta = new.attribute(gate, "alpha"), new.attribute(gate, "beta")
    if not (_equal(x, alpha, 1 / 6) and _equal(x, beta, 0.5)):
        new.refuse(f"HardSigmoid has alpha {alpha:.6g} and beta {beta:.6g}")
    if not facts.is_single_or_half(x):
        new.refuse(f"'{x.name}' is not known to be float32 or float16")
    return new.HardSwish(x)


def _hard_sigmoid(new: Builder, clip: ir.Node, line: ir.Value, times: Any, over: Any) -> Any:
    """Make HardSigmoid of a Clip and the factors that follow it, or refuse."""
    x, slope, offset = _line(line)
    if x is line or (slope == 1 and clip is new.root):
        new.refuse("a Clip alone is no HardSigmoid")
    if not facts.is_single_or_half(x):
        new.refuse(f"'{line.name}' is not known to be float32 or float16")
    rank = facts.rank(x) or 0
    if times.size != 1 or over.size != 1 or times.ndim > rank or over.ndim > rank:
        new.refuse("the factor is not one number")
    factor = float(times.item()) / float(over.item()) if over.item() else math.nan
    found = read_clamp(clip, new.opset)
    if found is None or found[0].lo != 0 or not _equal(x, found[0].hi * factor, 1):
        new.refuse("the Clip does not end between 0 and 1")
    return new.HardSigmoid(x, alpha=slope * factor, beta=offset * factor)


def _line(value: ir.Value) -> tuple[ir.Value, float, float]:
    """Return x, a and b where a value is a·x + b; the value itself, 1 and 0 where it is not."""
    offset, slope = 0.0, 1.0
    if (added := _with_number(value, "Add", "Sub")) is not None:
        value, number, op_type = added
        offset = number if op_type == "Add" else -number
    if (scaled := _with_number(value, "Mul", "Div")) is not None:
        value, number, op_type = scaled
        slope = number if op_type == "Mul" else 1 / number
    return value, slope, offset


def _with_number(value: ir.Value, *op_types: str) -> tuple[ir.Value, float, str] | None:
    """Return x, c and the operator where a value is x∘c for one number c other than zero."""
    node = value.producer()
    if node is None or node.domain or node.op_type not in op_types:
        return None
    first, second = node.inputs
    if node.op_type in ("Add", "Mul") and facts.is_constant(first):
        first, second = second, first
    number = facts.scalar(second)
    if first is None or not number or not dims.broadcast_keeps(first, facts.shape(second)):
        return None
    return first, float(number), node.op_type


def _equal(x: ir.Value, number: float, wanted: float) -> bool:
    """Compare numbers with what the constants of a graph of the type of x can express."""
    tolerance = 1e-3 if facts.dtype(x) == ir.DataType.FLOAT16 else 1e-6
    return math.isclose(number, wanted, rel_tol=tolerance)
