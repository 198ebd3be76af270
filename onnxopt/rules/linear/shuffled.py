"""Convolutions of shuffled channels: the weight is shuffled instead.

A convolution sums over all channels, in whatever order: where those of its input were shuffled,
x'[j] = x[p(j)], the weight w'[p(j)] = w[j] does the same on x itself (ShuffleNet's shuffle stands
before a convolution of all channels; before one in groups it cannot be taken away).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.blocks import behind_batch
from onnxopt.rules.linear.formula import SHARED_ELEMENTS, layer_of, reweighted

x, w, bias = var("x"), const("w"), var("bias", optional=True)


CONV_OF_REARRANGED = op.Conv(
    op.Reshape(op.Transpose(op.Reshape(x, ..., bind="split"), bind="turn"), ..., bind="join"),
    w,
    bias,
    bind="conv",
    group=1,
)
"""Matches a Conv of what Reshape, Transpose and Reshape have moved, into or among the channels."""


@rule(CONV_OF_REARRANGED, since=5)
def fold_channel_shuffle_into_conv(
    new: Builder,
    split: ir.Node,
    turn: ir.Node,
    join: ir.Node,
    conv: ir.Node,
    x: ir.Value,
    w: Any,
) -> Any:
    """Conv of channels that Reshape, Transpose and Reshape shuffle becomes Conv of x."""
    shapes = [behind_batch(value) for value in (x, split.outputs[0], join.outputs[0])]
    source, parts, result = shapes
    perm = new.attribute(turn, "perm")
    if source is None or parts is None or source != result or perm is None:
        return None
    rank = len(source) + 2
    if len(perm) != rank or tuple(perm) != (0, 2, 1, *range(3, rank)):
        return None
    if parts[2:] != source[1:] or parts[0] * parts[1] != source[0] or w.shape[1] != source[0]:
        return None
    order = np.arange(source[0]).reshape(parts[:2]).T.reshape(-1)
    return _shuffled(new, conv, x, w, order)


@rule(op.Conv(op.Gather(x, const("order"), axis=1), w, bias, bind="conv", group=1))
def fold_gathered_channels_into_conv(
    new: Builder, conv: ir.Node, x: ir.Value, w: Any, order: Any
) -> Any:
    """Conv of channels that a Gather shuffles becomes Conv of x."""
    count = dims.extent(x, 1)
    if not isinstance(count, int) or order.shape != (count,) or w.shape[1] != count:
        return None
    order = np.where(order < 0, order + count, order)
    if not np.array_equal(np.sort(order), np.arange(count)):
        return None
    return _shuffled(new, conv, x, w, order)


def _shuffled(new: Builder, conv: ir.Node, x: ir.Value, w: Any, order: Any) -> Any:
    held = conv.inputs[1]
    if w.size > SHARED_ELEMENTS and not facts.is_private(held):
        new.refuse("the weight is read by other nodes too")
    weight = np.empty_like(w)
    weight[:, order] = w
    made = reweighted(new, layer_of(new, conv), x, weight)
    made.shape = conv.outputs[0].shape
    return made
