"""Statements that move, cut, join and count: reshapes, transposes, slices, gathers, reductions."""

from __future__ import annotations

from writing.writer import FLOAT, INT, LARGEST, MOST_DIMS, Dim, Shape, Value, Writer, count


def transpose(w: Writer) -> Value:
    """Permute axes, sometimes twice."""
    x = w.pick(fits=lambda v: v.rank > 1)
    for _ in range(w.integer(1, 2)):
        perm = w.order(range(x.rank))
        x = w.node("Transpose", [x], FLOAT, tuple(x.shape[axis] for axis in perm), perm=perm)
    return x


def reshape(w: Writer) -> Value:
    """Reshape by a constant target, by one that is computed, or by Flatten."""
    x = w.pick(fits=lambda v: v.rank > 0)
    how = w.shared.choose(5)
    if how == 0:
        return _merge(w, x)
    if how == 1:
        return _split_last(w, x)
    if how == 2 and x.rank > 1 and all(isinstance(dim, int) for dim in x.shape[1:]):
        return w.node("Flatten", [x], FLOAT, (x.shape[0], count(x.shape[1:])), axis=1)
    if how == 3 and isinstance(x.shape[-1], int):
        return _to_computed_shape(w, x)
    axis = w.integer(0, x.rank)
    if x.rank == MOST_DIMS:
        return _merge(w, x)
    wide = w.axes("Unsqueeze", x, [axis], FLOAT, (*x.shape[:axis], 1, *x.shape[axis:]))
    return w.axes("Squeeze", wide, [axis], FLOAT, x.shape) if w.chance() else wide


def _merge(w: Writer, x: Value) -> Value:
    """Merge two neighbouring axes of which one at most is named."""
    places = [
        axis for axis in range(x.rank - 1)
        if all(isinstance(dim, int) for dim in x.shape[axis : axis + 2])
    ]  # fmt: skip
    if not places:
        return w.node("Reshape", [x, w.ints(*[0] * x.rank)], FLOAT, x.shape)
    axis = w.among(places)
    size = int(x.shape[axis]) * int(x.shape[axis + 1])
    shape = (*x.shape[:axis], size, *x.shape[axis + 2 :])
    return w.node("Reshape", [x, w.ints(*_target(w, x.shape, shape))], FLOAT, shape)


