"""Shapes that onnx's inference leaves open because they come out of shape arithmetic.

onnx follows sizes, and names only through operators that keep them. Here a Reshape, Expand, Range
or Slice whose bounds are vectors of names (see `vectors`) gives its output those names, and the
usual operators hand them on, onnxruntime's own among them, which onnx does not know at all.

A Slice `[:n]` of an axis of 512 has min(512, n) elements. Where such an axis is broadcast against
one of n elements, the result has n: it has 1 ≤ min(512, n) ≤ n, and a model for which the two
differ otherwise than by a 1 does not run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from onnxopt.graph import dims, facts, formulas
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim
from onnxopt.passes.declared import INVENTED, invented
from onnxopt.passes.vectors import Item, Vectors
from onnxopt.rules.elementwise import BINARY, UNARY

Shape = tuple[Dim, ...]

_AT_MOST = f"{INVENTED}at most "
_CONTRIB = "com.microsoft"


def refine(vectors: Vectors, node: ir.Node) -> bool:
    """Give the outputs of a node the dimensions that follow from its inputs; tell if any gained.

    Only what was not known is filled in, or was known as a formula: exporters call a dimension
    `past + sequence` in one place and `sequence + past` in another.
    """
    rule = _SHAPES.get(node.op_type) if node.domain in {"", _CONTRIB} else None
    if rule is None or not any(_open(value) for value in node.outputs):
        return False
    found = rule(vectors, node)
    gained = False
    for value, shape in zip(node.outputs, found, strict=False):
        gained |= shape is not None and _learn(value, shape)
    return gained


def _open(value: ir.Value) -> bool:
    if value.is_graph_output():
        return dims.PROVEN not in value.meta
    shape = facts.shape(value)
    return bool(value.name) and (shape is None or any(map(_vague, shape)))


def _vague(dim: Dim) -> bool:
    """Tell whether a dimension is not known, or bears an invented name or a formula for one."""
    return dim is None or invented(dim) or (isinstance(dim, str) and not formulas.is_plain(dim))


def _learn(value: ir.Value, shape: Shape) -> bool:
    before = facts.shape(value)
    if before is not None and len(before) != len(shape):
        return False
    if value.is_graph_output():
        value.meta[dims.PROVEN] = tuple(
            mine if isinstance(mine, int) else theirs
            for mine, theirs in zip(before or shape, shape, strict=True)
        )
        return True
    old = before or (None,) * len(shape)
    new = tuple(
        theirs if theirs is not None and _vague(mine) else mine
        for mine, theirs in zip(old, shape, strict=True)
    )
    if new == before:
        return False
    value.shape = ir.Shape(new)
    return True


def at_most(name: str, size: int) -> str:
    """Return the name of a dimension of min(`size`, `name`) elements."""
    return f"{_AT_MOST}{size} or {name}"


def joined(one: Dim, other: Dim) -> Dim:
    """Return the size of an axis on which two operands are broadcast, or None."""
    if one == other or other == 1:
        return one
    if one == 1:
        return other
    for mine, theirs in ((one, other), (other, one)):
        if isinstance(mine, int) and mine > 1:
            return mine
        bounded = isinstance(theirs, str) and theirs.startswith(_AT_MOST)
        if mine is not None and bounded and str(theirs).split(" or ", 1)[1] == mine:
            return mine
    return None


def broadcast(shapes: Sequence[Shape | None]) -> Shape | None:
    """Return the shape that operands have when they are broadcast together, or None."""
    known = [shape for shape in shapes if shape is not None]
    if len(known) < len(shapes) or not known:
        return None
    rank = max(map(len, known))
    result: Shape = (1,) * rank
    for shape in known:
        padded = (1,) * (rank - len(shape)) + shape
        result = tuple(map(joined, result, padded))
    return result


Shapes = Sequence[Shape | None]


def _like_first(vectors: Vectors, node: ir.Node) -> Shapes:  # noqa: ARG001
    source, output = node.inputs[0], node.outputs[0]
    if source is not None and output.type is None and node.domain:
        output.type = source.type
    return (dims.shape(source),)


def _like_second(vectors: Vectors, node: ir.Node) -> Shapes:  # noqa: ARG001
    return (dims.shape(node.inputs[1]),)


def _attention(vectors: Vectors, node: ir.Node) -> Shapes:
    """MultiHeadAttention: packed queries; values packed [batch, tokens, heads·size] or parted."""
    _like_first(vectors, node)
    query, value = dims.shape(node.inputs[0]), dims.shape(node.inputs[2])
    if query is None or len(query) != 3 or value is None:
        return ()
    width = value[-1]
    if len(value) == 4 and isinstance(width, int) and isinstance(value[1], int):
        width *= value[1]
    return ((*query[:2], width),)


def _broadcast(vectors: Vectors, node: ir.Node) -> Shapes:  # noqa: ARG001
    return (broadcast([dims.shape(value) for value in node.inputs]),)


def _matmul(vectors: Vectors, node: ir.Node) -> Shapes:  # noqa: ARG001
    left, right = (dims.shape(value) for value in node.inputs[:2])
    if left is None or right is None or min(len(left), len(right)) < 2:
        return ()
    batch = broadcast((left[:-2], right[:-2]))
    return () if batch is None else ((*batch, left[-2], right[-1]),)


def _transpose(vectors: Vectors, node: ir.Node) -> Shapes:
    shape = dims.shape(node.inputs[0])
    perm = facts.attribute(node, "perm", vectors.opset)
    if shape is None:
        return ()
    return (tuple(shape[axis] for axis in perm or range(len(shape) - 1, -1, -1)),)


def _reshape(vectors: Vectors, node: ir.Node) -> Shapes:
    if len(node.inputs) < 2:
        return ()
    target, source = vectors.of(node.inputs[1]), dims.shape(node.inputs[0])
    if target is None:
        return ()
    literal = facts.attribute(node, "allowzero", vectors.opset)
    shape: list[Dim] = []
    for axis, item in enumerate(target.items):
        if item == 0 and not literal:
            shape.append(source[axis] if source is not None and axis < len(source) else None)
        else:
            shape.append(None if item == -1 else item)
    if source is not None and shape.count(None) == 1 and 0 not in shape:
        place = shape.index(None)
        shape[place] = formulas.quotient(
            _count(source), _count([*shape[:place], *shape[place + 1 :]])
        )
    return (tuple(shape),)


def _count(shape: Sequence[Dim]) -> Dim:
    one: Dim = 1
    return functools.reduce(formulas.product, shape, one)


def _expand(vectors: Vectors, node: ir.Node) -> Shapes:
    target = vectors.of(node.inputs[1]) if len(node.inputs) > 1 else None
    return () if target is None else (broadcast((dims.shape(node.inputs[0]), target.items)),)


def _gather(vectors: Vectors, node: ir.Node) -> Shapes:
    data, indices = (dims.shape(value) for value in node.inputs[:2])
    axis = facts.attribute(node, "axis", vectors.opset)
    place = dims.normalized(axis, None if data is None else len(data))
    if data is None or indices is None or place is None:
        return ()
    return ((*data[:place], *indices, *data[place + 1 :]),)


def _gather_nd(vectors: Vectors, node: ir.Node) -> Shapes:
    data, indices = (dims.shape(value) for value in node.inputs[:2])
    depth = None if not indices else indices[-1]
    if data is None or indices is None or not isinstance(depth, int):
        return ()
    batch = facts.attribute(node, "batch_dims", vectors.opset) or 0
    return ((*indices[:-1], *data[batch + depth :]),)


def _unsqueeze(vectors: Vectors, node: ir.Node) -> Shapes:
    shape, axes = dims.shape(node.inputs[0]), facts.axes(node, vectors.opset)
    if shape is None or not axes:
        return ()
    places = dims.normalized_axes(axes, len(shape) + len(axes))
    if places is None:
        return ()
    found = list(shape)
    for place in places:
        found.insert(place, 1)
    return (tuple(found),)


def _squeeze(vectors: Vectors, node: ir.Node) -> Shapes:
    shape, axes = dims.shape(node.inputs[0]), facts.axes(node, vectors.opset)
    places = None if shape is None or not axes else dims.normalized_axes(axes, len(shape))
    if shape is None or places is None:
        return ()
    return (tuple(dim for axis, dim in enumerate(shape) if axis not in places),)


def _concat(vectors: Vectors, node: ir.Node) -> Shapes:
    shapes = [dims.shape(value) for value in node.inputs]
    known = [shape for shape in shapes if shape is not None]
    axis = facts.attribute(node, "axis", vectors.opset)
    if len(known) < len(shapes) or len({len(shape) for shape in known}) != 1 or axis is None:
        return ()
    found: list[Dim] = []
    for place, column in enumerate(zip(*known, strict=True)):
        if place == axis % len(known[0]):
            found.append(functools.reduce(formulas.total, column))
        else:
            found.append(next((dim for dim in column if dim is not None), None))
    return (tuple(found),)


def _slice(vectors: Vectors, node: ir.Node) -> Shapes:
    shape = dims.shape(node.inputs[0])
    if shape is None or len(node.inputs) < 3:
        return ()
    starts, stops = (_items(vectors, node, index) for index in (1, 2))
    axes = _items(vectors, node, 3) if len(node.inputs) > 3 else tuple(range(len(starts)))
    steps = _items(vectors, node, 4) if len(node.inputs) > 4 else (1,) * len(axes)
    unknown = (None,) * len(axes)
    starts, stops, steps = starts or unknown, stops or unknown, steps or unknown
    if not len(starts) == len(stops) == len(axes) == len(steps) or not axes:
        return ()
    found = list(shape)
    for start, stop, axis, step in zip(starts, stops, axes, steps, strict=True):
        place = dims.normalized(axis, len(shape)) if isinstance(axis, int) else None
        if place is None or place >= len(shape):
            return ()
        plain = start == 0 and step == 1
        found[place] = _taken(shape[place], stop) if plain else None
    return (tuple(found),)


def _taken(size: Dim, stop: Item) -> Dim:
    """Return how many elements `[:stop]` takes of an axis."""
    if stop is not None and size == stop:
        return size
    if isinstance(stop, int):
        everything = stop >= dims.TO_THE_END
        return size if everything else stop if isinstance(size, int) and 0 <= stop < size else None
    return at_most(stop, size) if isinstance(size, int) and isinstance(stop, str) else None


def _items(vectors: Vectors, node: ir.Node, index: int) -> tuple[Item, ...]:
    if node.inputs[index] is None:
        return ()
    vector = vectors.of(node.inputs[index])
    return () if vector is None else vector.items


def _range(vectors: Vectors, node: ir.Node) -> Shapes:
    start, stop, step = (_items(vectors, node, index) for index in range(3))
    counts = (start, step) == ((0,), (1,)) and stop and isinstance(stop[0], str)
    return ((stop[0],),) if counts else ()


def _constant_of_shape(vectors: Vectors, node: ir.Node) -> Shapes:
    vector = vectors.of(node.inputs[0])
    return () if vector is None else (vector.items,)


def _split(vectors: Vectors, node: ir.Node) -> Shapes:
    shape = dims.shape(node.inputs[0])
    axis = facts.attribute(node, "axis", vectors.opset)
    if shape is None or axis is None:
        return ()
    part = tuple(None if place == axis % len(shape) else dim for place, dim in enumerate(shape))
    return (part,) * len(node.outputs)


def _reduce(vectors: Vectors, node: ir.Node) -> Shapes:
    shape, axes = dims.shape(node.inputs[0]), facts.axes(node, vectors.opset)
    places = None if shape is None or not axes else dims.normalized_axes(axes, len(shape))
    if shape is None or places is None:
        return ()
    if facts.attribute(node, "keepdims", vectors.opset):
        return (tuple(1 if axis in places else dim for axis, dim in enumerate(shape)),)
    return (tuple(dim for axis, dim in enumerate(shape) if axis not in places),)


_LIKE_FIRST = UNARY | {
    "BiasGelu", "CumSum", "Dropout", "FastGelu", "LayerNormalization", "LogSoftmax", "QuickGelu",
    "RMSNormalization", "RotaryEmbedding", "Softmax", "Trilu",
}  # fmt: skip
_REDUCE = frozenset({
    "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
})  # fmt: skip

_SHAPES: dict[str, Callable[[Vectors, ir.Node], Shapes]] = {
    **dict.fromkeys(_LIKE_FIRST, _like_first),
    **dict.fromkeys(BINARY, _broadcast),
    **dict.fromkeys(_REDUCE, _reduce),
    "MatMul": _matmul,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Expand": _expand,
    "Gather": _gather,
    "GatherElements": _like_second,
    "GatherND": _gather_nd,
    "MultiHeadAttention": _attention,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Concat": _concat,
    "Slice": _slice,
    "Range": _range,
    "ConstantOfShape": _constant_of_shape,
    "Split": _split,
}
