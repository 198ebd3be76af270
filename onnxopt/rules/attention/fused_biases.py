"""Biases of a fused attention that softmax makes redundant: see `biases` for the arithmetic.

A bias of the keys adds the same to all scores of a query. A bias of the values passes the
attention, whose weights add up to 1, and goes into the bias of the layer behind.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.formula import bias_of, faithful, layer_of, response

q, k, v, b = var("q"), var("k"), var("v"), const("b")
w_out, b_out = const("w_out"), const("b_out")
_contrib = op.of("com.microsoft")


@rule(
    _contrib.MultiHeadAttention(q, op.Add(k, b), v, ..., bind="attention"), targets=("cpu", "cuda")
)
def drop_key_bias_of_fused(new: Builder, attention: ir.Node, k: ir.Value, b: Any) -> Any:
    """MultiHeadAttention(q, k + b, v) loses b, which shifts all scores of a query alike."""
    _check_row(new, k, b)
    return _remade(new, attention, 1, k)


@rule(
    op.MatMul(
        _contrib.MultiHeadAttention(q, k, op.Add(v, b), ..., bind="attention"), w_out, bind="out"
    )
    + b_out,
    targets=("cpu", "cuda"),
)
def fold_value_bias_of_fused(
    new: Builder, attention: ir.Node, v: ir.Value, b: Any, out: ir.Node, w_out: Any, b_out: Any
) -> Any:
    """MultiHeadAttention(q, k, v + b)·W + c becomes MultiHeadAttention(q, k, v)·W + (c + b·W)."""
    _check_row(new, v, b)
    layer = layer_of(new, out)
    behind = bias_of(new, layer, b_out)
    bias = response(new, layer, w_out, b.reshape(-1)) + (0 if behind is None else behind)
    made = new.MatMul(_remade(new, attention, 2, v), out.inputs[1])
    made.shape = out.outputs[0].shape
    return new.Add(made, faithful(new, bias, layer.dtype))


def _check_row(new: Builder, packed: ir.Value, b: Any) -> None:
    """Refuse a summand that is no row of finite numbers, the same for all tokens."""
    shape = facts.shape(packed)
    if shape is None or len(shape) != 3 or b.ndim > 3 or not b.shape:
        new.refuse("the operand is not known to be packed")
    if b.size != b.shape[-1] or b.shape[-1] != shape[-1] or not np.isfinite(b).all():
        new.refuse("the summand is no row of finite numbers")


def _remade(new: Builder, attention: ir.Node, place: int, operand: ir.Value) -> ir.Value:
    inputs = list(attention.inputs)
    inputs[place] = operand
    made: ir.Value = new.of("com.microsoft").MultiHeadAttention(*inputs, **attention.attributes)
    made.shape = attention.outputs[0].shape
    return made
