"""Branches over one input that are summed, all linear, are one convolution (RepVGG).

Position p of a convolution with stride s, dilation d and b zeros padded in front reads, with tap t,
its input at p·s - b + d·t. Taps of two convolutions with one stride that read at the same distance
from p·s belong together: their weights add up, and the kernel that spans both has zeros elsewhere.
The kernel of one tap fits any dilation. The identity, and BatchNormalization or a factor per
channel, are kernels of one tap with weights on the diagonal (Ding et al. 2021, RepVGG: Making
VGG-style ConvNets Great Again, §3.3).

Both convolutions have the same number of positions for every input where as much is padded behind
their last taps. Each weight is multiplied once for each position: one convolution is cheaper where
its kernel is no larger than those of the two together.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, total, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.batchnorm import affine, normalized
from onnxopt.rules.linear.formula import faithful, layer_of
from onnxopt.rules.linear.pad import kernel_of, own_pads

x, rest = var("x"), var("rest")
w1, w2, c = const("w1"), const("w2"), const("c")
b1, b2 = const("b1", default=0), const("b2", default=0)

CONV = op.Conv(x, w1, b1, bind="first")
OTHER = op.Conv(x, w2, b2, bind="second")
DIAGONAL = normalized(x) | op.Mul(x, c, bind="scale") | x


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A convolution's weight, [outputs, inputs per group, *taps], and where its taps stand.

    `before` is what is padded in front and `slack` how far the padding behind reaches beyond the
    last tap, per spatial axis.
    """

    weight: Any
    bias: Any
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    slack: tuple[int, ...]

    @property
    def taps(self) -> tuple[int, ...]:
        """The number of taps along each spatial axis."""
        found: tuple[int, ...] = self.weight.shape[2:]
        return found


@rule(op.Sum(bind="node"), since=8)
def spell_branches_as_additions(new: Builder, node: ir.Node) -> Any:
    """Sum of three or more, convolutions of one input among them, becomes additions."""
    branches: dict[ir.Value | None, list[ir.Value]] = {}
    for value in node.inputs:
        assert value is not None
        branches.setdefault(_source(value, node), []).append(value)
    if len(node.inputs) < 3 or not any(len(some) > 1 for some in branches.values()):
        return None
    if not any(facts.made_by(value, "Conv", node) for value in node.inputs):
        return None
    for some in branches.values():  # convolutions first: what follows is merged into them
        some.sort(key=lambda value: facts.made_by(value, "Conv", node) is None)
    return functools.reduce(new.Add, (functools.reduce(new.Add, b) for b in branches.values()))


def _source(value: ir.Value, reader: ir.Node) -> ir.Value | None:
    """Return the input of the branch that a value is, or the value itself."""
    for op_type in ("Conv", "BatchNormalization"):
        maker = facts.made_by(value, op_type, reader)
        if maker is not None:
            return maker.inputs[0]
    return value


@rule(op.Add(CONV, OTHER) | op.Sum(CONV, OTHER) | total(CONV, OTHER, rest), since=7)
def merge_parallel_convolutions(
    new: Builder,
    first: ir.Node,
    second: ir.Node,
    x: ir.Value,
    rest: ir.Value | None,
    w1: Any,
    w2: Any,
    b1: Any,
    b2: Any,
) -> Any:
    """Conv(x) + Conv(x) becomes one Conv where that takes no more products."""
    one, two = _kernel(new, first, w1, b1), _kernel(new, second, w2, b2)
    made = _merged(new, first, x, one, two)
    return made if rest is None else new.Add(made, rest)


@rule(op.Add(CONV, DIAGONAL) | op.Sum(CONV, DIAGONAL) | total(CONV, DIAGONAL, rest), since=7)
def merge_identity_into_convolution(
    new: Builder,
    first: ir.Node,
    x: ir.Value,
    rest: ir.Value | None,
    w1: Any,
    b1: Any,
    c: Any,
    bn: ir.Node | None,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
) -> Any:
    """Conv(x) + x, and Conv(x) + BatchNormalization(x) or + c·x, becomes one Conv."""
    one = _kernel(new, first, w1, b1)
    layer = layer_of(new, first)
    channels = layer.outputs
    if layer.inputs != channels or set(one.strides) != {1}:
        new.refuse("the convolution changes the number of channels or positions")
    scale, shift = np.ones(channels), np.zeros(channels)
    if bn is not None:
        scale, shift = affine(new, bn, gamma, beta, mean, variance)
    elif c is not None:
        scale = _per_channel(new, c, channels, w1.ndim)
    if scale.shape != (channels,):
        new.refuse("the statistics do not fit the convolution")
    made = _merged(new, first, x, one, _diagonal(scale, shift, one))
    return made if rest is None else new.Add(made, rest)


