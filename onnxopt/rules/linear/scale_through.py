"""A number that scales a linear layer from afar: behind or before nodes that commute with it.

Reshape, Transpose and their like move elements, averages are linear: c·f(x) = f(c·x). A MatMul is
linear in each operand: (q·kᵀ)/√d = (q/√d)·kᵀ, so that the scale of an attention goes into the
weight and bias that make q.

ONNX Runtime recognises BERT's attention, scale included, up to operator set 12: there it stays.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rewrite.through import Through
from onnxopt.rules import idioms
from onnxopt.rules.elementwise import remade
from onnxopt.rules.linear.formula import (
    bias_of,
    layer_of,
    linear,
    rebuilt,
    reciprocal,
    reweighted,
    scaled,
    weighted,
    x,
)

_HANDS_ON = frozenset(
    {
        "AveragePool",
        "Flatten",
        "Gather",
        "GlobalAveragePool",
        "Identity",
        "ReduceMean",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)

c, source, other = const("c"), var("source"), var("other")


def _behind(given: Pattern, at_least: int = 0) -> Pattern:
    return Through(_HANDS_ON, given, "between", at_least)


def _scaled(given: Pattern) -> Pattern:
    return op.Mul(given, c, bind="scale") | op.Div(given, c, bind="scale")


@rule(
    _scaled(
        op.MatMul(_behind(linear(x)), other, bind="product")
        | op.MatMul(other, _behind(linear(x)), bind="product")
    ),
    since=13,
)
def fold_scale_of_product_into_linear(
    new: Builder,
    layer: ir.Node,
    product: ir.Node,
    scale: ir.Node,
    between: tuple[ir.Node, ...],
    other: ir.Value,
    x: ir.Value,
    w: Any,
    b: Any,
    c: Any,
) -> Any:
    """(f(W·x + b)·k)·c becomes f(c·W·x + c·b)·k, f being reshapes, transposes and the like."""
    number = _number(new, scale, c, product.outputs[0])
    made = handed_on(new, between, _scaled_layer(new, layer, x, w, b, number))
    inputs = [value if value is other else made for value in product.inputs]
    return remade(new, product, inputs, product.outputs[0].shape)


@rule(_scaled(_behind(linear(x), at_least=1)), since=13)
def fold_scale_from_afar_into_linear(
    new: Builder,
    layer: ir.Node,
    scale: ir.Node,
    between: tuple[ir.Node, ...],
    x: ir.Value,
    w: Any,
    b: Any,
    c: Any,
) -> Any:
    """f(W·x + b)·c becomes f(c·W·x + c·b), f being reshapes, transposes and the like."""
    number = _number(new, scale, c, between[0].outputs[0])
    return handed_on(new, between, _scaled_layer(new, layer, x, w, b, number))


@rule(weighted(_behind(_scaled(source), at_least=1)), since=7)
def fold_scale_from_afar_into_next_linear(
    new: Builder,
    layer: ir.Node,
    scale: ir.Node,
    between: tuple[ir.Node, ...],
    source: ir.Value,
    w: Any,
    c: Any,
) -> Any:
    """W·f(x·c) becomes (c·W)·f(x), f being reshapes, transposes and the like."""
    if idioms.ends_idiom(scale):
        new.refuse("the constant belongs to an activation or a normalisation")
    number = _number(new, scale, c, source)
    known = layer_of(new, layer)
    weight = scaled(new, known, w, inputs=number)
    return reweighted(new, known, handed_on(new, between, source), weight)


def _number(new: Builder, scale: ir.Node, c: Any, met: ir.Value | None) -> Any:
    """Return the factor, one number that leaves the rank of what it meets alone."""
    if c.size != 1 or c.ndim > (facts.rank(met) or 0):
        new.refuse("the constant is not one number")
    number = c.astype("float64").reshape(())
    return reciprocal(number) if scale.op_type == "Div" else number


def _scaled_layer(new: Builder, layer: ir.Node, x: ir.Value, w: Any, b: Any, number: Any) -> Any:
    known = layer_of(new, layer)
    bias = bias_of(new, known, b)
    weight = scaled(new, known, w, outputs=number)
    return rebuilt(new, known, x, weight, None if bias is None else bias * number)


def handed_on(new: Builder, between: tuple[ir.Node, ...], value: Any) -> Any:
    """Make the nodes in between anew, on another input."""
    for node in reversed(between):
        value = remade(new, node, [value, *node.inputs[1:]], node.outputs[0].shape)
    return value
