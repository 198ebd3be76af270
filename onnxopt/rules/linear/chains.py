"""Two linear layers with nothing in between are one, where that one is cheaper.

W₂·(W₁·x + b₁) + b₂ = (W₂·W₁)·x + (W₂·b₁ + b₂). Of two convolutions one has a kernel of 1 × 1, so
that the product has the kernel of the other. Zeros that the second pads stand beside W₁·x + b₁:
only without b₁ are they as good in front of the first.

Each weight is multiplied once for each position: cheaper is what has fewer of them. A bottleneck
of few channels stays.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.formula import Layer, bias_of, faithful, layer_of, rebuilt, response, taps
from onnxopt.rules.linear.pad import is_unpadded

_MOST_WORK = 1 << 32
"""Multiplications that folding may take: a few seconds."""

x, w1, w2 = var("x"), const("w1"), const("w2")
b1, b2 = const("b1", default=0), const("b2", default=0)


def _dense(given: Pattern, w: Pattern, b: Pattern, bind: str) -> Pattern:
    plain = op.MatMul(given, w, bind=bind)
    return op.Gemm(given, w, b, bind=bind) | (plain + b) | plain


@rule(op.Conv(op.Conv(x, w1, b1, bind="first", group=1), w2, b2, bind="second", group=1), since=7)
def merge_convolutions(
    new: Builder,
    first: ir.Node,
    second: ir.Node,
    x: ir.Value,
    w1: Any,
    w2: Any,
    b1: Any,
    b2: Any,
) -> Any:
    """Conv(Conv(x)), one of them 1 × 1, becomes one Conv where that takes fewer products."""
    if w1.ndim != w2.ndim or w1.shape[0] != w2.shape[1]:
        return None
    one, two = layer_of(new, first), layer_of(new, second)
    if _is_pointwise(new, second, w2):
        kept, kernel = one, w1.shape[2:]
    elif _is_pointwise(new, first, w1):
        kept, kernel = two, w2.shape[2:]
        if b1.any() and not is_unpadded(new, second):
            new.refuse("zeros are padded beside the bias of the first")
    else:
        return None
    _check_cost(new, first, second, two.outputs * one.inputs * math.prod(kernel))
    if kept is one:
        weight = np.tensordot(_wide(w2.reshape(w2.shape[:2])), _wide(w1), 1)
    else:
        weight = np.tensordot(_wide(w2), _wide(w1.reshape(w1.shape[:2])), ([1], [0]))
        weight = np.moveaxis(weight, -1, 1)
    made = rebuilt(new, kept, x, weight, _bias(new, one, two, w2, b1, b2))
    made.shape = second.outputs[0].shape
    return made


@rule(_dense(_dense(x, w1, b1, "first"), w2, b2, "second"), since=7)
def merge_matrices(
    new: Builder,
    first: ir.Node,
    second: ir.Node,
    x: ir.Value,
    w1: Any,
    w2: Any,
    b1: Any,
    b2: Any,
) -> Any:
    """Gemm(Gemm(x)), MatMul(MatMul(x) + b) and their like become one where that is cheaper."""
    one, two = layer_of(new, first), layer_of(new, second)
    if w1.ndim != 2 or w2.ndim != 2 or one.outputs != two.inputs:
        return None
    if second.op_type == "Gemm" and new.attribute(second, "transA"):
        return None
    _check_cost(new, first, second, one.inputs * two.outputs)
    if one.inputs * one.outputs * two.outputs > _MOST_WORK:
        new.refuse("multiplying the weights would take long")
    weight = faithful(new, _matrix(new, one, w1) @ _matrix(new, two, w2), two.dtype)
    bias = _bias(new, one, two, w2, b1, b2)
    if bias is None and "Gemm" in (first.op_type, second.op_type) and new.opset < 11:
        bias = np.zeros(two.outputs)
    held = [] if bias is None else [faithful(new, bias, two.dtype)]
    if first.op_type == "Gemm":
        return new.Gemm(x, weight, *held, transA=new.attribute(first, "transA"))
    if second.op_type == "Gemm":
        return new.Gemm(x, weight, *held)
    product = new.MatMul(x, weight)
    product.shape = second.outputs[0].shape
    return new.Add(product, *held) if held else product


def _matrix(new: Builder, layer: Layer, weight: Any) -> Any:
    """Return what a Gemm or MatMul multiplies with, in double precision."""
    matrix = _wide(taps(layer, weight)[0, :, :, 0])
    return matrix * new.attribute(layer.node, "alpha") if layer.node.op_type == "Gemm" else matrix


def _is_pointwise(new: Builder, conv: ir.Node, weight: Any) -> bool:
    """Tell whether a convolution maps each position by itself."""
    strides = new.attribute(conv, "strides") or ()
    return math.prod((*weight.shape[2:], *strides)) == 1 and is_unpadded(new, conv)


def _check_cost(new: Builder, first: ir.Node, second: ir.Node, merged: int) -> None:
    """Refuse where one layer of so many weights is larger, and so dearer, than the two."""
    held = (first.inputs[1], second.inputs[1])
    if merged > sum(math.prod(facts.static_shape(value) or ()) for value in held):
        new.refuse("one layer would be dearer than the two")
    if not all(map(facts.is_private, held)):
        new.refuse("a weight is read by other nodes too")


def _bias(new: Builder, one: Layer, two: Layer, w2: Any, b1: Any, b2: Any) -> Any:
    inner, outer = bias_of(new, one, b1), bias_of(new, two, b2)
    if inner is None:
        return outer
    carried = response(new, two, w2, inner)
    return carried if outer is None else carried + outer


def _wide(array: Any) -> Any:
    return array.astype(np.float64)