def _split_last(w: Writer, x: Value) -> Value:
    last = x.shape[-1]
    if not isinstance(last, int) or last % 2 or x.rank >= MOST_DIMS:
        return _merge(w, x)
    shape = (*x.shape[:-1], 2, last // 2)
    return w.node("Reshape", [x, w.ints(*_target(w, x.shape, shape))], FLOAT, shape)


def _target(w: Writer, source: Shape, wanted: Shape) -> list[int]:
    """Write a shape as Reshape takes it: 0 for what stays, -1 for one that is left open."""
    target = [
        dim if isinstance(dim, int) else 0 if source[axis : axis + 1] == (dim,) else -1
        for axis, dim in enumerate(wanted)
    ]
    fixed = [axis for axis, dim in enumerate(target) if dim > 0]
    if fixed and -1 not in target and w.chance():
        target[w.among(fixed)] = -1
    return target


def _to_computed_shape(w: Writer, x: Value) -> Value:
    """Reshape to what Shape, Gather and Concat say, and sometimes back."""
    sizes = w.node("Shape", [x], INT, (x.rank,))
    parts = []
    for axis in range(x.rank - 1):
        if w.chance():
            place = w.const(axis, INT, fixed=True)
            part = w.node("Gather", [sizes, place], INT, (), axis=0)
            part = w.axes("Unsqueeze", part, [0], INT, (1,))
        else:
            bounds = [w.ints(axis), w.ints(axis + 1)]
            part = w.node("Slice", [sizes, *bounds], INT, (1,))
        parts.append(part)
    last = int(x.shape[-1])
    shape: Shape = (*x.shape[:-1], last, 1) if x.rank < MOST_DIMS else x.shape
    tail = w.ints(last, 1) if x.rank < MOST_DIMS else w.ints(-1)
    length = len(shape)
    target = w.node("Concat", [*parts, tail], INT, (length,), axis=0)
    return w.node("Reshape", [x, target], FLOAT, shape)


def _sized_axis(w: Writer, least: int = 2) -> tuple[Value, int] | None:
    x = w.pick(fits=lambda v: any(isinstance(dim, int) and dim >= least for dim in v.shape))
    axes = [a for a, dim in enumerate(x.shape) if isinstance(dim, int) and dim >= least]
    return x, w.among(axes)


def _with(shape: Shape, axis: int, dim: Dim) -> Shape:
    return (*shape[:axis], dim, *shape[axis + 1 :])


def cut(w: Writer) -> Value:
    """Cut out a part of an axis, forwards or backwards, or the last of a named one."""
    x, axis = _sized_axis(w)
    if w.chance(5) and x.rank > 1 and not isinstance(x.shape[1], int):
        inputs = [w.ints(-1), w.ints(2**31 - 1), w.ints(1)]
        return w.node("Slice", [x, *inputs], FLOAT, _with(x.shape, 1, 1))
    size = int(x.shape[axis])
    start = w.integer(0, size - 1)
    stop = w.integer(start + 1, size)
    step = w.among([1, 1, 2, -1])
    shown = axis - x.rank if w.chance() else axis
    bounds = (start, stop)
    length = -(-(stop - start) // abs(step))
    if step < 0:
        bounds = (stop - 1, start - 1 if start else -(2**31))
    elif stop == size and w.chance():
        bounds = (start, 2**31 - 1)
    inputs = [w.ints(bounds[0]), w.ints(bounds[1]), w.ints(shown)]
    if step != 1 or w.chance():
        inputs.append(w.ints(step))
    return w.node("Slice", [x, *inputs], FLOAT, _with(x.shape, axis, length))


def split(w: Writer) -> Value:
    """Split an axis in two and join, swap or keep the halves."""
    x, axis = _sized_axis(w)
    size = int(x.shape[axis])
    first = size // 2 if w.chance() else w.integer(1, size - 1)
    shapes = [_with(x.shape, axis, part) for part in (first, size - first)]
    made = [(FLOAT, shape) for shape in shapes]
    sizes = [first, size - first]
    if w.opset >= 13:
        parts = w.outputs("Split", [x, w.ints(*sizes)], made, axis=axis)
    else:
        parts = w.outputs("Split", [x], made, axis=axis, split=sizes)
    how = w.shared.choose(4)
    if how == 0:
        return parts[0]
    if how == 1 and shapes[0] == shapes[1]:
        return w.float("Mul", parts[0], w.float("Sigmoid", parts[1]))
    if how == 2:
        parts = parts[::-1]
    return w.node("Concat", parts, FLOAT, x.shape, axis=axis)


def concat(w: Writer) -> Value:
    """Join a value with one of the same other dimensions, or with a constant."""
    x, axis = _sized_axis(w, 1)
    others = [
        v for v in w.visible[::-1]
        if v.kind == FLOAT and v.rank == x.rank and isinstance(v.shape[axis], int)
        and _with(v.shape, axis, 0) == _with(x.shape, axis, 0)
    ][:4]  # fmt: skip
    other = w.among(others) if others else x
    if x.static and w.chance(4):
        other = w.const(w.rng.standard_normal(x.shape))
    size = int(x.shape[axis]) + int(other.shape[axis])
    shape = _with(x.shape, axis, size)
    if count(shape) > LARGEST:
        return w.float("Neg", x)
    parts = [other, x] if w.chance() else [x, other]
    return w.node("Concat", parts, FLOAT, shape, axis=axis - x.rank if w.chance() else axis)


def gather(w: Writer) -> Value:
    """Take places of an axis: one, several, or those that an input of the model says."""
    how = w.shared.choose(4)
    if how == 3:
        table = w.weight(4, 8)
        ids = w.input("ids")
        return w.node("Gather", [table, ids], FLOAT, (*ids.shape, 8), axis=0)
    x, axis = _sized_axis(w, 1)
    size = int(x.shape[axis])
    if how == 0:
        place = w.const(w.integer(0, size - 1) - (size if w.chance() else 0), INT, fixed=True)
        return w.node(
            "Gather", [x, place], FLOAT, (*x.shape[:axis], *x.shape[axis + 1 :]), axis=axis
        )
    places = [w.integer(0, size - 1) for _ in range(w.integer(1, 3))]
    if how == 2:
        places = list(range(size))
    shape = _with(x.shape, axis, len(places))
    return w.node("Gather", [x, w.ints(*places)], FLOAT, shape, axis=axis)


def pad(w: Writer) -> Value:
    """Pad an axis by zeros, the edge or a reflection, or repeat it."""
    x, axis = _sized_axis(w, 3)
    size = int(x.shape[axis])
    how = w.shared.choose(5)
    if how == 4:
        repeats = [1] * x.rank
        repeats[axis] = 2
        shape = _with(x.shape, axis, 2 * size)
        if count(shape) > LARGEST:
            return w.float("Abs", x)
        return w.node("Tile", [x, w.ints(*repeats)], FLOAT, shape)
    before, after = w.integer(0, 2), w.integer(0, 1)
    pads = [0] * (2 * x.rank)
    pads[axis], pads[axis + x.rank] = before, after
    mode = ("constant", "constant", "edge", "reflect")[how]
    inputs = [x, w.ints(*pads)] + ([w.const(0.0)] if how == 1 else [])
    return w.node("Pad", inputs, FLOAT, _with(x.shape, axis, size + before + after), mode=mode)


def reduce(w: Writer) -> Value:
    """Reduce one axis or two, keeping them or not."""
    x = w.pick(fits=lambda v: v.rank > 0)
    op_type = w.among(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceMin"])
    axes = sorted(w.order(range(x.rank))[: w.integer(1, min(2, x.rank))])
    keep = w.integer(0, 1)
    shown = [axis - x.rank for axis in axes] if w.chance() else axes
    kept = [1 if a in axes else dim for a, dim in enumerate(x.shape) if keep or a not in axes]
    return w.axes(op_type, x, shown, FLOAT, tuple(kept), keepdims=keep)


def softmax(w: Writer) -> Value:
    """Normalize over an axis; before opset 13 over all from it on."""
    x = w.pick(fits=lambda v: v.rank > 0)
    axis = x.rank - 1 if w.chance(3) is False else w.integer(0, x.rank - 1)
    op_type = w.among(["Softmax", "Softmax", "LogSoftmax"])
    return w.float(op_type, x, axis=axis - x.rank if w.chance() else axis)


def expand(w: Writer) -> Value:
    """Broadcast to a constant shape, or to the shape of another value."""
    x = w.pick(fits=lambda v: v.rank > 0)
    if w.chance():
        target = w.node("Shape", [x], INT, (x.rank,))
        return w.node("Expand", [x, target], FLOAT, x.shape)
    shape = tuple(dim if isinstance(dim, int) else 1 for dim in x.shape)
    return w.node("Expand", [x, w.ints(*shape)], FLOAT, x.shape)


def scan_or_choose(w: Writer) -> Value:
    """Sum up along an axis, take the largest elements, or their places."""
    x, axis = _sized_axis(w, 2)
    how = w.shared.choose(3)
    if how == 0:
        return w.node("CumSum", [x, w.const(axis, INT, fixed=True)], FLOAT, x.shape)
    if how == 1:
        made = [(FLOAT, _with(x.shape, axis, 2)), (INT, _with(x.shape, axis, 2))]
        return w.outputs("TopK", [x, w.ints(2)], made, axis=axis)[0]
    return w.node("ArgMax", [x], INT, _with(x.shape, axis, 1), axis=axis, keepdims=1)
