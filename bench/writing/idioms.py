"""Small idioms: what exporters write for one operator, and what comes to nothing."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from writing.layers import image, project
from writing.writer import BOOL, FLOAT, INT, Shape, Value, Writer


def activation(w: Writer) -> Value:
    """Write an activation in pieces."""
    return w.among(_ACTIVATIONS)(w, w.pick())


def _softplus(w: Writer, x: Value) -> Value:
    bounded = w.float("Tanh", x) if w.chance() else w.float("Clip", x, w.const(-8.0), w.const(8.0))
    return w.float("Log", w.float("Add", w.float("Exp", bounded), w.const(1.0)))


def _mish(w: Writer, x: Value) -> Value:
    return w.float("Mul", x, w.float("Tanh", w.float("Softplus", x)))


def _softsign(w: Writer, x: Value) -> Value:
    return w.float("Div", x, w.float("Add", w.float("Abs", x), w.const(1.0)))


def _leaky(w: Writer, x: Value) -> Value:
    slope = w.const(w.among([0.1, 0.5, 1.5, -0.5]))
    return w.float("Max", x, w.float("Mul", x, slope))


def _where_prelu(w: Writer, x: Value) -> Value:
    test = w.node("Greater", [x, w.const(0.0)], BOOL, x.shape)
    return w.float("Where", test, x, w.float("Mul", x, w.const(0.2)), like=x)


def _relu_pair(w: Writer, x: Value) -> Value:
    below = w.float("Relu", w.float("Neg", x))
    below = w.float("Mul", below, w.const(w.among([0.25, 1.0, -0.5])))
    return w.float(w.among(["Sub", "Add"]), w.float("Relu", x), below)


def _hard_sigmoid(w: Writer, x: Value) -> Value:
    inner = w.float("Add", w.float("Mul", x, w.const(1 / 6)), w.const(0.5))
    return w.float("Clip", inner, w.const(0.0), w.const(1.0))


def _powers(w: Writer, x: Value) -> Value:
    positive = w.float("Add", w.float("Abs", x), w.const(0.5))
    return w.float("Pow", positive, w.const(w.among([0.5, -1.0, -0.5, 2.0])))


def _signs(w: Writer, x: Value) -> Value:
    return w.float(w.among(["Abs", "Neg", "Relu"]), w.float(w.among(["Neg", "Abs"]), x))


def _nothing(w: Writer, x: Value) -> Value:
    zero = w.float("Mul", w.float("Tanh", x), w.const(0.0))
    other = w.float("Sigmoid", x)
    return w.float("Add", other, zero) if w.chance() else zero


def _casts(w: Writer, x: Value) -> Value:
    if w.shared.dtype != np.float32:
        return w.float("Neg", x)
    wide = w.outputs("Cast", [x], [("wide", x.shape)], to=11)[0]
    return w.float("Cast", wide, like=x, to=1)


def _decided(w: Writer, x: Value) -> Value:
    test = w.const(w.chance(), BOOL)
    return w.float("Where", test, x, w.float("Neg", x), like=x)


_ACTIVATIONS: tuple[Callable[[Writer, Value], Value], ...] = (
    *(_softplus, _mish, _softsign, _leaky, _where_prelu, _relu_pair, _hard_sigmoid, _powers),
    *(_signs, _nothing, _casts, _decided),
)


def softmax(w: Writer) -> Value:
    """Write a softmax in pieces, or what only looks at its order."""
    x = w.pick(fits=lambda v: v.rank > 0)
    narrow = (*x.shape[:-1], 1)
    how = w.shared.choose(3)
    if how == 0:
        largest = w.axes("ReduceMax", x, [-1], FLOAT, narrow, keepdims=1)
        power = w.float("Exp", w.float("Sub", x, largest))
        return w.float("Div", power, w.axes("ReduceSum", power, [-1], FLOAT, narrow, keepdims=1))
    made = w.float("Softmax", x, axis=x.rank - 1)
    if how == 1:
        return w.float("Log", w.float("Add", made, w.const(w.among([0.0, 1.0]))))
    return w.node("ArgMax", [made], INT, narrow, axis=x.rank - 1, keepdims=1)


def layout(w: Writer) -> Value:
    """Write pairs of cuts, joins and turns that come to one, or to nothing."""
    x = w.pick(fits=lambda v: v.rank > 1 and isinstance(v.shape[-1], int) and v.shape[-1] > 2)
    return w.among(_LAYOUTS)(w, x, int(x.shape[-1]))


def _slice_all(w: Writer, x: Value, size: int) -> Value:
    return w.node("Slice", [x, w.ints(0), w.ints(size), w.ints(-1)], FLOAT, x.shape)


def _slice_squeeze(w: Writer, x: Value, size: int) -> Value:
    place = w.integer(0, size - 1)
    inputs = [x, w.ints(place), w.ints(place + 1), w.ints(-1)]
    part = w.node("Slice", inputs, FLOAT, (*x.shape[:-1], 1))
    return w.axes("Squeeze", part, [-1], FLOAT, x.shape[:-1])


def _gather_unsqueeze(w: Writer, x: Value, size: int) -> Value:
    place = w.const(w.integer(0, size - 1), INT, fixed=True)
    part = w.node("Gather", [x, place], FLOAT, x.shape[:-1], axis=-1)
    return w.axes("Unsqueeze", part, [-1], FLOAT, (*x.shape[:-1], 1))


def _reduce_squeeze(w: Writer, x: Value, size: int) -> Value:  # noqa: ARG001 - as its neighbours
    kept = w.axes("ReduceMean", x, [-1], FLOAT, (*x.shape[:-1], 1), keepdims=1)
    return w.axes("Squeeze", kept, [-1], FLOAT, x.shape[:-1])


def _join_slices(w: Writer, x: Value, size: int) -> Value:
    parts = []
    middle = w.integer(1, size - 1)
    for start, stop in ((0, middle), (middle, size)):
        inputs = [x, w.ints(start), w.ints(stop), w.ints(-1)]
        parts.append(w.node("Slice", inputs, FLOAT, (*x.shape[:-1], stop - start)))
    parts = parts[::-1] if w.chance(3) else parts
    return w.node("Concat", parts, FLOAT, x.shape, axis=-1)


def _part_of_concat(w: Writer, x: Value, size: int) -> Value:
    joined = w.node("Concat", [x, w.float("Neg", x)], FLOAT, (*x.shape[:-1], 2 * size), axis=-1)
    start = w.among([0, size, size - 1])
    inputs = [joined, w.ints(start), w.ints(start + size), w.ints(-1)]
    return w.node("Slice", inputs, FLOAT, x.shape)


def _turn_reshape_turn(w: Writer, x: Value, size: int) -> Value:
    if not x.static or x.rank != 3:
        return _slice_all(w, x, size)
    a, b, c = (int(dim) for dim in x.shape)
    y = w.node("Transpose", [x], FLOAT, (a, c, b), perm=[0, 2, 1])
    y = w.node("Reshape", [y, w.ints(a, c, b, 1)], FLOAT, (a, c, b, 1))
    return w.node("Transpose", [y], FLOAT, (a, b, 1, c), perm=[0, 2, 3, 1])


def _there_and_back(w: Writer, x: Value, size: int) -> Value:  # noqa: ARG001 - as its neighbours
    perm = w.order(range(x.rank))
    shape = tuple(x.shape[axis] for axis in perm)
    y = w.node("Transpose", [x], FLOAT, shape, perm=perm)
    y = w.float(w.among(["Relu", "Tanh", "Neg"]), y)
    if w.chance():
        y = w.float("Add", y, w.number())
    back = [perm.index(axis) for axis in range(x.rank)]
    return w.node("Transpose", [y], FLOAT, x.shape, perm=back)


_LAYOUTS: tuple[Callable[[Writer, Value, int], Value], ...] = (
    *(_slice_all, _slice_squeeze, _gather_unsqueeze, _reduce_squeeze, _join_slices),
    *(_part_of_concat, _turn_reshape_turn, _there_and_back),
)


def convolutions(w: Writer) -> Value:
    """Write convolutions side by side, one after another, after padding or after upsampling."""
    x = image(w)
    batch, channels, height, width = x.shape
    channels, height, width = int(channels), int(height), int(width)
    how = w.shared.choose(6)
    if how == 0:
        return w.float("Add", _same(w, x, 3), _same(w, x, w.among([1, 3])))
    if how == 1:
        return w.float("Add", x, _same(w, x, 3))
    if how == 2:
        return _same(w, _same(w, x, w.among([1, 3])), 1)
    if how == 3:
        pads = w.ints(0, 0, 1, 1, 0, 0, 1, 1)
        wide: Shape = (batch, channels, height + 2, width + 2)
        padded = w.node("Pad", [x, pads], FLOAT, wide, mode="constant")
        if w.chance():
            return _same(w, padded, 3)
        op_type = w.among(["AveragePool", "MaxPool"])
        out: Shape = (batch, channels, height, width)
        return w.node(op_type, [padded], FLOAT, out, kernel_shape=[3, 3])
    if how == 4 and height <= 6 and w.opset >= 13:
        scales = w.name("scales")
        w.constants[scales] = np.array([1, 1, 2, 2], np.float32)
        wide = (batch, channels, 2 * height, 2 * width)
        inputs = [x, None, Value(scales, FLOAT, (4,))]
        mode = w.among(["nearest", "linear"])
        return _same(w, w.node("Resize", inputs, FLOAT, wide, mode=mode), w.among([1, 3]))
    return w.float("Relu", _same(w, x, 3, dull=True))


def _same(w: Writer, x: Value, kernel: int, *, dull: bool = False) -> Value:
    """Convolve to the same shape; a dull convolution has channels of zeros and equal ones."""
    channels = int(x.shape[1])
    weight = w.rng.standard_normal((channels, channels, kernel, kernel)) / (3 * kernel)
    bias = w.rng.standard_normal(channels)
    if dull and channels > 1:
        weight[: channels // 2] = 0
        weight[-1], bias[-1] = weight[-2], bias[-2]
    inputs = [x, w.const(weight)] + ([w.const(bias)] if w.chance() else [])
    pads = [kernel // 2] * 4
    return w.node("Conv", inputs, FLOAT, x.shape, kernel_shape=[kernel] * 2, pads=pads)


def instance_norm(w: Writer) -> Value:
    """Normalize every channel of an image, in pieces or not."""
    x = image(w)
    channels = int(x.shape[1])
    scale, shift = (w.rng.standard_normal(channels) for _ in range(2))
    if w.chance():
        return w.float("InstanceNormalization", x, w.const(scale), w.const(shift))
    narrow = (*x.shape[:2], 1, 1)
    centred = w.float("Sub", x, w.axes("ReduceMean", x, [2, 3], FLOAT, narrow, keepdims=1))
    squared = w.float("Mul", centred, centred)
    variance = w.axes("ReduceMean", squared, [2, 3], FLOAT, narrow, keepdims=1)
    root = w.float("Sqrt", w.float("Add", variance, w.const(1e-3)))
    normal = w.float("Div", centred, root)
    scaled = w.float("Mul", normal, w.const(scale.reshape(-1, 1, 1)))
    return w.float("Add", scaled, w.const(shift.reshape(-1, 1, 1)))


def gated(w: Writer) -> Value:
    """Project twice from one value and multiply the results, or project onto zeros."""
    x = w.pick(fits=lambda v: v.rank > 1 and isinstance(v.shape[-1], int))
    left, right = project(w, x, 6), project(w, x, 6)
    if w.chance(4):
        zeros = w.const(np.zeros((6, 6)))
        right = w.float("MatMul", right, zeros)
    return w.float("Mul", w.float("Tanh", left), right)
