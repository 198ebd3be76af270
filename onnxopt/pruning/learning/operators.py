"""Computes operators of ONNX, and pulls gradients back from their outputs to their inputs.

Each is a function of a call and its inputs that returns its outputs and its pullback, which takes
the gradients with respect to the outputs (None: nothing reads it) and returns those with respect to
the inputs (None: none is known, or none can be).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.learning import moving
from onnxopt.pruning.learning.convolving import Convolution
from onnxopt.pruning.learning.curves import CURVES
from onnxopt.sweep.patches import window_of

Inputs = Sequence[Array | None]
Pull = Callable[[Inputs], Inputs]
Made = tuple[tuple[Array, ...], Pull]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A node that is computed; its attributes have the defaults of the operator set."""

    node: ir.Node
    opset: int

    def get(self, name: str) -> Any:
        """Return an attribute."""
        return facts.attribute(self.node, name, self.opset)

    def axes(self, inputs: Inputs) -> tuple[int, ...] | None:
        """Return the axes that a reduction names, as an attribute or as an input."""
        given = inputs[1] if len(inputs) > 1 else self.get("axes")
        return None if given is None else tuple(int(axis) for axis in given)


Operator = Callable[[Call, Inputs], Made]


def compute(call: Call, inputs: Inputs) -> Made:
    """Compute a node of which `is_known` is true, and return what pulls gradients back."""
    kind = call.node.op_type
    if kind in moving.MOVES:
        return _moved(call, inputs)
    if kind in CURVES:
        made, slope = CURVES[kind](call.get, inputs)
        rest = [None] * (len(inputs) - 1)
        return (made,), lambda gradients: [_given(gradients) * slope(), *rest]
    return OPERATORS[kind](call, inputs)


def is_known(node: ir.Node) -> bool:
    """Tell whether gradients can be pulled through an operator."""
    if node.op_type == "Pad" and (
        len(node.inputs) > 2 and node.inputs[2] is not None and facts.scalar(node.inputs[2]) != 0
    ):
        return False
    known = node.op_type in moving.MOVES or node.op_type in CURVES or node.op_type in OPERATORS
    return known and node.domain in ("", "ai.onnx")


def moved_by(node: ir.Node) -> Sequence[int]:
    """Return the places of the inputs that a gradient goes back to."""
    if node.op_type == "Concat":
        return range(len(node.inputs))
    alone = node.op_type in CURVES or node.op_type in ("ReduceMean", "ReduceSum")
    if alone or node.op_type in moving.MOVES:
        return (0,)
    if node.op_type == "BatchNormalization":
        return range(3)
    return (1, 2) if node.op_type == "Where" else range(len(node.inputs))


def _given(gradients: Inputs) -> Array:
    found = gradients[0]
    assert found is not None
    return found


def _some(inputs: Inputs, place: int) -> Array:
    found = inputs[place]
    assert found is not None
    return found


def summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient with respect to what was broadcast from a shape."""
    if gradient.shape == shape:
        return gradient
    more = gradient.ndim - len(shape)
    found = gradient.sum(axis=tuple(range(more))) if more else gradient
    axes = tuple(
        axis
        for axis, (have, want) in enumerate(zip(found.shape, shape, strict=True))
        if have > want
    )
    return np.asarray(found.sum(axis=axes, keepdims=True) if axes else found)


def _moved(call: Call, inputs: Inputs) -> Made:
    places = moved_by(call.node)
    found = moving.move(
        ir.to_proto(call.node).SerializeToString(), call.opset, inputs, tuple(places)
    )
    arrays = [array for place in places if (array := inputs[place]) is not None]

    def pull(gradients: Inputs) -> Inputs:
        back: list[Array | None] = [None] * len(inputs)
        pulled = iter(found.pulled(gradients))
        for place in places:
            if inputs[place] is not None:
                back[place] = next(pulled)
        return back

    return found.made(arrays), pull


def _add(call: Call, inputs: Inputs) -> Made:
    del call
    a, b = _some(inputs, 0), _some(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        return summed(gradient, a.shape), summed(gradient, b.shape)

    return (a + b,), pull


def _subtract(call: Call, inputs: Inputs) -> Made:
    del call
    a, b = _some(inputs, 0), _some(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        return summed(gradient, a.shape), summed(-gradient, b.shape)

    return (a - b,), pull


def _multiply(call: Call, inputs: Inputs) -> Made:
    del call
    a, b = _some(inputs, 0), _some(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        return summed(gradient * b, a.shape), summed(gradient * a, b.shape)

    return (a * b,), pull


def _divide(call: Call, inputs: Inputs) -> Made:
    del call
    a, b = _some(inputs, 0), _some(inputs, 1)
    made = a / b

    def pull(gradients: Inputs) -> Inputs:
        part = _given(gradients) / b
        return summed(part, a.shape), summed(-part * made, b.shape)

    return (made,), pull


def _where(call: Call, inputs: Inputs) -> Made:
    del call
    which, a, b = (_some(inputs, place) for place in range(3))

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        zero = np.zeros((), gradient.dtype)
        one, other = np.where(which, gradient, zero), np.where(which, zero, gradient)
        return None, summed(one, a.shape), summed(other, b.shape)

    return (np.where(which, a, b),), pull


def _slope(call: Call, inputs: Inputs) -> Made:
    """PRelu."""
    del call
    x, slope = _some(inputs, 0), _some(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        below = np.minimum(x, 0) * gradient
        return gradient * np.where(x < 0, slope, 1), summed(below, slope.shape)

    return (np.where(x < 0, x * slope, x),), pull


def _matmul(call: Call, inputs: Inputs) -> Made:
    del call
    a, b = _some(inputs, 0), _some(inputs, 1)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        if b.ndim == 2 and a.ndim > 1:
            flat = gradient.reshape(-1, b.shape[1])
            return (flat @ b.T).reshape(a.shape), a.reshape(-1, len(b)).T @ flat
        left = np.matmul(gradient, b.swapaxes(-1, -2))
        right = np.matmul(a.swapaxes(-1, -2), gradient)
        return summed(left, a.shape), summed(right, b.shape)

    return (np.matmul(a, b),), pull


def _gemm(call: Call, inputs: Inputs) -> Made:
    alpha, beta = (np.float32(call.get(name)) for name in ("alpha", "beta"))
    turns = [bool(call.get(name)) for name in ("transA", "transB")]
    a, b = (
        _some(inputs, place).T if turn else _some(inputs, place) for place, turn in enumerate(turns)
    )
    c = inputs[2] if len(inputs) > 2 else None
    made = alpha * (a @ b)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        left, right = alpha * (gradient @ b.T), alpha * (a.T @ gradient)
        found = [left.T if turns[0] else left, right.T if turns[1] else right]
        return [*found, None if c is None else summed(beta * gradient, c.shape)][: len(inputs)]

    return (made if c is None else made + beta * c,), pull


def _conv(call: Call, inputs: Inputs) -> Made:
    x, weight = _some(inputs, 0), _some(inputs, 1)
    bias = inputs[2] if len(inputs) > 2 else None
    work = Convolution(x, weight, window_of(call.node, weight.shape, x.shape, call.opset))
    made = work.made()
    if bias is not None:
        made += bias.reshape(1, -1, *(1,) * (x.ndim - 2))

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        axes = (0, *range(2, gradient.ndim))
        own = None if bias is None else gradient.sum(axis=axes)
        return [*work.pulled(gradient), own][: len(inputs)]

    return (made,), pull


def _mean(call: Call, inputs: Inputs) -> Made:
    x = _some(inputs, 0)
    kind, axes = call.node.op_type, call.axes(inputs)
    keep = True
    if kind == "GlobalAveragePool":
        axes = tuple(range(2, x.ndim))
    else:
        keep = bool(call.get("keepdims"))
        if not axes and call.get("noop_with_empty_axes"):
            return (x,), lambda gradients: [*gradients, *[None] * (len(inputs) - 1)]
    axes = axes or tuple(range(x.ndim))
    made = x.sum(axis=axes, keepdims=True)
    scale = np.float32(1 if kind == "ReduceSum" else made.size / x.size)
    shape = made.shape

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients).reshape(shape) * scale
        return [np.broadcast_to(gradient, x.shape), *[None] * (len(inputs) - 1)]

    made = made * scale
    return (made if keep else made.squeeze(axes),), pull


def _softmax(call: Call, inputs: Inputs) -> Made:
    x, axis = _some(inputs, 0), int(call.get("axis"))
    raised = np.exp(x - x.max(axis=axis, keepdims=True))
    made = raised / raised.sum(axis=axis, keepdims=True)

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        return (made * (gradient - (gradient * made).sum(axis=axis, keepdims=True)),)

    return (made,), pull


def _layer_normalization(call: Call, inputs: Inputs) -> Made:
    x, scale = _some(inputs, 0), _some(inputs, 1)
    bias = inputs[2] if len(inputs) > 2 else None
    axes = tuple(range(int(call.get("axis")) % x.ndim, x.ndim))
    away = x - x.mean(axis=axes, keepdims=True)
    width = np.sqrt((away * away).mean(axis=axes, keepdims=True) + call.get("epsilon"))
    level = np.asarray(away / width, x.dtype)
    made = level * scale
    if bias is not None:
        made = made + bias

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        inner = gradient * scale
        share = (inner * level).mean(axis=axes, keepdims=True)
        back = (inner - inner.mean(axis=axes, keepdims=True) - level * share) / width
        own = None if bias is None else summed(gradient, bias.shape)
        return [np.asarray(back, x.dtype), summed(gradient * level, scale.shape), own][
            : len(inputs)
        ]

    return (made,), pull


def _batch_normalization(call: Call, inputs: Inputs) -> Made:
    x = _some(inputs, 0)
    line = (1, -1, *(1,) * (x.ndim - 2))
    scale, bias, mean, variance = (_some(inputs, place).reshape(line) for place in range(1, 5))
    level = (x - mean) / np.sqrt(variance + np.float32(call.get("epsilon")))
    slope = scale / np.sqrt(variance + np.float32(call.get("epsilon")))

    def pull(gradients: Inputs) -> Inputs:
        gradient = _given(gradients)
        axes = (0, *range(2, x.ndim))
        own = (gradient * level).sum(axis=axes), gradient.sum(axis=axes)
        return gradient * slope, *own, None, None

    return (level * scale + bias,), pull


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "BatchNormalization": _batch_normalization,
    "Conv": _conv,
    "Div": _divide,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "LayerNormalization": _layer_normalization,
    "MatMul": _matmul,
    "Mul": _multiply,
    "PRelu": _slope,
    "ReduceMean": _mean,
    "ReduceSum": _mean,
    "Softmax": _softmax,
    "Sub": _subtract,
    "Where": _where,
}
