"""Between which bounds the channels of a layer stay, whatever the input: interval arithmetic.

A linear layer of x between l and h lies between Σ w⁺·l + Σ w⁻·h + b and Σ w⁺·h + Σ w⁻·l + b, zeros
that are padded counting as x; monotone functions map the bounds. A channel with equal bounds is
constant: its filter is zero, or it is cut off by what follows, like a ReLU that never opens. All
this is said of finite inputs: zero times infinity would be NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.linear.batchnorm import affine
from onnxopt.rules.linear.pad import is_unpadded
from onnxopt.rules.unread.passage import BINARY, FLATTENERS, Passage, Step, held_as_single

_RANGES = {
    "Abs": (0, math.inf),
    "Erf": (-1, 1),
    "Exp": (0, math.inf),
    "HardSigmoid": (0, 1),
    "Relu": (0, math.inf),
    "Sigmoid": (0, 1),
    "Softmax": (0, 1),
    "Softplus": (0, math.inf),
    "Softsign": (-1, 1),
    "Sqrt": (0, math.inf),
    "Tanh": (-1, 1),
}
_KEEPS_RANGE = FLATTENERS | {
    "AveragePool",
    "Concat",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "Identity",
    "MaxPool",
    "Slice",
    "Transpose",
    "Unsqueeze",
}
_HOPS = 4
_SAMPLE = 8


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The least and the greatest that each channel can be, in double precision."""

    low: Any
    high: Any

    @property
    def constant(self) -> Any:
        """Which channels are the same whatever the input."""
        return (self.low == self.high) & np.isfinite(self.low)

    def with_zero(self) -> Bounds:
        """Return the bounds of the same channels where zeros may stand between."""
        return Bounds(low=np.minimum(self.low, 0), high=np.maximum(self.high, 0))


def bounds_at_end(new: Builder, passage: Passage) -> Bounds:
    """Return the bounds of each channel at the end of a passage."""
    source = passage.first.node.inputs[0]
    low, high = range_of(new, source)
    if not is_unpadded(new, passage.first.node):
        low, high = min(low, 0), max(high, 0)
    layer = passage.first.node
    factor = new.attribute(layer, "alpha") if layer.op_type == "Gemm" else 1.0
    if factor is None:
        new.refuse("alpha is not known")
    found = _of_layer(passage.weight, passage.bias, low, high, factor)
    known: dict[ir.Value | None, Bounds] = {layer.outputs[0]: found}
    with np.errstate(all="ignore"):
        for step in passage.steps:
            given = step.node.inputs if step.node.op_type in BINARY else step.node.inputs[:1]
            operands = [
                known[value] if value in known else _of_constant(value, step.axis, passage.channels)
                for value in given
            ]
            found = _of_step(new, step, operands)
            unsure = np.isnan(found.low) | np.isnan(found.high)
            found = Bounds(
                low=np.where(unsure, -np.inf, found.low), high=np.where(unsure, np.inf, found.high)
            )
            known[step.node.outputs[0]] = found
    return found


def range_of(new: Builder, value: ir.Value | None, hops: int = _HOPS) -> tuple[float, float]:
    """Return the bounds of all elements of a value, by the operators that made it."""
    node = None if value is None else value.producer()
    if node is None or node.domain or not hops:
        return -math.inf, math.inf
    if node.op_type == "Clip":
        low, high = clip_bounds(new, node)
        high = math.inf if high is None else high
        return min(-math.inf if low is None else low, high), high
    if node.op_type not in _KEEPS_RANGE:
        return _RANGES.get(node.op_type, (-math.inf, math.inf))
    operands = node.inputs if node.op_type == "Concat" else node.inputs[:1]
    found = [range_of(new, operand, hops - 1) for operand in operands]
    if node.op_type == "AveragePool":
        found.append((0, 0))
    return min(low for low, _ in found), max(high for _, high in found)


def clip_bounds(new: Builder, node: ir.Node) -> tuple[float | None, float | None]:
    """Return the bounds of a Clip; None where there is none, or it is not known."""
    if new.opset < 11:
        return new.attribute(node, "min"), new.attribute(node, "max")
    given = [*node.inputs[1:], None, None]
    return facts.scalar(given[0]), facts.scalar(given[1])


def _of_layer(weight: Any, bias: Any, low: float, high: float, factor: float) -> Bounds:
    """Bound each channel of a layer with weight [inputs, outputs, taps]; `factor` scales it."""
    count = weight.shape[1]
    below, above = np.full(count, -np.inf), np.full(count, np.inf)
    # Most channels of most layers are told by a few of their weights to have no bounds.
    sample = weight[:_SAMPLE] * np.sign(factor)
    open_above = (sample > 0).any((0, 2)) if high == math.inf else np.zeros(count, bool)
    open_below = (sample > 0).any((0, 2)) if low == -math.inf else np.zeros(count, bool)
    open_above |= (sample < 0).any((0, 2)) if low == -math.inf else False
    open_below |= (sample < 0).any((0, 2)) if high == math.inf else False
    (some,) = np.nonzero(~(open_above & open_below))
    if some.size:
        rows = weight[:, some]
        up = np.maximum(rows, 0).sum((0, 2), dtype=np.float64) * factor
        down = np.minimum(rows, 0).sum((0, 2), dtype=np.float64) * factor
        up, down = np.maximum(up, down), np.minimum(up, down)
        below[some] = bias[some] + _times(up, low) + _times(down, high)
        above[some] = bias[some] + _times(up, high) + _times(down, low)
    return Bounds(low=below, high=above)


def _times(weights: Any, number: float) -> Any:
    """Multiply sums of weights; where there are none, infinity does not count."""
    with np.errstate(all="ignore"):
        return np.where(weights == 0, 0.0, weights * number)


