"""Channels between two linear layers that need not be computed: others, or a number, stand in.

A passage (see `passage`) computes each channel y[j] by itself and hands it to the next layer,
z = Σⱼ V[j]·y[j] + c. Where y[j] is a constant k, V[j]·k goes into c; where y[j] is y[i], V[j] goes
into V[i]; and nobody reads channel j any more: its filter, its bias, and what the steps in between
have for it, go. y[j] is constant where the filter is zero (BatchNormalization with γ = 0, folded),
or where what follows cuts it off for every input (see `bounds`); it is y[i] where filters, biases
and all parameters in between are the same. Zeros that the next layer pads are zeros: there only
k = 0 can go.

A width that is a multiple of 16, or else of 8, remains one: onnxruntime convolves blocks of 16
channels where there is AVX-512, of 8 elsewhere, and falls back to a slower kernel where a width is
none of whole blocks (a depthwise net of width 88 took 1.7 times as long as one of 96). Channels
that nobody needs fill the last block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.formula import (
    bias_of,
    layer_of,
    rebuilt,
    response,
    takes_transposed,
    taps,
)
from onnxopt.rules.linear.pad import is_unpadded
from onnxopt.rules.unread.bounds import bounds_at_end
from onnxopt.rules.unread.passage import Passage, end_axis, held_as_single, passage_to, rebuilt_with

_BLOCKS = (16, 8)

x, w, b = var("x"), var("w"), const("b", default=0)

READER = (
    op.Conv(x, w, b, bind="reader", group=1)
    | op.Gemm(x, w, b, bind="reader")
    | (op.MatMul(x, w, bind="reader") + b)
    | op.MatMul(x, w, bind="reader")
)


@rule(READER, since=7)
def drop_constant_channels(new: Builder, reader: ir.Node, b: Any) -> Any:
    """Channels that are constant go, what they add goes into the bias of the layer behind."""
    passage = _passage(new, reader)
    if passage is None:
        return None
    found = bounds_at_end(new, passage)
    constant, number = found.constant, found.low
    if not is_unpadded(new, reader):
        constant = constant & (number == 0)
    gone = _going(np.flatnonzero(constant), passage.channels)
    return _without(new, passage, reader, b, gone, number=np.where(constant, number, 0.0))


@rule(READER, since=7)
def merge_equal_channels(new: Builder, reader: ir.Node, b: Any) -> Any:
    """Channels that are computed alike become one, their columns in the next layer added up."""
    passage = _passage(new, reader)
    if passage is None:
        return None
    twin = _twins(passage)
    gone = _going(np.flatnonzero(twin != np.arange(passage.channels)), passage.channels)
    return _without(new, passage, reader, b, gone, twin=twin)


def _passage(new: Builder, reader: ir.Node) -> Passage | None:
    if not facts.is_constant(reader.inputs[1]):
        return None
    passage = passage_to(new, reader)
    if passage is None or passage.channels < 2:
        return None
    layer = layer_of(new, reader)
    if layer.inputs != passage.channels or layer.axis != end_axis(passage):
        return None
    if reader.op_type == "MatMul" and facts.rank(reader.inputs[1]) != 2:
        return None
    return None if takes_transposed(new, layer) else passage


def _going(free: Any, channels: int) -> Any:
    """Return which of the channels that may go do: a width of whole blocks remains one."""
    left = max(channels - len(free), 1)
    block = next((size for size in _BLOCKS if channels % size == 0), 1)
    left = -(-left // block) * block
    return free[: channels - left]


def _twins(passage: Passage) -> Any:
    """Return for each channel the first one that is computed alike."""
    count = passage.channels
    parts = [
        np.moveaxis(np.asarray(facts.constant(step.node.inputs[index])), axis, 0)
        for step in passage.steps
        for index, axis in step.parts.items()
    ]
    rows = [np.moveaxis(passage.weight, 1, 0), passage.bias, *parts]
    twin = np.arange(count)
    # One number of each filter tells most channels apart.
    first = [row[(slice(None), *[0] * (row.ndim - 1))].astype(np.float64) for row in rows]
    _, which, sizes = np.unique(np.stack(first, 1), axis=0, return_inverse=True, return_counts=True)
    seen: dict[bytes, int] = {}
    for channel in np.flatnonzero(sizes[which.reshape(-1)] > 1):
        content = b"".join((row[channel] + 0).tobytes() for row in rows)
        twin[channel] = seen.setdefault(content, int(channel))
    return twin


def _without(
    new: Builder,
    passage: Passage,
    reader: ir.Node,
    bias: Any,
    gone: Any,
    *,
    number: Any = None,
    twin: Any = None,
) -> Any:
    """Make passage and reader anew without channels for which numbers or twins stand in."""
    if not len(gone):
        return None
    for node in (passage.first.node, reader):
        if not facts.is_private(node.inputs[1]):
            new.refuse("a weight is read by other nodes too")
    layer = layer_of(new, reader)
    weight = np.array(held_as_single(reader.inputs[1]), order="C")
    view = taps(layer, weight)[0]
    added = bias_of(new, layer, bias)
    if twin is not None:
        total = view.astype(np.float64)
        np.add.at(total, twin[gone], total[gone])
        view[...] = total
    elif number[gone].any():
        if reader is new.root and reader.op_type == "MatMul" and _meets_bias(reader):
            return None  # that Add is a root itself
        shift = np.zeros(passage.channels)
        shift[gone] = number[gone]
        more = response(new, layer, weight, shift)
        added = more if added is None else added + more
    kept = np.setdiff1d(np.arange(passage.channels), gone)
    inner = 1 if reader.op_type == "Conv" or layer.transposed else 0
    return rebuilt(new, layer, rebuilt_with(new, passage, kept), weight.take(kept, inner), added)


def _meets_bias(product: ir.Node) -> bool:
    """Tell whether a constant is added to what a MatMul computes."""
    readers = [use.node for use in facts.uses(product.outputs[0])]
    return (
        len(readers) == 1
        and readers[0].op_type == "Add"
        and any(facts.is_constant(value) for value in readers[0].inputs)
    )
