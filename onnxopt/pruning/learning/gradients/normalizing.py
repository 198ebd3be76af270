"""Normalizations and their gradients.

With x leveled over some axes, l = (x - mean) / width, and g the gradient with respect to l, that
with respect to x is (g - mean(g) - l·mean(g·l)) / width; where no mean is taken away from x, none
is taken away from g (Ioffe and Szegedy, "Batch Normalization", 2015, section 3).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.learning.gradients.call import (
    Call,
    Inputs,
    Made,
    given,
    needed,
    optional,
    summed,
)


def _leveled(
    x: Array, axes: tuple[int, ...], epsilon: float, *, centered: bool = True
) -> tuple[Array, Callable[[Array], Array]]:
    """Return x over its width, and what turns a gradient with respect to that into one to x."""
    away = x - x.mean(axis=axes, keepdims=True) if centered else x
    width = np.sqrt(np.square(away).mean(axis=axes, keepdims=True) + x.dtype.type(epsilon))
    level = away / width

    def slope(gradient: Array) -> Array:
        found = gradient - level * (gradient * level).mean(axis=axes, keepdims=True)
        if centered:
            found -= gradient.mean(axis=axes, keepdims=True)
        return np.asarray(found / width)

    return level, slope


def _scaled(
    level: Array, slope: Callable[[Array], Array], scale: Array, bias: Array | None, count: int
) -> Made:
    """Return what is leveled, by a scale and a bias that broadcast; the node has `count` inputs."""
    made = level * scale

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        own = None if bias is None else summed(gradient, bias.shape)
        return [slope(gradient * scale), summed(gradient * level, scale.shape), own][:count]

    return (made if bias is None else made + bias,), pull


def layer_normalization(call: Call, inputs: Inputs) -> Made:
    """Compute LayerNormalization, or RMSNormalization, which takes no mean away."""
    x = needed(inputs, 0)
    axes = tuple(range(int(call.get("axis")) % x.ndim, x.ndim))
    centered = call.node.op_type == "LayerNormalization"
    level, slope = _leveled(x, axes, call.get("epsilon"), centered=centered)
    return _scaled(level, slope, needed(inputs, 1), optional(inputs, 2), len(inputs))


def group_normalization(call: Call, inputs: Inputs) -> Made:
    """Compute GroupNormalization, or InstanceNormalization: a group for each channel.

    Scale and bias are by channel; before opset 21 those of GroupNormalization are by group.
    """
    x = needed(inputs, 0)
    groups = int(call.get("num_groups") or x.shape[1])
    grouped = x.reshape(len(x), groups, -1, *x.shape[2:])
    level, slope = _leveled(grouped, tuple(range(2, grouped.ndim)), call.get("epsilon"))
    scale, bias = needed(inputs, 1), needed(inputs, 2)
    split = (1, groups, 1 if len(scale) == groups else -1, *(1,) * (x.ndim - 2))
    (made,), inner = _scaled(level, slope, scale.reshape(split), bias.reshape(split), 3)

    def pull(gradients: Inputs) -> Inputs:
        found = inner([given(gradients).reshape(grouped.shape)])
        shapes = (x.shape, scale.shape, bias.shape)
        return [needed(found, place).reshape(shape) for place, shape in enumerate(shapes)]

    return (made.reshape(x.shape),), pull


def batch_normalization(call: Call, inputs: Inputs) -> Made:
    """Compute BatchNormalization with the mean and the variance that it reads."""
    x = needed(inputs, 0)
    line = (1, -1, *(1,) * (x.ndim - 2))
    scale, bias, mean, variance = (needed(inputs, place).reshape(line) for place in range(1, 5))
    width = np.sqrt(variance + np.float32(call.get("epsilon")))
    slope = scale / width

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        axes = (0, *range(2, x.ndim))
        total = gradient.sum(axis=axes)
        own = ((gradient * (x - mean)).sum(axis=axes) / width.reshape(-1), total)
        return gradient * slope, *own, None, None

    made = x - mean
    made *= slope
    made += bias
    return (made,), pull


def reads_statistics(call: Call) -> bool:
    """Tell whether a BatchNormalization takes mean and variance from its inputs."""
    return not call.get("training_mode")


def softmax(call: Call, inputs: Inputs) -> Made:
    """Compute Softmax, or LogSoftmax."""
    x, axes = needed(inputs, 0), _softmax_axes(call, needed(inputs, 0).ndim)
    low = x - x.max(axis=axes, keepdims=True)
    raised = np.exp(low)
    total = raised.sum(axis=axes, keepdims=True)
    if call.node.op_type == "LogSoftmax":
        return _log_softmax(low - np.log(total), axes)
    made = raised / total

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        return (made * (gradient - (gradient * made).sum(axis=axes, keepdims=True)),)

    return (made,), pull


def _log_softmax(made: Array, axes: tuple[int, ...]) -> Made:
    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        return (gradient - np.exp(made) * gradient.sum(axis=axes, keepdims=True),)

    return (made,), pull


def _softmax_axes(call: Call, rank: int) -> tuple[int, ...]:
    """Return the axes that sum to one: before opset 13 all from one on."""
    axis = int(call.get("axis")) % rank
    return (axis,) if call.opset >= 13 else tuple(range(axis, rank))
