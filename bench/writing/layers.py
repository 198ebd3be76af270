"""Layers as exporters write them: linear maps, convolutions, norms, attention, recurrence."""

from __future__ import annotations

import math

import numpy as np

from writing.writer import BOOL, FLOAT, INT, Shape, Value, Writer


def _tokens(w: Writer) -> Value:
    return w.pick(fits=lambda v: v.rank == 3 and isinstance(v.shape[2], int))


def image(w: Writer) -> Value:
    """Choose a value of rank 4 of which only the first dimension may be named."""

    def fits(v: Value) -> bool:
        return v.rank == 4 and all(isinstance(dim, int) for dim in v.shape[1:])

    return w.pick(fits=fits, default="image")


def project(w: Writer, x: Value, size: int) -> Value:
    """Multiply by a weight and add a bias, on either side or not at all."""
    shape = (*x.shape[:-1], size)
    made = w.node("MatMul", [x, w.weight(int(x.shape[-1]), size)], FLOAT, shape)
    if w.chance(4):
        return made
    bias = w.const(w.rng.standard_normal(size))
    return w.node("Add", [bias, made] if w.chance() else [made, bias], FLOAT, shape)


def linear(w: Writer) -> Value:
    """Write a linear layer: MatMul, Gemm or Einsum, and sometimes a scale after it."""
    x = w.pick(fits=lambda v: v.rank > 1 and isinstance(v.shape[-1], int))
    size = w.among([8, 4, 6])
    how = w.shared.choose(4)
    if how == 1 and x.rank == 2:
        turned = w.integer(0, 1)
        weight = w.weight(size, int(x.shape[1])) if turned else w.weight(int(x.shape[1]), size)
        inputs = [x, weight] + ([w.const(w.rng.standard_normal(size))] if w.chance() else [])
        return w.node("Gemm", inputs, FLOAT, (x.shape[0], size), transB=turned)
    if how == 2 and x.rank == 3 and w.opset >= 12:
        weight = w.weight(int(x.shape[2]), size)
        return w.node("Einsum", [x, weight], FLOAT, (*x.shape[:2], size), equation="bsd,de->bse")
    made = project(w, x, size)
    if how == 3:
        return w.float("Mul", made, w.const(w.rng.standard_normal(size)))
    return project(w, made, 8) if w.chance(4) else made


