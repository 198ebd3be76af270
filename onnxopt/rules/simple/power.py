"""Powers that an operator of their own computes: x², √x, 1/x.

Pow(x, 2) stays where its mean over the last axis is taken: onnxruntime recognises normalisations by
it. Pow(x, 0.5) of -∞ is +∞ and √-∞ is no number; nobody takes roots of negative numbers on purpose.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")


@rule(op.Pow(x, 2), since=7)
def square_by_multiplication(new: Builder, x: ir.Value) -> Any:
    """Pow(x, 2) becomes x·x."""
    if not facts.is_float(x):
        new.refuse(f"'{x.name}' is not known to hold floating-point numbers")
    if any(_averages(new, use.node) for use in new.root.outputs[0].uses()):
        new.refuse("it may belong to a normalisation")
    return new.Mul(x, x)


def _averages(new: Builder, node: ir.Node) -> bool:
    """Tell whether a node takes means over a last axis, or over axes that are not known."""
    if node.op_type != "ReduceMean":
        return False
    axes, rank = facts.axes(node, new.opset), facts.rank(node.inputs[0])
    return not axes or rank is None or any(axis in (-1, rank - 1) for axis in axes)


@rule(op.Pow(x, 0.5))
def power_to_root(new: Builder, x: ir.Value) -> Any:
    """Pow(x, 0.5) becomes Sqrt(x)."""
    return _unary(new, x, "Sqrt")


@rule(op.Pow(x, -1))
def power_to_reciprocal(new: Builder, x: ir.Value) -> Any:
    """Pow(x, -1) becomes Reciprocal(x)."""
    return _unary(new, x, "Reciprocal")


@rule(op.Div(1, x), since=7)
def quotient_to_reciprocal(new: Builder, x: ir.Value) -> Any:
    """1/x becomes Reciprocal(x): no other operand has to be broadcast."""
    if any(use.node.op_type in ("Mul", "Div") for use in new.root.outputs[0].uses()):
        new.refuse("it may be a factor of what reads it")
    return _unary(new, x, "Reciprocal")


def _unary(new: Builder, x: ir.Value, op_type: str) -> Any:
    if not facts.is_float(x):
        new.refuse(f"'{x.name}' is not known to hold floating-point numbers")
    return new.node(op_type, x)
