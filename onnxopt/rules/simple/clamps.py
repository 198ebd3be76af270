"""Relu, Clip, and Min and Max with a constant are one family: min(max(x, lo), hi).

A clamp of a clamp is a clamp. Both are monotone, so the second one maps the first one's bounds to
those of the whole: f₂(f₁(x)) = min(max(x, f₂(lo₁)), f₂(hi₁)) for lo₁ ≤ hi₁. Where lo₁ > hi₁, ONNX
gives hi₁ for every x, as if lo₁ were hi₁ too. A NaN passes through all of them in onnxruntime. An
absent bound means the largest finite number to Clip and none at all to Relu and Max: an infinite x
may stay infinite here where it came out as the largest number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")

_CLAMPS = ("Relu", "Clip", "Min", "Max")


@dataclass(frozen=True, kw_only=True)
class Clamp:
    """What is left of a value: min(max(x, lo), hi)."""

    lo: float
    hi: float

    def __call__(self, number: float) -> float:
        return min(max(number, self.lo), self.hi)

    def after(self, first: Clamp) -> Clamp:
        """Return the clamp that does what `first` and then this one do."""
        return Clamp(lo=self(min(first.lo, first.hi)), hi=self(first.hi))


def read_clamp(node: ir.Node, opset: int) -> tuple[Clamp, ir.Value] | None:
    """Return what a node does to which of its inputs, or None where that is not known now."""
    if node.domain or node.op_type not in _CLAMPS or node.inputs[0] is None:
        return None
    if node.op_type == "Relu":
        return Clamp(lo=0, hi=math.inf), node.inputs[0]
    if node.op_type == "Clip":
        found = _clip_bounds(node, opset)
        return None if found is None else (found, node.inputs[0])
    return _extreme(node)


def _clip_bounds(node: ir.Node, opset: int) -> Clamp | None:
    dtype = facts.dtype(node.inputs[0])
    if dtype is None:
        return None
    bounds: list[float] = []
    for index, (name, absent) in enumerate((("min", -math.inf), ("max", math.inf)), 1):
        if opset < 11:
            found = facts.attribute(node, name, opset)
        elif len(node.inputs) <= index or node.inputs[index] is None:
            found = absent
        else:
            found = facts.scalar(node.inputs[index])
        if found is None or math.isnan(found):
            return None
        bounds.append(absent if _is_limit(found, dtype) else found)
    return Clamp(lo=bounds[0], hi=bounds[1])


def _is_limit(number: float, dtype: ir.DataType) -> bool:
    """Tell whether a bound is the end of its type's range, so that it bounds nothing."""
    if not dtype.is_floating_point():
        return False
    return not float(dtype.min) < number < float(dtype.max)


def _extreme(node: ir.Node) -> tuple[Clamp, ir.Value] | None:
    """Read Min or Max with one constant of one element that does not broadcast the other."""
    if len(node.inputs) != 2:
        return None
    for value, other in (node.inputs, node.inputs[::-1]):
        bound = facts.scalar(other)
        if value is None or bound is None or math.isnan(bound):
            continue
        if not dims.broadcast_keeps(value, dims.shape(other)):
            continue
        low = node.op_type == "Max"
        return Clamp(lo=bound if low else -math.inf, hi=math.inf if low else bound), value
    return None


def write_clamp(new: Builder, x: ir.Value, clamp: Clamp) -> Any:
    """Make the one node that clamps; x itself where nothing is bounded. None: it cannot be said."""
    dtype = facts.dtype(x)
    if dtype is None:
        return None
    if clamp == Clamp(lo=-math.inf, hi=math.inf):
        return x
    if clamp == Clamp(lo=0, hi=math.inf) and dtype.is_floating_point():
        return new.Relu(x)
    if new.opset < 12 and (dtype == ir.DataType.DOUBLE or not dtype.is_floating_point()):
        return None  # onnxruntime has no Clip of these types before operator set 12
    lo, hi = (None if math.isinf(bound) else bound for bound in (clamp.lo, clamp.hi))
    if new.opset < 11:
        low, high = (None if bound is None else float(bound) for bound in (lo, hi))
        return new.Clip(x, min=low, max=high)
    kind = dtype.numpy()
    bounds = [None if bound is None else new.constant(np.array(bound, kind)) for bound in (lo, hi)]
    return new.Clip(x, *(bounds if hi is not None else bounds[:1]))


@rule(
    op.Relu(bind="outer") | op.Clip(bind="outer") | op.Min(bind="outer") | op.Max(bind="outer"),
    since=7,
)
def merge_clamps(new: Builder, outer: ir.Node) -> Any:
    """Relu, Clip, and Min and Max with a constant, one after the other, become one Relu or Clip."""
    second = read_clamp(outer, new.opset)
    if second is None:
        return None
    inner = second[1].producer()
    if inner is None or inner.graph is not outer.graph or not facts.is_private(second[1]):
        return None
    first = read_clamp(inner, new.opset)
    return None if first is None else write_clamp(new, first[1], second[0].after(first[0]))


@rule(op.Max(bind="node") | op.Clip(bind="node"), since=7)
def clamp_to_relu(new: Builder, node: ir.Node) -> Any:
    """Max(x, 0) and Clip from 0 without an upper bound become Relu(x)."""
    found = read_clamp(node, new.opset)
    if found is None or found[0] != Clamp(lo=0, hi=math.inf):
        return None
    if not facts.is_float(found[1]):
        return None
    return new.Relu(found[1])


@rule(op.Clip(bind="node") | op.Max(bind="node") | op.Min(bind="node"), since=8)
def drop_unbounded_clamp(new: Builder, node: ir.Node) -> Any:
    """Clip without bounds, Max(x, -∞) and Min(x, ∞) become x."""
    found = read_clamp(node, new.opset)
    return found[1] if found is not None and found[0] == Clamp(lo=-math.inf, hi=math.inf) else None
