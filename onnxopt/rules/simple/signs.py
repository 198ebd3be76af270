"""Neg, Not, Abs and other operators that undo or repeat themselves."""

from __future__ import annotations

from typing import Any

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x, y = var("x"), var("y")


@rule(op.Neg(op.Neg(x, shared=True)) | op.Not(op.Not(x, shared=True)))
def cancel_double_negation(new: Builder, x: ir.Value) -> Any:
    """-(-x) and ¬¬x become x."""
    return x


@rule(
    op.Relu(op.Relu(x, shared=True), bind="node")
    | op.Relu(op.Abs(x, shared=True), bind="node")
    | op.Abs(op.Abs(x, shared=True), bind="node")
    | op.Abs(op.Relu(x, shared=True), bind="node")
    | op.Floor(op.Floor(x, shared=True), bind="node")
    | op.Ceil(op.Ceil(x, shared=True), bind="node")
    | op.Round(op.Round(x, shared=True), bind="node")
    | op.Sign(op.Sign(x, shared=True), bind="node")
)
def drop_repeated_operator(new: Builder, node: ir.Node) -> Any:
    """Relu, Abs, Floor, Ceil, Round and Sign of what they would not change become it."""
    return node.inputs[0]


@rule(op.Abs(op.Neg(x)))
def drop_negation_in_abs(new: Builder, x: ir.Value) -> Any:
    """|-x| becomes |x|."""
    return new.Abs(x)


@rule(op.Add(x, op.Neg(y)), since=7)
def fold_negation_into_subtraction(new: Builder, x: ir.Value, y: ir.Value) -> Any:
    """The sum x + (-y) becomes x - y."""
    return new.Sub(x, y)


@rule(op.Sub(x, op.Neg(y)), since=7)
def fold_negation_into_addition(new: Builder, x: ir.Value, y: ir.Value) -> Any:
    """The difference x - (-y) becomes x + y."""
    return new.Add(x, y)
