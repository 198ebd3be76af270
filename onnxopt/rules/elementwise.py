"""Operators that work on each element by itself: what moves elements may be moved past them."""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder

UNARY = frozenset({
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil",
    "Celu", "Clip", "Cos", "Cosh", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid",
    "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not",
    "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Tan", "Tanh", "ThresholdedRelu",
})  # fmt: skip
"""Operators of one tensor; further inputs (the bounds of Clip) are scalars."""

BINARY = frozenset({
    "Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater",
    "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu",
    "Pow", "Sub", "Sum", "Where", "Xor",
})  # fmt: skip
"""Operators of several tensors, which they broadcast."""


def remade(
    new: Builder,
    node: ir.Node,
    inputs: list[ir.Value | None],
    shape: ir.Shape | None,
    **changed: Any,
) -> ir.Value:
    """Make a node like `node` on other inputs; its output has the same type and the given shape."""
    made: ir.Value = new.node(node.op_type, *inputs, **{**node.attributes, **changed})
    made.type = node.outputs[0].type
    made.shape = shape
    return made


def is_unary(node: ir.Node) -> bool:
    """Tell whether a node maps each element of its first input to one of its only output."""
    return node.op_type in UNARY and carrier(node) == 0


def carrier(node: ir.Node, least_rank: int = 0) -> int | None:
    """Return the index of the only input of an elementwise node that is no scalar, or None.

    A constant of one element counts as scalar up to rank `least_rank`: it does not raise the rank
    of an operand of that rank.
    """
    if node.domain or len(node.outputs) != 1:
        return None
    if node.op_type in UNARY:
        others = node.inputs[1:]
        return 0 if all(other is None or facts.rank(other) == 0 for other in others) else None
    if node.op_type not in BINARY:
        return None
    large = [
        index
        for index, value in enumerate(node.inputs)
        if facts.rank(value) != 0
        and (facts.scalar(value) is None or (facts.rank(value) or 0) > least_rank)
    ]
    return large[0] if len(large) == 1 else None
