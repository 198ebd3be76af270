"""Constants behind a linear layer go into its weight and bias.

(W·x + b)·s = (s·W)·x + s·b, and (W·x + b) + t = W·x + (b + t), for s and t of one number or one
number per output channel.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules import idioms
from onnxopt.rules.linear.formula import (
    bias_of,
    biased,
    layer_of,
    linear,
    per_output,
    rebuilt,
    reciprocal,
    scaled,
)

x, c = var("x"), const("c")


@rule(op.Mul(linear(x), c) | op.Div(linear(x), c), since=7)
def fold_scale_into_linear(
    new: Builder, layer: ir.Node, x: ir.Value, w: Any, b: Any, c: Any
) -> Any:
    """(W·x + b)·c and (W·x + b)/c become one layer; c is a number or one per output channel."""
    known = layer_of(new, layer)
    scale = per_output(new, known, c)
    if new.root.op_type == "Div":
        scale = reciprocal(scale)
    bias = bias_of(new, known, b)
    return rebuilt(
        new,
        known,
        x,
        scaled(new, known, w, outputs=scale),
        None if bias is None else bias * scale,
    )


@rule(op.Neg(linear(x)), since=7)
def fold_negation_into_linear(new: Builder, layer: ir.Node, x: ir.Value, w: Any, b: Any) -> Any:
    """-(W·x + b) becomes one layer."""
    known = layer_of(new, layer)
    bias = bias_of(new, known, b)
    negated = scaled(new, known, w, outputs=-1.0)
    return rebuilt(new, known, x, negated, None if bias is None else -bias)


@rule(op.Add(biased(x), c) | op.Sub(biased(x), c), since=7)
def fold_shift_into_linear(new: Builder, layer: ir.Node, x: ir.Value, b: Any, c: Any) -> Any:
    """(W·x + b) + c and (W·x + b) - c become one layer; c is a number or one per output channel."""
    if idioms.starts_hard_sigmoid(new.root):
        new.refuse("the constant is part of a HardSigmoid")
    known = layer_of(new, layer)
    shift = per_output(new, known, c)
    if new.root.op_type == "Sub":
        shift = -shift
    bias = bias_of(new, known, b)
    return rebuilt(new, known, x, layer.inputs[1], shift if bias is None else bias + shift)


@rule(op.Sub(c, biased(x)), since=7)
def fold_subtraction_into_linear(
    new: Builder, layer: ir.Node, x: ir.Value, w: Any, b: Any, c: Any
) -> Any:
    """The difference c - (W·x + b) becomes one layer."""
    known = layer_of(new, layer)
    shift = per_output(new, known, c)
    bias = bias_of(new, known, b)
    negated = scaled(new, known, w, outputs=-1.0)
    return rebuilt(new, known, x, negated, shift if bias is None else shift - bias)
