"""How the graph uses an input: as indices into a table, as a mask, as a value it compares with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxopt.graph._onnx_ir import ir


@dataclass(frozen=True, kw_only=True)
class Role:
    """What the uses of an input tell about its values.

    `below` is the size of the smallest table that it indexes; `equals` are the constants that it
    is compared with; `count` marks a shape, a repetition or a number of steps; `mask` an input
    that is subtracted from one, or turned into a condition; `lengths` the lengths of sequences.
    """

    below: int | None = None
    equals: tuple[int | float, ...] = ()
    count: bool = False
    mask: bool = False
    lengths: bool = False


# Operators whose output holds the same values: input index to follow (None: any).
_PASSING: dict[str, int | None] = {
    "Cast": 0, "Concat": None, "Expand": 0, "Flatten": 0, "Gather": 0, "GatherND": 0,
    "Identity": 0, "Reshape": 0, "Slice": 0, "Split": 0, "Squeeze": 0, "Tile": 0, "Transpose": 0,
    "Unsqueeze": 0,
}  # fmt: skip
# Table lookups: operator to the input that holds indices and the input that is the table.
_LOOKUPS: dict[str, dict[int, int]] = {
    "Gather": {1: 0},
    "GatherElements": {1: 0},
    "GatherND": {1: 0},
    "GatherBlockQuantized": {1: 0},
    "EmbedLayerNormalization": {0: 2, 1: 4},
}
_COUNTS = {
    ("ConstantOfShape", 0), ("Expand", 1), ("Loop", 0), ("Pad", 1), ("Range", 0), ("Range", 1),
    ("Range", 2), ("Reshape", 1), ("Resize", 3), ("Slice", 1), ("Slice", 2), ("Tile", 1),
    ("TopK", 1), ("NonMaxSuppression", 2), ("OneHot", 1),
}  # fmt: skip


def find_role(model: ir.Model, value: ir.Value) -> Role:
    """Follow an input through the nodes that pass its values on and see what reads them."""
    bounds: list[int] = []
    equals: list[int | float] = []
    count = mask = lengths = False
    for node, index in _readers(model, value):
        op = node.op_type
        table = _LOOKUPS.get(op, {}).get(index)
        if table is not None and (size := _table_size(node, table)) is not None:
            bounds.append(size)
        elif op == "OneHot" and index == 0 and (depth := _scalar(node.inputs[1])) is not None:
            bounds.append(int(depth))
        elif op == "Equal":
            others = _constants(node.inputs[1 - index])
            if len(others) > 1 and min(others) >= 0:  # one-hot by comparing with 0, 1, 2, …
                bounds.append(int(max(others)) + 1)
            equals.extend(others if len(others) == 1 else ())
        elif op == "Sub" and index == 1 and _scalar(node.inputs[0]) == 1:
            mask = True
        mask |= (op, index) in {("Where", 0), ("And", 0), ("And", 1), ("Not", 0)}
        count |= (op, index) in _COUNTS
        lengths |= op in {"LSTM", "GRU", "RNN"} and index == 4
    known = min((bound for bound in bounds if bound > 0), default=None)
    return Role(
        below=known,
        equals=tuple(dict.fromkeys(equals)),
        count=count,
        mask=mask,
        lengths=lengths,
    )


def _readers(model: ir.Model, start: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    """Yield every node that reads the values of `start`, nested graphs and functions included."""
    seen = {start}
    todo = [start]
    while todo:
        for node, index in todo.pop().uses():
            yield node, index
            for value in _same_values(model, node, index):
                if value not in seen:
                    seen.add(value)
                    todo.append(value)


def _same_values(model: ir.Model, node: ir.Node, index: int) -> list[ir.Value]:
    function = model.functions.get(node.op_identifier())
    if function is not None:
        return [function.inputs[index]] if index < len(function.inputs) else []
    if node.op_type in {"Loop", "Scan"} and (body := node.attributes.get("body")) is not None:
        inputs = body.as_graph().inputs
        return [inputs[index]] if index < len(inputs) else []
    followed = _PASSING.get(node.op_type, -1)
    return list(node.outputs) if followed is None or followed == index else []


def _table_size(node: ir.Node, table: int) -> int | None:
    value = node.inputs[table]
    axis = node.attributes.get_int("axis", 0) if node.op_type.startswith("Gather") else 0
    if axis is None or node.op_type == "GatherND":
        axis = 0
    shape = _known_shape(value)
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    size = shape[axis]
    return size if isinstance(size, int) else None


def _known_shape(value: ir.Value | None) -> tuple[object, ...] | None:
    """Return a value's shape, looking through the nodes that keep it (a dequantized table)."""
    from onnxopt.graph._onnx_ir import ir

    for _ in range(8):
        if value is None:
            return None
        if value.shape is not None:
            return tuple(value.shape)
        if (tensor := ir.convenience.get_const_tensor(value)) is not None:
            return tuple(tensor.shape)
        node = value.producer()
        if node is None or node.op_type not in {"DequantizeLinear", "Cast", "Identity"}:
            return None
        value = node.inputs[0]
    return None


def _scalar(value: ir.Value | None) -> int | float | None:
    numbers = _constants(value)
    return numbers[0] if len(numbers) == 1 else None


def _constants(value: ir.Value | None) -> list[int | float]:
    """Return the numbers of a small constant, or nothing where the value is none."""
    from onnxopt.graph._onnx_ir import ir

    tensor = None if value is None else ir.convenience.get_const_tensor(value)
    if tensor is None or tensor.size > 65536 or tensor.dtype is ir.DataType.STRING:
        return []
    return [
        number for number in tensor.numpy().reshape(-1).tolist() if isinstance(number, (int, float))
    ]