def _per_channel(new: Builder, array: Any, count: int, rank: int) -> Any:
    if array.size == 1 and array.ndim <= rank:
        return np.full(count, array.reshape(()), np.float64)
    if array.ndim not in (rank - 1, rank) or array.size != count or array.shape[1 - rank] != count:
        new.refuse("the factor is neither one number nor one per channel")
    return array.astype(np.float64).reshape(-1)


def _diagonal(scale: Any, shift: Any, like: Kernel) -> Kernel:
    """Return scale·x + shift as a convolution of one tap, in the groups of another."""
    outputs, inputs, *taps = like.weight.shape
    ones = (1,) * len(taps)
    weight = np.zeros((outputs, inputs, *ones))
    weight.reshape(outputs, inputs)[np.arange(outputs), np.arange(outputs) % inputs] = scale
    zeros = (0,) * len(taps)
    return Kernel(
        weight=weight, bias=shift, strides=ones, dilations=ones, before=zeros, slack=zeros
    )


def _kernel(new: Builder, conv: ir.Node, weight: Any, bias: Any) -> Kernel:
    """Read a Conv, or refuse."""
    taps, rank = weight.shape[2:], weight.ndim - 2
    pads = own_pads(new, conv, kernel_of(new, conv))
    if pads is None or not all(map(facts.is_private, conv.inputs[1:2])):
        new.refuse("what Conv pads is not known, or its weight is read by other nodes too")
    ones = (1,) * rank
    dilations = new.attribute(conv, "dilations") or ones
    reach = [d * (k - 1) for d, k in zip(dilations, taps, strict=True)]
    before, after = pads[:rank], pads[rank:]
    return Kernel(
        weight=weight,
        bias=bias,
        strides=tuple(new.attribute(conv, "strides") or ones),
        dilations=tuple(1 if k == 1 else d for d, k in zip(dilations, taps, strict=True)),
        before=tuple(before),
        slack=tuple(e - (r - b) for e, r, b in zip(after, reach, before, strict=True)),
    )


def _merged(new: Builder, conv: ir.Node, x: ir.Value, one: Kernel, two: Kernel) -> Any:
    """Make one convolution of two, or refuse."""
    if one.weight.shape[:2] != two.weight.shape[:2]:
        new.refuse("the convolutions differ in channels or groups")
    if one.strides != two.strides or one.slack != two.slack:
        new.refuse("the convolutions do not have the same positions")
    spans = [_span(one, two, axis) for axis in range(len(one.taps))]
    if any(span is None for span in spans):
        new.refuse("the taps of the convolutions stand between each other")
    before, taps, dilations = zip(*(span for span in spans if span is not None), strict=True)
    if math.prod(taps) > math.prod(one.taps) + math.prod(two.taps):
        new.refuse("one convolution would take more products than the two")
    weight = np.zeros((*one.weight.shape[:2], *taps))
    for kernel in (one, two):
        places: list[Any] = [...]
        for axis, size in enumerate(kernel.taps):
            start = (before[axis] - kernel.before[axis]) // dilations[axis]
            places.append(slice(start, start + size))
        weight[tuple(places)] += kernel.weight
    reach = [d * (k - 1) - b for d, k, b in zip(dilations, taps, before, strict=True)]
    after = [slack + far for slack, far in zip(one.slack, reach, strict=True)]
    layer = layer_of(new, conv)
    bias = one.bias.astype(np.float64) + two.bias
    inputs = [faithful(new, weight, layer.dtype)]
    if bias.any():
        inputs.append(faithful(new, bias, layer.dtype))
    made = new.Conv(
        x,
        *inputs,
        group=layer.groups,
        strides=list(one.strides),
        dilations=list(dilations),
        pads=[*before, *after],
        kernel_shape=list(taps),
    )
    made.shape = conv.outputs[0].shape
    return made


def _span(one: Kernel, two: Kernel, axis: int) -> tuple[int, int, int] | None:
    """Return padding in front, number of taps and dilation of what spans both; None if nothing."""
    near = [kernel.before[axis] for kernel in (one, two)]
    sizes = [kernel.taps[axis] for kernel in (one, two)]
    steps = {k.dilations[axis] for k, size in zip((one, two), sizes, strict=True) if size > 1}
    step = max(steps, default=1)
    if len(steps) > 1 or (near[0] - near[1]) % step:
        return None
    last = max(step * (size - 1) - before for size, before in zip(sizes, near, strict=True))
    return max(near), (last + max(near)) // step + 1, step
