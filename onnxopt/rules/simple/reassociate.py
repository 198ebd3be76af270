"""Constants that follow each other become one; the order of the arithmetic is ours to choose.

A multiplicative step is y = k·xᵖ with p = 1 (x·c, x/c) or -1 (c/x): two in a row are
k₂·(k₁·xᵖ)^q = k₂·k₁^q·x^pq. An additive step is y = s·x + k with s = 1 or -1. Three steps that
mix both, k₃(k₂(k₁x)), are k·x + t: two. Constants are combined in double precision.

Adding a large number and subtracting it again rounds x, which some exporters do on purpose: such a
pair stays. Integers wrap around, and still add and multiply in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules import idioms
from onnxopt.rules.linear.formula import faithful, reciprocal

_SMALL = 1024
"""Constants of up to so many elements may be combined into a larger one."""

x, c1, c2, c3 = var("x"), const("c1"), const("c2"), const("c3")


def _scaled(given: Pattern, c: Pattern, bind: str) -> Pattern:
    return op.Mul(given, c, bind=bind) | op.Div(given, c, bind=bind)


def _scales(given: Pattern, c: Pattern, bind: str) -> Pattern:
    return _scaled(given, c, bind) | op.Div(c, given, bind=bind)


def _shifts(given: Pattern, c: Pattern, bind: str) -> Pattern:
    return op.Add(given, c, bind=bind) | op.Sub(given, c, bind=bind) | op.Sub(c, given, bind=bind)


def _affine(given: Pattern, c: Pattern, bind: str) -> Pattern:
    return _scaled(given, c, bind) | _shifts(given, c, bind)


@rule(_scales(_scales(x, c1, "inner"), c2, "outer"), since=7)
def merge_scales(
    new: Builder, x: ir.Value, inner: ir.Node, outer: ir.Node, c1: Any, c2: Any
) -> Any:
    """(x·a)·b, (x/a)·b, (a/x)/b, a/(x·b) and their like become x·k or k/x."""
    if idioms.ends_activation(inner):
        new.refuse("the inner constant belongs to an activation")
    if not facts.is_float(outer.outputs[0]):
        if inner.op_type != "Mul" or outer.op_type != "Mul":
            new.refuse("integers do not divide exactly")
        with np.errstate(over="ignore"):
            return new.Mul(x, _constant(new, np.multiply(c1, c2), c1, c2))
    inverse, k1 = _power(inner, c1)
    inverted, k2 = _power(outer, c2)
    with np.errstate(all="ignore"):
        k = _constant(new, k2 * (reciprocal(k1) if inverted else k1), c1, c2)
    return new.Div(k, x) if inverse != inverted else new.Mul(x, k)


@rule(_shifts(_shifts(x, c1, "inner"), c2, "outer"), since=7)
def merge_shifts(
    new: Builder, x: ir.Value, inner: ir.Node, outer: ir.Node, c1: Any, c2: Any
) -> Any:
    """(x + a) + b, (x - a) + b, (a - x) - b, a - (x + b) and their like become x + k or k - x."""
    if idioms.starts_hard_sigmoid(outer):
        new.refuse("the outer constant belongs to an activation")
    inverse, k1 = _shift(inner, c1)
    inverted, k2 = _shift(outer, c2)
    with np.errstate(all="ignore"):
        k = k2 - k1 if inverted else k1 + k2
    _check_cancellation(new, k, k1, k2)
    held = _constant(new, k, c1, c2)
    return new.Sub(held, x) if inverse != inverted else new.Add(x, held)


@rule(_affine(_affine(_affine(x, c1, "first"), c2, "second"), c3, "third"), since=7)
def merge_affine(
    new: Builder,
    x: ir.Value,
    first: ir.Node,
    second: ir.Node,
    third: ir.Node,
    c1: Any,
    c2: Any,
    c3: Any,
) -> Any:
    """(x·a + b)·c and (x + a)·b + c become x·k + t, two nodes instead of three."""
    nodes = (first, second, third)
    if not facts.is_float(third.outputs[0]):
        new.refuse("the numbers are not known to be floating-point")
    if len({node.op_type in ("Mul", "Div") for node in nodes}) == 1:
        return None
    if any(map(idioms.ends_activation, nodes)) or idioms.starts_hard_sigmoid(third):
        new.refuse("a constant belongs to an activation")
    scale, shift = np.float64(1), np.float64(0)
    for node, c in zip(nodes, (c1, c2, c3), strict=True):
        with np.errstate(all="ignore"):
            if node.op_type in ("Mul", "Div"):
                factor = _power(node, c)[1]
                scale, shift = scale * factor, shift * factor
            else:
                inverted, more = _shift(node, c)
                scale, carried = (-scale, -shift) if inverted else (scale, shift)
                shift = carried + more
                _check_cancellation(new, shift, carried, more)
    product = new.Mul(x, _constant(new, scale, c1, c2, c3))
    if facts.shape(x) == facts.shape(third.outputs[0]):
        product.shape = x.shape
    return new.Add(product, _constant(new, shift, c1, c2, c3))


def _power(node: ir.Node, c: Any) -> tuple[bool, Any]:
    """Return whether a multiplicative step inverts x, and its factor."""
    if node.op_type == "Mul":
        return False, c.astype(np.float64)
    if facts.is_constant(node.inputs[0]):
        return True, c.astype(np.float64)
    return False, reciprocal(c.astype(np.float64))


def _shift(node: ir.Node, c: Any) -> tuple[bool, Any]:
    """Return whether an additive step negates x, and its summand."""
    wide = c.astype(np.float64) if np.issubdtype(c.dtype, np.floating) else c
    if node.op_type == "Add":
        return False, wide
    return (True, wide) if facts.is_constant(node.inputs[0]) else (False, np.negative(wide))


def _check_cancellation(new: Builder, result: Any, *summands: Any) -> None:
    """Refuse where numbers much larger than their sum round what stands beside them."""
    kind = facts.dtype(new.root.outputs[0])
    if kind is None or not kind.is_floating_point():
        return
    largest = np.maximum(*map(np.abs, summands))
    harmless = float(ir.DataType(kind).eps) ** -0.5
    if np.any((largest > harmless) & (np.abs(result) < largest / 2)):
        new.refuse("the constants are there to round")


def _constant(new: Builder, array: Any, *given: Any) -> ir.Value:
    kind = facts.dtype(new.root.outputs[0])
    if kind is None:
        new.refuse("the element type is not known")
    made = np.asarray(array)
    if made.size > max(_SMALL, *(one.size for one in given)):
        new.refuse("the constants combine to a larger one")
    return faithful(new, made, kind) if kind.is_floating_point() else new.constant(made, kind)