def _of_constant(value: ir.Value | None, axis: int, channels: int) -> Bounds:
    """Bound what a constant operand has for each channel."""
    array = facts.constant(value)
    if array is None or not array.size:
        return Bounds(low=np.full(channels, -np.inf), high=np.full(channels, np.inf))
    array = array.astype(np.float64)
    if array.ndim >= -axis:
        array = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
        low, high = array.min(1), array.max(1)
    else:
        low, high = array.min(), array.max()
    return Bounds(low=np.broadcast_to(low, channels), high=np.broadcast_to(high, channels))


def _of_step(new: Builder, step: Step, operands: list[Bounds]) -> Bounds:
    """Return the bounds behind a step from those of its operands."""
    node, given = step.node, operands[0]
    if node.op_type in BINARY:
        return _of_two(node.op_type, operands)
    if node.op_type == "Conv":
        return _of_depthwise(new, node, given)
    if node.op_type == "BatchNormalization":
        scale, shift = affine(new, node, *(held_as_single(value) for value in node.inputs[1:]))
        if scale.shape != given.low.shape or new.attribute(node, "training_mode"):
            new.refuse("the statistics do not fit the layer")
        return _spanned([given.low * scale + shift, given.high * scale + shift])
    if node.op_type == "AveragePool":
        zeros = any(new.attribute(node, "pads") or ()) or "auto_pad" in node.attributes
        return given.with_zero() if zeros else given
    if node.op_type in _KEEPS_RANGE or node.op_type == "ReduceMean":
        return given
    rising = _rising(new, node)
    if rising is not None:
        return Bounds(low=rising(given.low), high=rising(given.high))
    other = _gelu(new, node) if node.op_type == "Gelu" else _OTHERS.get(node.op_type)
    image = given.low * np.nan if other is None else other(given.low)
    return _spanned([np.where(given.constant, image, np.nan)])


def _of_two(op_type: str, operands: list[Bounds]) -> Bounds:
    """Return the bounds of an elementwise operator, which lie at corners of what it is given."""
    compute = _ARITHMETIC.get(op_type)
    if compute is None or len(operands) != 2:
        return _spanned([operands[0].low * np.nan])
    left, right = operands
    corners = [compute(a, b) for a in (left.low, left.high) for b in (right.low, right.high)]
    if op_type == "Div":
        corners.append(np.where((right.low <= 0) & (right.high >= 0), np.nan, corners[0]))
    if op_type == "PRelu":  # with a negative slope, the least may lie in between, at zero
        corners.append(np.where((left.low < 0) & (left.high > 0), 0, corners[0]))
    return _spanned(corners)


def _of_depthwise(new: Builder, conv: ir.Node, given: Bounds) -> Bounds:
    weight = held_as_single(conv.inputs[1])
    held = facts.constant(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] else None
    assert weight is not None
    if not is_unpadded(new, conv):
        given = given.with_zero()
    rows = weight.reshape(len(weight), -1).astype(np.float64)
    up, down = np.maximum(rows, 0).sum(1), np.minimum(rows, 0).sum(1)
    bias = 0.0 if held is None else held.astype(np.float64)
    return Bounds(
        low=bias + _times(up, given.low) + _times(down, given.high),
        high=bias + _times(up, given.high) + _times(down, given.low),
    )


def _spanned(images: list[Any]) -> Bounds:
    return Bounds(low=np.min(images, 0), high=np.max(images, 0))


def _rising(new: Builder, node: ir.Node) -> Callable[[Any], Any] | None:
    """Return a function that never falls, as arrays of doubles; None for any other."""
    if node.op_type == "Clip":
        low, high = clip_bounds(new, node)
        known = new.opset < 11 or all(
            value is None or facts.is_constant(value) for value in node.inputs[1:]
        )
        return (lambda x: _clamped(x, low, high)) if known else None
    if node.op_type == "HardSigmoid":
        slope, shift = new.attribute(node, "alpha"), new.attribute(node, "beta")
        return (lambda x: np.clip(slope * x + shift, 0, 1)) if slope > 0 else None
    if node.op_type in ("LeakyRelu", "Elu"):
        alpha = new.attribute(node, "alpha")
        below = np.expm1 if node.op_type == "Elu" else np.array
        return (lambda x: np.where(x < 0, alpha * below(x), x)) if alpha >= 0 else None
    return _RISING.get(node.op_type)


def _gelu(new: Builder, node: ir.Node) -> Callable[[Any], Any]:
    """Return GELU, or its approximation by tanh."""
    if new.attribute(node, "approximate") == "tanh":
        return lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return lambda x: 0.5 * x * (1 + _erf(x / math.sqrt(2)))


def _clamped(x: Any, low: float | None, high: float | None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def _softplus(x: Any) -> Any:
    return np.logaddexp(x, 0)


_erf = np.vectorize(math.erf, otypes=[np.float64])

_RISING: dict[str, Callable[[Any], Any]] = {
    "Erf": _erf,
    "Exp": np.exp,
    "Identity": np.array,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": _sigmoid,
    "Softplus": _softplus,
    "Softsign": lambda x: x / (1 + np.abs(x)),
    "Tanh": np.tanh,
}
_OTHERS: dict[str, Callable[[Any], Any]] = {
    "Abs": np.abs,
    "HardSwish": lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    "Mish": lambda x: x * np.tanh(_softplus(x)),
    "Neg": np.negative,
}
_ARITHMETIC: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Div": np.divide,
    "Max": np.maximum,
    "Min": np.minimum,
    "Mul": np.multiply,
    "PRelu": lambda x, slope: np.where(x < 0, x * slope, x),
    "Sub": np.subtract,
}
