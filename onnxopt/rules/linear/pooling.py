"""Averages over positions behind a convolution of 1 × 1: taken first, they leave it fewer.

A convolution of 1 × 1 maps each position by itself, and linearly: Σ aᵢ·(W·xᵢ + b) is W·Σ aᵢ·xᵢ + b
where the weights aᵢ of a mean add up to 1. Those of AveragePool do, unless it counts zeros that it
pads. (The layers between the blocks of DenseNet are such a pair.)
"""

from __future__ import annotations

import math
from typing import Any

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.elementwise import remade
from onnxopt.rules.linear.formula import bias_of, layer_of, rebuilt
from onnxopt.rules.linear.pad import is_unpadded, own_pads

_AVERAGED_ELEMENT = 32
"""Products of a convolution that take about as long as averaging one element more."""

x, w, b = var("x"), const("w"), const("b", default=0)
CONV = op.Conv(x, w, b, bind="conv")


@rule(
    op.AveragePool(CONV, bind="mean")
    | op.GlobalAveragePool(CONV, bind="mean")
    | op.ReduceMean(CONV, ..., bind="mean"),
    since=7,
)
def average_before_convolution(
    new: Builder, mean: ir.Node, conv: ir.Node, x: ir.Value, w: Any, b: Any
) -> Any:
    """A mean over positions behind a Conv of 1 × 1 goes in front of it."""
    strides = new.attribute(conv, "strides") or ()
    if math.prod((*w.shape[2:], *strides)) != 1 or not is_unpadded(new, conv):
        return None
    known = layer_of(new, conv)
    kept = 0.0
    if mean.op_type == "AveragePool":
        kept = 1 / math.prod(new.attribute(mean, "strides") or (1,))
        if not _is_mean(new, mean):
            new.refuse("zeros are padded, and count")
    elif mean.op_type == "ReduceMean":
        over = dims.normalized_axes(facts.axes(mean, new.opset) or (), w.ndim)
        if over != tuple(range(2, w.ndim)) or not new.attribute(mean, "keepdims"):
            new.refuse("the mean is not over all positions, each of which stays one")
    spared = known.inputs // known.groups * known.outputs * (1 - kept)
    if spared <= _AVERAGED_ELEMENT * (known.inputs - known.outputs):
        new.refuse("more channels would have to be averaged than it spares")
    pooled = remade(new, mean, [x, *mean.inputs[1:]], None)
    made = rebuilt(new, known, pooled, w, bias_of(new, known, b))
    made.shape = mean.outputs[0].shape
    return made


def _is_mean(new: Builder, pool: ir.Node) -> bool:
    """Tell whether the weights of each element that a pool makes add up to 1."""
    if new.attribute(pool, "ceil_mode"):
        return False
    pads = own_pads(new, pool, new.attribute(pool, "kernel_shape"))
    return not new.attribute(pool, "count_include_pad") or (pads is not None and not any(pads))