def conv(w: Writer) -> Value:
    """Write a convolution, with what exporters put around it."""
    x = image(w)
    channels, height, width = (int(dim) for dim in x.shape[1:])
    if min(height, width) < 1 or channels > 24:
        return w.node("GlobalAveragePool", [x], FLOAT, (*x.shape[:2], 1, 1))
    kernel = w.among([1, 3, 2])
    group = channels if w.chance(4) else 1
    made = channels if group > 1 else w.among([4, 8, 2])
    stride = w.among([1, 1, 2])
    pads = [kernel // 2] * 4
    if min(height, width) + 2 * (kernel // 2) < kernel:
        kernel, pads = 1, [0] * 4
    weight = w.weight(made, channels // group, kernel, kernel)
    inputs = [x, weight] + ([w.const(w.rng.standard_normal(made))] if w.chance() else [])
    sizes = [(size + 2 * pads[0] - kernel) // stride + 1 for size in (height, width)]
    shape: Shape = (x.shape[0], made, *sizes)
    attributes = {"kernel_shape": [kernel] * 2, "pads": pads, "strides": [stride] * 2}
    y = w.node("Conv", inputs, FLOAT, shape, group=group, **attributes)
    how = w.shared.choose(5)
    if how == 1:
        return batch_norm(w, y)
    if how == 2:
        return w.float("Mul", y, w.const(w.rng.standard_normal((made, 1, 1))))
    if how == 3:
        return w.float("Add", y, w.const(w.rng.standard_normal((1, made, 1, 1))))
    return w.float("Relu", y) if how == 4 else y


def batch_norm(w: Writer, x: Value) -> Value:
    """Write a BatchNormalization for inference."""
    channels = int(x.shape[1])
    draws = w.rng.standard_normal((4, channels))
    draws[3] = np.abs(draws[3]) + 0.5
    if w.chance(4):
        draws[0, 0] = 0.0
    return w.float("BatchNormalization", x, *(w.const(row, fixed=True) for row in draws))


def pool(w: Writer) -> Value:
    """Pool or resize an image, or rearrange its channels."""
    x = image(w)
    channels, height, width = (int(dim) for dim in x.shape[1:])
    how = w.shared.choose(5)
    if how in (0, 1) and min(height, width) >= 2:
        sizes = [(size - 2) // 2 + 1 for size in (height, width)]
        op_type = ("MaxPool", "AveragePool")[how]
        shape: Shape = (*x.shape[:2], *sizes)
        return w.node(op_type, [x], FLOAT, shape, kernel_shape=[2, 2], strides=[2, 2])
    if how == 2 and height <= 6 and w.opset >= 13:
        scales = w.const([1.0, 1.0, 2.0, 2.0], fixed=True)
        shape = (*x.shape[:2], 2 * height, 2 * width)
        if scales.name in w.constants:
            w.constants[scales.name] = np.array([1, 1, 2, 2], np.float32)
            return w.node("Resize", [x, None, scales], FLOAT, shape, mode="nearest")
    if how == 3 and channels % 4 == 0:
        shape = (x.shape[0], channels // 4, 2 * height, 2 * width)
        return w.node("DepthToSpace", [x], FLOAT, shape, blocksize=2)
    return w.node("GlobalAveragePool", [x], FLOAT, (*x.shape[:2], 1, 1))


def norm(w: Writer) -> Value:
    """Write a layer or RMS normalization in pieces, or as one operator."""
    x = w.pick(fits=lambda v: v.rank > 1 and isinstance(v.shape[-1], int) and v.shape[-1] > 1)
    size = int(x.shape[-1])
    scale, shift = (w.const(w.rng.standard_normal(size)) for _ in range(2))
    how = w.shared.choose(4)
    if how == 3 and w.opset >= 17:
        return w.float("LayerNormalization", x, scale, shift, axis=-1)
    narrow = (*x.shape[:-1], 1)
    centred = x
    if how != 1:
        mean = w.axes("ReduceMean", x, [-1], FLOAT, narrow, keepdims=1)
        centred = w.float("Sub", x, mean)
    two = w.const(2.0)
    squared = w.float("Mul", centred, centred) if w.chance() else w.float("Pow", centred, two)
    variance = w.axes("ReduceMean", squared, [-1], FLOAT, narrow, keepdims=1)
    root = w.float("Sqrt", w.float("Add", variance, w.const(1e-3)))
    if w.chance():
        normal = w.float("Div", centred, root)
    else:
        normal = w.float("Mul", centred, w.float("Reciprocal", root))
    scaled = w.float("Mul", scale, normal, like=x)
    return scaled if how == 1 else w.float("Add", scaled, shift)


def residual(w: Writer) -> Value:
    """Add to a value what a feed-forward block makes of it."""
    x = _tokens(w)
    inner = w.float("Relu", project(w, x, 6))
    return w.float("Add", x, project(w, inner, int(x.shape[2])))


def attention(w: Writer) -> Value:
    """Write attention as exporters do: heads, scale, mask, guard against rows without any."""
    x = _tokens(w)
    batch, length, size = x.shape
    heads, each = 2, 4
    query, key, value = (_heads(w, project(w, x, heads * each), heads, each) for _ in range(3))
    turned = w.node("Transpose", [key], FLOAT, (batch, heads, each, length), perm=[0, 1, 3, 2])
    how = w.shared.choose(3)
    if how == 1:
        query = w.float("Mul", query, w.const(1 / math.sqrt(each)))
    scores = w.node("MatMul", [query, turned], FLOAT, (batch, heads, length, length))
    if how == 0:
        scores = w.float("Div", scores, w.const(math.sqrt(each)))
    elif how == 2:
        scores = w.float("Mul", scores, w.const(1 / math.sqrt(each)))
    if (batch, length) == ("N", "S") and w.chance():
        scores = _masked(w, scores)
    weights = w.float("Softmax", scores, axis=-1 if w.opset >= 13 else 3)
    if w.opset >= 13 and w.chance():
        missing = w.node("IsNaN", [weights], BOOL, weights.shape)
        weights = w.float("Where", missing, w.const(0.0), weights, like=weights)
    mixed = w.node("MatMul", [weights, value], FLOAT, (batch, heads, length, each))
    joined = w.node("Transpose", [mixed], FLOAT, (batch, length, heads, each), perm=[0, 2, 1, 3])
    flat = w.node(
        "Reshape", [joined, w.ints(0, 0, heads * each)], FLOAT, (batch, length, heads * each)
    )
    made = project(w, flat, int(size))
    return w.float("Add", x, made) if w.chance() else made


def _heads(w: Writer, x: Value, heads: int, each: int) -> Value:
    shape = (*x.shape[:2], heads, each)
    parted = w.node("Reshape", [x, w.ints(0, 0, heads, each)], FLOAT, shape)
    shape = (x.shape[0], heads, x.shape[1], each)
    return w.node("Transpose", [parted], FLOAT, shape, perm=[0, 2, 1, 3])


def _masked(w: Writer, scores: Value) -> Value:
    """Mask scores by a boolean input, by adding or by choosing."""
    mask = w.input("mask")
    shape = ("N", 1, 1, "S")
    wide = w.axes("Unsqueeze", mask, [1, 2], BOOL, shape)
    lowest = float(np.finfo(w.shared.dtype).min)
    if w.chance():
        low = w.const(w.among([-1e4, -np.inf, lowest]), fixed=True)
        return w.float("Where", wide, scores, low, like=scores)
    # With -1e4 rows without any True would depend on how scores round beside it.
    low = w.const(w.among([lowest, -np.inf]), fixed=True)
    bias = w.node("Where", [wide, w.const(0.0, fixed=True), low], FLOAT, shape)
    return w.float("Add", scores, bias)


def recurrent(w: Writer) -> Value:
    """Write an LSTM or a GRU over tokens, of which one output is read."""
    x = _tokens(w)
    steps, batch, size = x.shape[0], x.shape[1], int(x.shape[2])
    gates, op_type = w.among([(4, "LSTM"), (3, "GRU")])
    inputs = [x, w.weight(1, gates * 2, size), w.weight(1, gates * 2, 2)]
    if w.chance():
        inputs.append(w.const(w.rng.standard_normal((1, 2 * gates * 2))))
    made = [(FLOAT, (steps, 1, batch, 2)), (FLOAT, (1, batch, 2))]
    every, last = w.outputs(op_type, inputs, made, hidden_size=2)
    return w.axes("Squeeze", every, [1], FLOAT, (steps, batch, 2)) if w.chance() else last


def quantized(w: Writer) -> Value:
    """Quantize and dequantize a value."""
    x = w.pick()
    if w.shared.dtype != np.float32:
        return w.float("Neg", x)
    scale = w.const(0.05, fixed=True)
    zero = w.name("zero")
    w.constants[zero] = np.array(128, np.uint8)
    given = Value(zero, INT, ())
    made = w.outputs("QuantizeLinear", [x, scale, given], [("small", x.shape)])[0]
    return w.node("DequantizeLinear", [made, scale, given], FLOAT, x.shape)


def dropout(w: Writer) -> Value:
    """Write what training leaves behind."""
    return w.float("Dropout", w.pick())
