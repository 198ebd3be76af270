"""Pad in front of what can pad by itself: Conv, AveragePool, MaxPool.

Conv pads with zeros. AveragePool does, and counts them or not. MaxPool pads with -∞: zeros are as
good where nothing is negative and every window sees at least one element that is not padding,
which is so where less is padded than a window is wide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

_NOT_NEGATIVE = frozenset(
    {"Relu", "Sigmoid", "HardSigmoid", "Softmax", "Softplus", "Exp", "Abs", "Sqrt"}
)
_KEEPS_SIGN = frozenset(
    {
        "AveragePool",
        "Flatten",
        "GlobalAveragePool",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
_HOPS = 4

x, bias = var("x"), var("bias", optional=True)
PADDED = op.Pad(x, ..., bind="pad", mode="constant")


@dataclass(frozen=True, kw_only=True)
class Padding:
    """What a Pad adds: before and after each spatial axis, and the number that it fills in."""

    before: tuple[int, ...]
    after: tuple[int, ...]
    value: float


@rule(op.Conv(PADDED, var("w"), bias, bind="conv"), since=2)
def fold_pad_into_conv(new: Builder, pad: ir.Node, conv: ir.Node, x: ir.Value) -> Any:
    """Conv(Pad(x)) with zeros on spatial axes becomes one Conv."""
    padding = _padding_of(new, pad, facts.rank(conv.inputs[1]))
    if padding.value != 0:
        new.refuse("Conv pads with zeros")
    own = own_pads(new, conv, kernel_of(new, conv))
    if own is None:
        new.refuse("what Conv pads by itself is not known")
    return _padding_itself(new, conv, x, padding, own)


@rule(op.AveragePool(PADDED, bind="pool"), since=7)
def fold_pad_into_average_pool(new: Builder, pad: ir.Node, pool: ir.Node, x: ir.Value) -> Any:
    """AveragePool(Pad(x)) with zeros becomes one AveragePool that counts its padding."""
    padding, own = _pool_padding(new, pad, pool)
    if padding.value != 0:
        new.refuse("AveragePool pads with zeros")
    if any(own) and not new.attribute(pool, "count_include_pad"):
        new.refuse("the pool counts the zeros of Pad, but not its own")
    return _padding_itself(new, pool, x, padding, own, count_include_pad=1)


@rule(op.MaxPool(PADDED, bind="pool"), since=2)
def fold_pad_into_max_pool(new: Builder, pad: ir.Node, pool: ir.Node, x: ir.Value) -> Any:
    """MaxPool(Pad(x)) becomes one MaxPool where x is not negative, or the padding is -∞."""
    padding, own = _pool_padding(new, pad, pool)
    kind = facts.dtype(pool.outputs[0])
    if kind is None or not kind.is_floating_point():
        new.refuse("the element type is not floating-point")
    lowest = padding.value <= kind.min
    if not lowest and not (padding.value == 0 and is_not_negative(x, new.opset)):
        new.refuse("the padding could win over an element")
    if set(new.attribute(pool, "dilations") or ()) - {1}:
        new.refuse("a dilated window could see padding only")
    return _padding_itself(new, pool, x, padding, own)


def is_not_negative(value: ir.Value | None, opset: int) -> bool:
    """Tell whether nothing in a value can be below zero, by the operators that made it."""
    for _ in range(_HOPS):
        node = None if value is None else value.producer()
        if node is None or node.domain:
            return False
        if node.op_type == "Clip":
            low = facts.attribute(node, "min", opset)
            if len(node.inputs) > 1:
                low = facts.scalar(node.inputs[1])
            return low is not None and low >= 0
        if node.op_type not in _KEEPS_SIGN:
            return node.op_type in _NOT_NEGATIVE
        value = node.inputs[0]
    return False


def is_unpadded(new: Builder, layer: ir.Node) -> bool:
    """Tell whether each output of a linear layer sees elements of its input only."""
    if layer.op_type != "Conv":
        return layer.op_type != "ConvTranspose"
    own = own_pads(new, layer, kernel_of(new, layer))
    return own is not None and not any(own)


def own_pads(new: Builder, node: ir.Node, kernel: tuple[int, ...] | None) -> list[int] | None:
    """Return what a Conv or pool pads by itself, befores then afters; None where not known.

    SAME pads so that the output has ⌈size/stride⌉ elements: with stride 1 by kernel - 1 in all,
    else by an amount that takes the size to know (ONNX, Conv, auto_pad). Nothing is said there of
    dilations, which onnxruntime refuses.
    """
    if kernel is None:
        return None
    rank = len(kernel)
    mode = new.attribute(node, "auto_pad") or "NOTSET"
    if mode in ("NOTSET", "VALID"):
        pads = new.attribute(node, "pads") if mode == "NOTSET" else None
        return [0] * 2 * rank if pads is None else list(pads)
    if set(new.attribute(node, "dilations") or ()) - {1}:
        return None
    shape = facts.shape(node.inputs[0])
    sizes = (None,) * rank if shape is None else shape[2:]
    strides = new.attribute(node, "strides") or (1,) * rank
    first, last = [], []
    for size, width, stride in zip(sizes, kernel, strides, strict=True):
        total = width - 1
        if stride != 1 and isinstance(size, int):
            total = max((-(-size // stride) - 1) * stride + width - size, 0)
        elif stride != 1 and total:
            return None
        small, large = total // 2, total - total // 2
        first.append(small if mode == "SAME_UPPER" else large)
        last.append(large if mode == "SAME_UPPER" else small)
    return first + last


def kernel_of(new: Builder, conv: ir.Node) -> tuple[int, ...] | None:
    """Return the spatial shape of a Conv's weight."""
    shape = facts.shape(conv.inputs[1])
    if shape is None:
        return None
    sizes = tuple(size for size in shape[2:] if isinstance(size, int))
    return sizes if len(sizes) == len(shape) - 2 else None


