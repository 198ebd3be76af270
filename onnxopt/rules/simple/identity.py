"""Nodes that hand on what they are given, whatever its shape.

x + 0 is not quite x: -0 + 0 is +0. The sign of a zero is not kept by this file.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")

_NEUTRAL = {"Mul": 1, "Div": 1, "Pow": 1, "Add": 0, "Sub": 0, "And": 1, "Or": 0, "Xor": 0}
"""By operator: the constant that changes nothing."""


@rule(op.Identity(x))
def drop_identity(new: Builder, x: ir.Value) -> Any:
    """Identity(x) becomes x, unless it tells a graph's output from an input or another output."""
    return x


@rule(op.Dropout(bind="node"), since=7)
def drop_dropout(new: Builder, node: ir.Node) -> Any:
    """Dropout at inference becomes its input; a mask that somebody reads keeps it."""
    x = node.inputs[0]
    training = node.inputs[2] if len(node.inputs) > 2 else None
    if training is not None and facts.scalar(training) not in (False, 0):
        new.refuse("its training mode is not known to be off")
    return x


_FILLED = const("c") | op.Expand(const("c"), var("shape"), shared=True)


@rule(
    op.Mul(x, _FILLED, bind="node")
    | op.Div(x, _FILLED, bind="node")
    | op.Pow(x, _FILLED, bind="node")
    | op.Add(x, _FILLED, bind="node")
    | op.Sub(x, _FILLED, bind="node")
    | op.And(x, _FILLED, bind="node")
    | op.Or(x, _FILLED, bind="node")
    | op.Xor(x, _FILLED, bind="node"),
    since=7,
)
def drop_neutral_operand(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """x·1, x/1, x¹, x+0, x-0, x∧true, x∨false, x⊻false become x where x has the result's shape."""
    other = node.inputs[1] if node.inputs[0] is x else node.inputs[0]
    if not _is_filled(other, _NEUTRAL[node.op_type]):
        return None
    if not dims.broadcast_keeps(x, dims.shape(other)):
        new.refuse("the constant broadcasts the other operand")
    return x


@rule(
    op.Concat(bind="node")
    | op.Sum(bind="node")
    | op.Max(bind="node")
    | op.Min(bind="node")
    | op.Mean(bind="node")
    | op.Split(bind="node")
)
def drop_single_operand(new: Builder, node: ir.Node) -> Any:
    """Concat, Sum, Max, Min and Mean of one operand, and Split into one part, become it."""
    if node.op_type == "Split":
        return node.inputs[0] if len(node.outputs) == 1 else None
    return node.inputs[0] if len(node.inputs) == 1 else None


@rule(op.Where(bind="node"))
def drop_decided_where(new: Builder, node: ir.Node) -> Any:
    """Where with a constant condition, all true or all false, becomes the operand it picks."""
    condition, yes, no = node.inputs
    held = _expanded(condition)
    if held is None or not held.size or not (held.all() or not held.any()):
        return None
    picked, other = (yes, no) if held.all() else (no, yes)
    if not dims.broadcast_keeps(picked, dims.shape(condition)):
        number = facts.scalar(picked)
        expand = facts.made_by(condition, "Expand", node)
        if expand is None or number is None or facts.scalar(other) is None:
            new.refuse("the condition broadcasts the operand")
        if not dims.broadcast_keeps(condition, dims.shape(picked)):
            new.refuse("the operand has more axes than the condition")
        if not dims.broadcast_keeps(condition, dims.shape(other)):
            new.refuse("the operand has more axes than the condition")
        full = new.constant(np.full(held.shape, number), facts.dtype(picked))
        return new.Expand(full, expand.inputs[1])
    if not dims.broadcast_keeps(picked, dims.shape(other)):
        new.refuse("the operand that is not picked broadcasts the other")
    return picked


def _expanded(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """Return a constant, or the one that is expanded to a shape known at run time, or None."""
    node = None if value is None else value.producer()
    expands = node is not None and node.op_type == "Expand" and not node.domain
    return facts.constant(node.inputs[0] if node is not None and expands else value)


def _is_filled(value: ir.Value | None, number: int) -> bool:
    """Tell whether every element of a constant is `number`; stops at the first where it is not."""
    array = _expanded(value)
    if array is None or not array.size or array.flat[0] != number:
        return False
    return bool(np.all(array == number))
