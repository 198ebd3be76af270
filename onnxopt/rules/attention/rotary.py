"""Rotary position embeddings, as one operator.

A head's vector is taken as two halves x = (a, b), and each pair (aᵢ, bᵢ) is turned by an angle φᵢ
that grows with the position (Su et al. 2021): (a·cos φ - b·sin φ, b·cos φ + a·sin φ). Exporters
write x·C + (-b, a)·S, where C = (cos φ, cos φ) and S = (sin φ, sin φ) over the last axis.

onnxruntime's RotaryEmbedding takes tables of cos φ and sin φ, half as wide, a row for each
position, and the positions; operands packed or parted (see `heads`). Angles that are the same for
all batches are tables already, and the positions count from zero. Otherwise each batch and token
gets its row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.attention.heads import PART, packed
from onnxopt.rules.elementwise import remade
from onnxopt.rules.layout.slices import read_slice

x, cosines, sines = var("x"), var("cosines"), var("sines")
_CURVES = frozenset({"Cos", "Sin", "Cast", "Mul", "Identity"})
_DEPTH = 6


@rule(
    op.Mul(x, cosines) + op.Mul(op.Concat(bind="turned"), sines),
    since=13,
    targets=("portable", "cpu", "cuda"),
)
def fuse_rotary_embedding(
    new: Builder, x: ir.Value, turned: ir.Node, cosines: ir.Value, sines: ir.Value
) -> Any:
    """x·(cos φ, cos φ) + (-b, a)·(sin φ, sin φ) of x = (a, b) becomes RotaryEmbedding(x)."""
    standard = "com.microsoft" not in new.target.domains
    shape = dims.shape(x)
    if shape is None or len(shape) != 4 or not isinstance(shape[3], int):
        return None
    if (standard and new.opset < 23) or shape[3] % 2:
        return None
    if facts.dtype(x) != ir.DataType.FLOAT or not _is_half_turn(new, turned, x, shape[3]):
        return None
    half = shape[3] // 2
    tables = [_table(new, angles, half) for angles in (cosines, sines)]
    if standard:
        return new.RotaryEmbedding(x, *(_for_batches(new, x, table) for table in tables))
    positions, rows = _positions(new, tables[0], shape[0]), np.array([-1, half], np.int64)
    tables = [new.Reshape(table, rows) for table in tables]
    source, heads = packed(x), shape[1]
    made = new.of("com.microsoft").RotaryEmbedding(
        x if source is None else source, positions, *tables
    )
    if source is None:
        return made
    made.shape = source.shape
    parted = new.Reshape(made, np.array([0, 0, heads, shape[3]], np.int64))
    return new.Transpose(parted, perm=PART)


def _is_half_turn(new: Builder, turned: ir.Node, x: ir.Value, size: int) -> bool:
    """Tell whether a Concat is (-b, a) of x = (a, b) over the last axis."""
    if len(turned.inputs) != 2 or new.attribute(turned, "axis") not in (-1, 3):
        return False
    negative = facts.made_by(turned.inputs[0], "Neg", turned)
    if negative is None:
        return False
    parts = [_part(new, value, x) for value in (turned.inputs[1], negative.inputs[0])]
    return parts == [(0, size // 2), (size // 2, size)]


def _part(new: Builder, value: ir.Value | None, x: ir.Value) -> tuple[int, int] | None:
    """Return from where to where on the last axis a value holds x, or None where it does not."""
    node = None if value is None else value.producer()
    size = dims.extent(x, 3)
    if value is None or node is None or node.domain or node.inputs[0] is not x:
        return None
    if not isinstance(size, int):
        return None
    if node.op_type == "Split" and new.attribute(node, "axis") in (-1, 3):
        sizes = [dims.extent(part, 3) for part in node.outputs]
        known = [part for part in sizes if isinstance(part, int)]
        place = list(node.outputs).index(value)
        return None if len(known) < len(sizes) else (sum(known[:place]), sum(known[: place + 1]))
    cut = read_slice(node, new.opset) if node.op_type == "Slice" else None
    if cut is None or list(cut) != [3]:
        return None
    taken = range(size)[cut[3]]
    return (taken.start, taken.stop) if taken.step == 1 else None


def _table(new: Builder, angles: ir.Value, half: int) -> ir.Value:
    """Return [1 or batch, tokens, half] of a value [1 or batch, 1, tokens, (half, half)]."""
    node = angles.producer()
    if node is not None and node.op_type == "Unsqueeze" and not node.domain:
        shape = dims.shape(node.inputs[0])
        placed = shape is not None and len(shape) == 3 and facts.axes(node, new.opset) == (1,)
        table = _halved(new, node.inputs[0], half, _DEPTH) if placed else None
        if table is not None and shape is not None:
            table.shape = ir.Shape([*shape[:2], half])
            return table
    held = facts.constant(angles)
    rows = 0 if held is None or held.ndim < 2 or held.shape[-1] != 2 * half else held.shape[-2]
    if held is None or held.size != rows * 2 * half or not held.size:
        new.refuse("the angles are not known to be the same for both halves")
    flat = held.reshape(1, rows, 2, half)
    if not np.array_equal(flat[:, :, 0], flat[:, :, 1]):
        new.refuse("the angles of the two halves differ")
    table = new.constant(flat[:, :, 0], facts.dtype(angles))
    table.shape = ir.Shape([1, rows, half])
    return table


def _halved(new: Builder, value: ir.Value | None, half: int, depth: int) -> ir.Value | None:
    """Return one half of a value whose last axis holds the same twice, made anew; None if not."""
    node = None if value is None else value.producer()
    if node is None or node.domain or depth == 0 or dims.extent(value, 2) != 2 * half:
        return None
    if node.op_type == "Concat" and len(node.inputs) == 2:
        same = node.inputs[0] is node.inputs[1] and new.attribute(node, "axis") in (-1, 2)
        return node.inputs[0] if same else None
    if node.op_type not in _CURVES:
        return None
    large = [operand for operand in node.inputs if facts.scalar(operand) is None]
    inner = _halved(new, large[0], half, depth - 1) if len(large) == 1 else None
    if inner is None:
        return None
    inputs = [inner if operand is large[0] else operand for operand in node.inputs]
    return remade(new, node, inputs, None)


def _positions(new: Builder, table: ir.Value, batch: facts.Dim) -> Any:
    """Return the row of each batch and token in a table that was flattened to two axes."""
    rows = dims.extent(table, 0)
    if rows == 1:
        return np.array([0], np.int64)
    if not dims.same(rows, batch):
        new.refuse("the angles are not known to be of one batch or of each")
    sizes = new.Slice(new.Shape(table), np.array([0], np.int64), np.array([2], np.int64))
    count = new.ReduceProd(sizes, keepdims=0)
    zero, one = np.array(0, np.int64), np.array(1, np.int64)
    return new.Reshape(new.Range(zero, count, one), sizes)


def _for_batches(new: Builder, x: ir.Value, table: ir.Value) -> ir.Value:
    """Return a table with a block for each batch, as the operator of the standard asks for."""
    if dims.same(dims.extent(table, 0), dims.extent(x, 0)):
        return table
    if dims.extent(table, 0) != 1:
        new.refuse("the angles are not known to be of one batch or of each")
    batch = new.Slice(new.Shape(x), np.array([0], np.int64), np.array([1], np.int64))
    ones = new.constant(np.array([1, 1], np.int64))
    made: ir.Value = new.Expand(table, new.Concat(batch, ones, axis=0))
    return made