def _padding_of(new: Builder, pad: ir.Node, rank: int | None) -> Padding:
    """Read a Pad of any operator set, or refuse: only spatial axes, and nothing cut off."""
    inputs = [*pad.inputs[1:], None, None, None]
    if new.opset < 11:
        amounts, value = new.attribute(pad, "pads"), new.attribute(pad, "value")
    else:
        amounts = facts.integers(inputs[0])
        value = 0 if inputs[1] is None else facts.scalar(inputs[1])
    if not amounts or value is None:
        new.refuse("what Pad adds is computed")
    count = len(amounts) // 2
    axes = tuple(range(count)) if inputs[2] is None else facts.integers(inputs[2])
    rank = count if rank is None and inputs[2] is None else rank
    if axes is None or rank is None or rank < 3 or len(axes) != count or max(axes) >= rank:
        new.refuse("the axes of Pad are not known")
    ends = [[0, 0] for _ in range(rank)]
    for position, axis in enumerate(axes):
        ends[axis] = [amounts[position], amounts[position + count]]
    if min(map(min, ends)) < 0 or any(map(any, ends[:2])):
        new.refuse("Pad cuts, or pads other than spatial axes")
    before, after = zip(*ends[2:], strict=True)
    return Padding(before=before, after=after, value=float(value))


def _pool_padding(new: Builder, pad: ir.Node, pool: ir.Node) -> tuple[Padding, list[int]]:
    """Return what Pad adds before a pool and what the pool pads, or refuse."""
    kernel = new.attribute(pool, "kernel_shape")
    if not kernel or new.attribute(pool, "ceil_mode"):
        new.refuse("the last window may reach beyond the padding")
    padding = _padding_of(new, pad, len(kernel) + 2)
    own = own_pads(new, pool, kernel)
    if own is None:
        new.refuse("what the pool pads by itself is not known")
    rank = len(kernel)
    for axis, width in enumerate(kernel):
        if max(padding.before[axis] + own[axis], padding.after[axis] + own[rank + axis]) >= width:
            new.refuse("a window could see padding only")
    return padding, own


def _padding_itself(
    new: Builder, node: ir.Node, x: ir.Value, padding: Padding, own: list[int], **changed: Any
) -> ir.Value:
    more = (*padding.before, *padding.after)
    attributes = dict(node.attributes)
    attributes.pop("auto_pad", None)
    changed["pads"] = [one + other for one, other in zip(own, more, strict=True)]
    made: ir.Value = new.node(node.op_type, x, *node.inputs[1:], **{**attributes, **changed})
    made.shape = node.outputs[0].shape
    return made
