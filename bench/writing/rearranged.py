"""Rearrangements that have an operator or come to nothing: blocks, channels, rotary embeddings."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from writing.writer import FLOAT, Shape, Value, Writer


def channels(w: Writer) -> Value:
    """Rearrange blocks or channels of an image of known size, and sometimes convolve it."""
    x = w.pick(fits=lambda v: v.shape == (1, 4, 6, 6), default="still")
    made = w.among(_REARRANGED)(w, x)
    if not w.chance():
        return made
    kernel = w.among([1, 3])
    count = int(made.shape[1])
    weight = w.const(w.rng.standard_normal((4, count, kernel, kernel)) / (3 * kernel))
    shape: Shape = (made.shape[0], 4, *made.shape[2:])
    pads = [kernel // 2] * 4
    return w.node("Conv", [made, weight], FLOAT, shape, kernel_shape=[kernel] * 2, pads=pads)


def _through(w: Writer, x: Value, parts: Shape, perm: list[int], shape: Shape) -> Value:
    """Reshape, transpose and reshape."""
    y = w.node("Reshape", [x, w.ints(*(int(dim) for dim in parts))], FLOAT, parts)
    y = w.node("Transpose", [y], FLOAT, tuple(parts[axis] for axis in perm), perm=perm)
    return w.node("Reshape", [y, w.ints(*(int(dim) for dim in shape))], FLOAT, shape)


def _space_to_depth(w: Writer, x: Value) -> Value:
    perm = w.among([[0, 3, 5, 1, 2, 4], [0, 1, 3, 5, 2, 4]])
    return _through(w, x, (1, 4, 3, 2, 3, 2), perm, (1, 16, 3, 3))


def _depth_to_space(w: Writer, x: Value) -> Value:
    if w.chance():
        return _through(w, x, (1, 2, 2, 1, 6, 6), [0, 3, 4, 1, 5, 2], (1, 1, 12, 12))
    return _through(w, x, (1, 1, 2, 2, 6, 6), [0, 1, 4, 2, 5, 3], (1, 1, 12, 12))


def _shuffle(w: Writer, x: Value) -> Value:
    return _through(w, x, (1, 2, 2, 6, 6), [0, 2, 1, 3, 4], (1, 4, 6, 6))


def _take(w: Writer, x: Value) -> Value:
    places = w.order(range(4))
    return w.node("Gather", [x, w.ints(*places)], FLOAT, x.shape, axis=1)


def _focus(w: Writer, x: Value) -> Value:
    """Take every other row and column, four times, as YOLOv5 does."""
    parts = []
    for row, column in ((0, 0), (1, 0), (0, 1), (1, 1)):
        part = x
        for axis, start in ((2, row), (3, column)):
            bounds = [w.ints(start), w.ints(2**31 - 1), w.ints(axis), w.ints(2)]
            shape = (*part.shape[:axis], 3, *part.shape[axis + 1 :])
            part = w.node("Slice", [part, *bounds], FLOAT, shape)
        parts.append(part)
    return w.node("Concat", parts, FLOAT, (1, 16, 3, 3), axis=1)


_REARRANGED: tuple[Callable[[Writer, Value], Value], ...] = (
    *(_space_to_depth, _depth_to_space, _shuffle, _take, _focus),
)


def rotary(w: Writer) -> Value:
    """Turn pairs of a value's last axis by angles, as rotary embeddings do."""
    x = w.pick(fits=lambda v: v.rank in (3, 4) and v.shape[-1] in (4, 8))
    size = int(x.shape[-1])
    angles = np.tile(w.rng.uniform(0, 3, size // 2), 2)
    halves = []
    for start, stop in ((0, size // 2), (size // 2, size)):
        bounds = [w.ints(start), w.ints(stop), w.ints(-1)]
        halves.append(w.node("Slice", [x, *bounds], FLOAT, (*x.shape[:-1], size // 2)))
    turned = [w.float("Neg", halves[1]), halves[0]]
    rotated = w.node("Concat", turned, FLOAT, x.shape, axis=-1)
    upright = w.float("Mul", x, w.const(np.cos(angles)))
    return w.float("Add", upright, w.float("Mul", rotated, w.const(np.sin(angles))))


def turned_gemm(w: Writer) -> Value:
    """Transpose one operand of a Gemm or a MatMul, and scale what comes of it."""
    x = w.pick(fits=lambda v: v.rank == 2 and v.static, default="table")
    rows, columns = (int(dim) for dim in x.shape)
    turned = w.node("Transpose", [x], FLOAT, (columns, rows), perm=[1, 0])
    weight = w.weight(rows, 4)
    how = w.shared.choose(3)
    if how == 0:
        return w.node("Gemm", [turned, weight], FLOAT, (columns, 4), alpha=w.among([1.0, 0.5]))
    made = w.node("MatMul", [turned, weight], FLOAT, (columns, 4))
    if how == 1:
        made = w.float("Sub", made, w.const(w.rng.standard_normal(4)))
    return w.float("Div", made, w.const(w.among([2.0, 0.5])))
