"""Vectors of sizes, followed through shape arithmetic: Shape → Gather → Concat and its like.

A vector of integers is a tuple of items: a number, the name of a dimension, or None where nothing
is known. Dimensions of the same name have the same size (ONNX IR, 'Static tensor shapes').
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from onnxopt.graph import dims, facts, formulas
from onnxopt.graph._onnx_ir import ir

Item = int | str | None
LONGEST = 64
"""Longer vectors are no shapes."""

INTEGERS = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


@dataclass(frozen=True)
class Vector:
    """What is known of a tensor of integers of rank 0 or 1."""

    items: tuple[Item, ...]
    scalar: bool = False

    def numbers(self) -> tuple[int, ...] | None:
        """Return the items where all are numbers, or None."""
        found = tuple(item for item in self.items if isinstance(item, int))
        return found if len(found) == len(self.items) else None


class Vectors:
    """What is known of the vectors of a model, as far as its nodes have been visited in order.

    `opset` is the operator set in force, set by whoever walks.
    """

    def __init__(self) -> None:
        self.known: dict[ir.Value, Vector] = {}
        self.opset = 0

    def of(self, value: ir.Value | None) -> Vector | None:
        """Return what is known of a value: computed by a visited node, or a constant."""
        if value is None:
            return None
        if value in self.known:
            return self.known[value]
        rank = facts.rank(value)
        if facts.dtype(value) not in INTEGERS or rank is None or rank > 1:
            return None
        array = facts.constant(value, limit=LONGEST)
        if array is None:
            sizes = facts.static_shape(value)
            count = math.prod(sizes or ())
            if sizes is None or count > LONGEST:
                return None
            return Vector((None,) * count, rank == 0)
        return Vector(tuple(int(item) for item in array.reshape(-1)), rank == 0)

    def visit(self, node: ir.Node) -> Vector | None:
        """Evaluate a node that computes a vector; None where it does not, or nothing is known."""
        evaluate = None if node.domain else _EVALUATE.get(node.op_type)
        if evaluate is None or len(node.outputs) != 1:
            return None
        vector = evaluate(self, node)
        if vector is None or len(vector.items) > LONGEST:
            return None
        self.known[node.outputs[0]] = vector
        return vector


def _shape(walk: Vectors, node: ir.Node) -> Vector | None:
    known = dims.shape(node.inputs[0])
    if known is None:
        return None
    start, end = node.attributes.get_int("start", 0), node.attributes.get_int("end", len(known))
    return Vector(known[start:end]) if walk.opset >= 15 else Vector(known)


def _size(walk: Vectors, node: ir.Node) -> Vector | None:  # noqa: ARG001
    sizes = facts.static_shape(node.inputs[0])
    return None if sizes is None else Vector((math.prod(sizes),), scalar=True)


def _same(walk: Vectors, node: ir.Node) -> Vector | None:
    before, after = facts.dtype(node.inputs[0]), facts.dtype(node.outputs[0])
    if after not in INTEGERS or (before != after and after == ir.DataType.BOOL):
        return None
    vector = walk.of(node.inputs[0])
    narrow = after == ir.DataType.INT32 and before == ir.DataType.INT64
    if vector is not None and narrow:
        wide = [item for item in vector.items if isinstance(item, int) and abs(item) >= 2**31]
        return None if wide else vector
    return vector


def _gather(walk: Vectors, node: ir.Node) -> Vector | None:
    data, indices = walk.of(node.inputs[0]), walk.of(node.inputs[1])
    axis: int = node.attributes.get_int("axis", 0)
    if data is None or indices is None or data.scalar or axis not in (0, -1):
        return None
    places = indices.numbers()
    count = len(data.items)
    if places is None or any(not -count <= place < count for place in places):
        return None
    return Vector(tuple(data.items[place] for place in places), indices.scalar)


def _slice(walk: Vectors, node: ir.Node) -> Vector | None:
    data = walk.of(node.inputs[0])
    if data is None or data.scalar:
        return None
    if walk.opset < 10:
        parts = [node.attributes.get_ints(name, None) for name in ("starts", "ends")]
        step: tuple[int, ...] | None = (1,)
    else:
        parts = [_numbers(walk, node, index) for index in (1, 2)]
        step = _numbers(walk, node, 4) if len(node.inputs) > 4 and node.inputs[4] else (1,)
    if any(part is None or len(part) != 1 for part in (*parts, step)):
        return None
    start, stop, stride = (part[0] for part in (*parts, step) if part is not None)
    if stride < 1:
        return None
    return Vector(data.items[start:stop:stride])


def _concat(walk: Vectors, node: ir.Node) -> Vector | None:
    items: list[Item] = []
    for value in node.inputs:
        part = walk.of(value)
        if part is None or part.scalar:
            return None
        items.extend(part.items)
    return Vector(tuple(items))


def _unsqueeze(walk: Vectors, node: ir.Node) -> Vector | None:
    data = walk.of(node.inputs[0])
    if data is None or not data.scalar or facts.rank(node.outputs[0]) != 1:
        return None
    return Vector(data.items)


def _to_rank(walk: Vectors, node: ir.Node) -> Vector | None:
    """Squeeze and Reshape of a vector to rank 0 or 1 keep its items."""
    data, rank = walk.of(node.inputs[0]), facts.rank(node.outputs[0])
    if data is None or rank not in (0, 1) or (rank == 0 and len(data.items) != 1):
        return None
    return Vector(data.items, rank == 0)


def _binary(
    compute: Callable[[Item, Item], Item],
) -> Callable[[Vectors, ir.Node], Vector | None]:
    def evaluate(walk: Vectors, node: ir.Node) -> Vector | None:
        if len(node.inputs) != 2 or facts.dtype(node.outputs[0]) not in INTEGERS:
            return None
        left, right = walk.of(node.inputs[0]), walk.of(node.inputs[1])
        if left is None or right is None:
            return None
        count = max(len(left.items), len(right.items))
        if not {len(left.items), len(right.items)} <= {1, count}:
            return None
        mine = left.items * (count if len(left.items) == 1 else 1)
        theirs = right.items * (count if len(right.items) == 1 else 1)
        items = tuple(compute(a, b) for a, b in zip(mine, theirs, strict=True))
        return Vector(items, left.scalar and right.scalar)

    return evaluate


def _add(a: Item, b: Item) -> Item:
    if isinstance(a, int) and isinstance(b, int):
        return a + b
    return formulas.total(a, b)


def _subtract(a: Item, b: Item) -> Item:
    if isinstance(a, int) and isinstance(b, int):
        return a - b
    return formulas.difference(a, b)


def _multiply(a: Item, b: Item) -> Item:
    if isinstance(a, int) and isinstance(b, int):
        return a * b
    return 0 if 0 in (a, b) else formulas.product(a, b)


def _divide(a: Item, b: Item) -> Item:
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b) if b else 0  # ONNX truncates towards zero
        return None if b == 0 else quotient if (a < 0) == (b < 0) else -quotient
    return formulas.quotient(a, b)


def _equal(a: Item, b: Item) -> Item:
    if isinstance(a, int) and isinstance(b, int):
        return int(a == b)
    if a is not None and a == b:
        return 1
    # The size of a dimension is never negative.
    negative = [item for item in (a, b) if isinstance(item, int) and item < 0]
    return 0 if negative and isinstance(a, str) != isinstance(b, str) else None


def _where(walk: Vectors, node: ir.Node) -> Vector | None:
    parts = [walk.of(value) for value in node.inputs]
    if facts.dtype(node.outputs[0]) not in INTEGERS:
        return None
    vectors = [part for part in parts if part is not None]
    if len(vectors) != 3:
        return None
    count = max(len(part.items) for part in vectors)
    if any(len(part.items) not in (1, count) for part in vectors):
        return None
    spread = [part.items * (count if len(part.items) == 1 else 1) for part in vectors]
    items = tuple(
        a if a == b else None if test is None else a if test else b
        for test, a, b in zip(*spread, strict=True)
    )
    return Vector(items, all(part.scalar for part in vectors))


def _constant_of_shape(walk: Vectors, node: ir.Node) -> Vector | None:
    size = walk.of(node.inputs[0])
    lengths = None if size is None else size.numbers()
    held = node.attributes.get("value")
    kind = facts.dtype(node.outputs[0])
    if lengths is None or len(lengths) > 1 or kind not in INTEGERS or held is None:
        return None
    count = lengths[0] if lengths else 1
    if held.is_ref() or not 0 <= count <= LONGEST:
        return None
    return Vector((int(held.as_tensor().numpy().item()),) * count, not lengths)


def _numbers(walk: Vectors, node: ir.Node, index: int) -> tuple[int, ...] | None:
    if index >= len(node.inputs):
        return None
    part = walk.of(node.inputs[index])
    return None if part is None else part.numbers()


_EVALUATE: dict[str, Callable[[Vectors, ir.Node], Vector | None]] = {
    "Shape": _shape,
    "Size": _size,
    "Identity": _same,
    "Cast": _same,
    "Gather": _gather,
    "Slice": _slice,
    "Concat": _concat,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _to_rank,
    "Reshape": _to_rank,
    "Add": _binary(_add),
    "Sub": _binary(_subtract),
    "Mul": _binary(_multiply),
    "Div": _binary(_divide),
    "Equal": _binary(_equal),
    "Where": _where,
    "ConstantOfShape": _constant_of_shape,
}
