"""Constants in front of a linear layer go into its weight and bias.

W·(s·x) + b = (W·s)·x + b: padding with zeros does no harm, zero times s is zero. But
W·(x + t) + b = W·x + (b + Σ W·t) only where no zeros are padded beside x + t; there, the scale of
s·x + t can still go, as s·(x + t/s).
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules import idioms
from onnxopt.rules.linear.formula import (
    Layer,
    bias_of,
    biased,
    faithful,
    layer_of,
    per_input,
    rebuilt,
    reciprocal,
    response,
    reweighted,
    scaled,
    weight_of,
    weighted,
)
from onnxopt.rules.linear.pad import is_unpadded

source, c, t = var("source"), const("c"), const("t")

SCALED = op.Mul(source, c, bind="scale") | op.Div(source, c, bind="scale")
SHIFTED = (
    op.Add(source, c, bind="shift")
    | op.Sub(source, c, bind="shift")
    | op.Sub(c, source, bind="shift")
)
BOTH = op.Add(SCALED, t, bind="shift") | op.Sub(SCALED, t, bind="shift")


@rule(weighted(SCALED), since=7)
def fold_scale_into_next_linear(
    new: Builder, layer: ir.Node, scale: ir.Node, source: ir.Value, c: Any
) -> Any:
    """W·(x·c) and W·(x/c) become one layer; c is a number or one per input channel."""
    known = layer_of(new, layer)
    factor = _factor(new, known, scale, source, c)
    return reweighted(new, known, source, scaled(new, known, weight_of(known), inputs=factor))


@rule(weighted(op.Neg(source)), since=7)
def fold_negation_into_next_linear(new: Builder, layer: ir.Node, source: ir.Value) -> Any:
    """W·(-x) becomes one layer."""
    known = layer_of(new, layer)
    return reweighted(new, known, source, scaled(new, known, weight_of(known), inputs=-1.0))


@rule(biased(SHIFTED), since=7)
def fold_shift_into_next_linear(
    new: Builder, layer: ir.Node, shift: ir.Node, source: ir.Value, b: Any, c: Any
) -> Any:
    """W·(x ± c) + b and W·(c - x) + b become one layer where nothing is padded."""
    if idioms.ends_idiom(shift):
        new.refuse("the constant belongs to a normalisation")
    if not is_unpadded(new, layer):
        new.refuse("zeros are padded beside the sum")
    known = layer_of(new, layer)
    added = per_input(new, known, source, c)
    w = weight_of(known)
    weight: Any = layer.inputs[1]
    if shift.op_type == "Sub" and shift.inputs[0] is source:
        added = -added
    elif shift.op_type == "Sub":
        weight = scaled(new, known, w, inputs=-1.0)
    more = response(new, known, w, added)
    bias = bias_of(new, known, b)
    return rebuilt(new, known, source, weight, more if bias is None else bias + more)


@rule(weighted(BOTH), since=7)
def fold_scale_past_shift(
    new: Builder,
    layer: ir.Node,
    scale: ir.Node,
    shift: ir.Node,
    source: ir.Value,
    c: Any,
    t: Any,
) -> Any:
    """W·(x·c + t) becomes (W·c)·(x + t/c), for a shift that padding keeps out of the bias."""
    if idioms.ends_idiom(shift):
        new.refuse("the constants belong to a normalisation")
    known = layer_of(new, layer)
    factor = _factor(new, known, scale, source, c)
    added = per_input(new, known, source, t) * reciprocal(factor)
    if t.size == 1 and c.size == 1:
        added = added[:1].reshape(t.shape)
    else:
        added = added.reshape(-1, *[1] * (-known.axis - 1))
    moved = new.node(shift.op_type, source, faithful(new, added, known.dtype))
    moved.shape = shift.outputs[0].shape
    return reweighted(new, known, moved, scaled(new, known, weight_of(known), inputs=factor))


def _factor(new: Builder, layer: Layer, step: ir.Node, source: ir.Value, array: Any) -> Any:
    if idioms.ends_idiom(step):
        new.refuse("the constant belongs to an activation or a normalisation")
    scale = per_input(new, layer, source, array)
    return reciprocal(scale) if step.op_type == "Div" else scale
