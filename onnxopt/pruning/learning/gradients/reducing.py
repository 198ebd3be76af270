"""Reductions of some axes to one number each, and their gradients.

The largest of equal numbers is the first one, and has the gradient alone, as PyTorch has it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.pruning.learning.gradients.call import (
    Call,
    Inputs,
    Made,
    Operator,
    first_alone,
    given,
    needed,
    optional,
)

Slope = Callable[[Array], Array]
Reduction = Callable[[Array, tuple[int, ...]], tuple[Array, Slope]]
"""Takes numbers and axes; returns what is left, with axes of one number, and what turns the
gradient with respect to it into that with respect to the numbers."""

_TINY = 1e-12
"""The least norm whose slope is taken: that of zero is none."""


def _sum(x: Array, axes: tuple[int, ...]) -> tuple[Array, Slope]:
    shape = x.shape
    return x.sum(axis=axes, keepdims=True), lambda gradient: np.broadcast_to(gradient, shape)


def _mean(x: Array, axes: tuple[int, ...]) -> tuple[Array, Slope]:
    total, spread = _sum(x, axes)
    share = np.float32(total.size / x.size)
    return total * share, lambda gradient: spread(gradient * share)


def _sum_of_squares(x: Array, axes: tuple[int, ...]) -> tuple[Array, Slope]:
    return np.square(x).sum(axis=axes, keepdims=True), lambda gradient: 2 * gradient * x


def _norm(x: Array, axes: tuple[int, ...]) -> tuple[Array, Slope]:
    norm = np.sqrt(np.square(x).sum(axis=axes, keepdims=True))
    return norm, lambda gradient: gradient / np.maximum(norm, np.float32(_TINY)) * x


def _most(x: Array, axes: tuple[int, ...], *, least: bool = False) -> tuple[Array, Slope]:
    kept = [axis for axis in range(x.ndim) if axis not in axes]
    order = [*kept, *axes]
    turned = x.transpose(order)
    rows = turned.reshape(*turned.shape[: len(kept)], -1)
    at = np.expand_dims((np.argmin if least else np.argmax)(rows, axis=-1), -1)
    shape = tuple(1 if axis in axes else size for axis, size in enumerate(x.shape))

    def slope(gradient: Array) -> Array:
        spread = np.zeros(rows.shape, gradient.dtype)
        np.put_along_axis(spread, at, gradient.reshape(at.shape), -1)
        return spread.reshape(turned.shape).transpose(np.argsort(order))

    return np.take_along_axis(rows, at, -1).reshape(shape), slope


REDUCTIONS: dict[str, Reduction] = {
    "ReduceL2": _norm,
    "ReduceMax": _most,
    "ReduceMean": _mean,
    "ReduceMin": partial(_most, least=True),
    "ReduceSum": _sum,
    "ReduceSumSquare": _sum_of_squares,
}
_OVER_PLACES: dict[str, Reduction] = {"GlobalAveragePool": _mean, "GlobalMaxPool": _most}
"""Of all axes behind batch and channels, which stay."""


def reduces(call: Call) -> bool:
    """Tell whether a reduction is one: without axes it is one of all, or of none."""
    return not call.get("noop_with_empty_axes") or bool(facts.integers(call.value(1)))


def reduce(call: Call, inputs: Inputs) -> Made:
    """Compute a reduction of the axes that an attribute or an input names: none are all."""
    x, axes = needed(inputs, 0), optional(inputs, 1)
    named: Sequence[int] = call.get("axes") or () if axes is None else axes.reshape(-1).tolist()
    places = tuple(sorted({axis % x.ndim for axis in named})) or tuple(range(x.ndim))
    return _reduced(REDUCTIONS[call.node.op_type], inputs, places, keep=bool(call.get("keepdims")))


def reduce_places(call: Call, inputs: Inputs) -> Made:
    """Compute a global pool."""
    places = tuple(range(2, needed(inputs, 0).ndim))
    return _reduced(_OVER_PLACES[call.node.op_type], inputs, places, keep=True)


def _reduced(reduction: Reduction, inputs: Inputs, places: tuple[int, ...], *, keep: bool) -> Made:
    made, slope = reduction(needed(inputs, 0), places)
    shape = made.shape

    def pull(gradients: Inputs) -> Inputs:
        return first_alone(slope(given(gradients).reshape(shape)), inputs)

    return (made if keep else made.squeeze(places),), pull


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(REDUCTIONS, reduce),
    **dict.fromkeys(_OVER_PLACES, reduce_places),
}
