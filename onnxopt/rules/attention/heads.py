"""How an attention's operands are laid out: what the fusions of attention share.

A multi-head attention has queries [batch, queries, heads·size] ('packed'), which a Reshape and a
Transpose make [batch, heads, queries, size] ('parted'); keys and values likewise. Fused operators
take packed queries; so what parted them can go.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder

PART = (0, 2, 1, 3)
"""The permutation between [batch, tokens, heads, size] and [batch, heads, tokens, size]."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """softmax(scale·Q·Kᵀ + mask)'s operands: Q and K parted, what multiplies their product."""

    query: ir.Value
    key: ir.Value
    scale: float
    batch: facts.Dim
    heads: int
    queries: facts.Dim
    keys: facts.Dim
    size: int


def scores_of(new: Builder, product: ir.Node, scale: float) -> Scores:
    """Read a product Q·Kᵀ, whose operands may be scaled by numbers; refuse what is none.

    `scale` is what the product itself is multiplied by.
    """
    query, mine = unscaled(product.inputs[0])
    turned, theirs = unscaled(product.inputs[1])
    shape, other = dims.shape(query), dims.shape(turned)
    if shape is None or other is None or len(shape) != 4 or len(other) != 4:
        new.refuse("the shapes of queries and keys are not known")
    batch, heads, queries, size = shape
    if not isinstance(heads, int) or not isinstance(size, int) or other[1] != heads:
        new.refuse("the number of heads or their size is not known")
    if not dims.same(batch, other[0]):
        new.refuse("queries and keys are not known to have the same batch")
    key, more = _key(new, turned)
    scale *= mine * theirs * more
    if query is None or not scale > 0 or not np.isfinite(scale):
        new.refuse(f"the scores are scaled by {scale}")
    return Scores(
        query=query, key=key, scale=scale, batch=batch, heads=heads, queries=queries,
        keys=other[3], size=size,
    )  # fmt: skip


def unscaled(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """Return what a Mul or Div by a number has been given, and the factor, or the value and 1."""
    node = None if value is None else value.producer()
    if node is not None and not node.domain and facts.is_private(value):
        numbers = [facts.scalar(operand) for operand in node.inputs]
        if node.op_type == "Mul":
            for place in (0, 1):
                number = numbers[1 - place]
                if number is not None and numbers[place] is None:
                    return node.inputs[place], float(number)
        if node.op_type == "Div" and numbers[1]:
            return node.inputs[0], 1.0 / float(numbers[1])
    return value, 1.0


def _key(new: Builder, turned: ir.Value | None) -> tuple[ir.Value, float]:
    """Return the parted keys of which a product reads the transposed, and a factor found on top."""
    node = None if turned is None else facts.made_by(turned, "Transpose", new.root)
    perm = None if node is None else new.attribute(node, "perm")
    if node is None or node.inputs[0] is None or perm not in ((0, 1, 3, 2), (0, 2, 3, 1)):
        new.refuse("the keys are not transposed")
    source, factor = unscaled(node.inputs[0])
    assert source is not None
    if perm == (0, 1, 3, 2):
        return source, factor
    parted: ir.Value = new.Transpose(source, perm=PART)
    shape = dims.shape(source)
    if shape is None:
        new.refuse("the shape of the keys is not known")
    parted.shape = ir.Shape([shape[axis] for axis in PART])
    return parted, factor


def packed(value: ir.Value) -> ir.Value | None:
    """Return [batch, tokens, heads·size] of which a parted value was made, or None."""
    turn = value.producer()
    if turn is None or turn.op_type != "Transpose" or turn.domain:
        return None
    part = turn.inputs[0].producer() if turn.inputs[0] is not None else None
    if part is None or part.op_type != "Reshape" or part.domain:
        return None
    if facts.attribute(turn, "perm", 1) != PART:
        return None
    source, shape = dims.shape(part.inputs[0]), dims.shape(value)
    if source is None or shape is None or len(source) != 3 or not isinstance(source[2], int):
        return None
    heads, size = shape[1], shape[3]
    if not isinstance(heads, int) or not isinstance(size, int) or heads * size != source[2]:
        return None
    same = dims.same(source[0], shape[0]) or dims.same(source[1], shape[2])
    return part.inputs[0] if same else None


def pack(new: Builder, value: ir.Value) -> ir.Value:
    """Return a parted value packed: what it was made of, or a Transpose and a Reshape of it."""
    found = packed(value)
    if found is not None:
        return found
    batch, heads, tokens, size = dims.shape(value) or (None,) * 4
    assert isinstance(heads, int)
    assert isinstance(size, int)
    turned = new.Transpose(value, perm=PART)
    made: ir.Value = new.Reshape(turned, np.array([0, 0, heads * size], np.int64))
    made.shape = ir.Shape([batch, tokens, heads * size])
    return made


def ungrouped(value: ir.Value, opset: int) -> ir.Value | None:
    """Return the keys or values of which each head was repeated for a group of queries, or None.

    Repeated is [batch, heads, tokens, size] → [batch, heads, 1, …] → [batch, heads, group, …] →
    [batch, heads·group, tokens, size].
    """
    shape, nodes, found = dims.shape(value), [], value
    for op_type in ("Reshape", "Expand", "Unsqueeze"):
        node = found.producer()
        if node is None or node.op_type != op_type or node.domain or node.inputs[0] is None:
            return None
        nodes.append(node)
        found = node.inputs[0]
    spread, source = dims.shape(nodes[1].outputs[0]), dims.shape(found)
    if shape is None or spread is None or source is None or len(source) != 4 or len(spread) != 5:
        return None
    if facts.axes(nodes[2], opset) != (2,) or not isinstance(spread[2], int):
        return None
    if not isinstance(source[1], int) or shape[1] != source[1] * spread[2]:
        return None
    kept = dims.same(spread[0], source[0]) and spread[1] == source[1]
    return found if kept and shape[3] == source[3] == spread[4] else None


def mask_alone(new: Builder, attention: ir.Node) -> ir.Value | None:
    """Return the mask of a MultiHeadAttention that has no other input but its three operands."""
    inputs = [*attention.inputs, *(None,) * 8][:8]
    if len(attention.outputs) > 1 or any(
        value is not None for value in (*inputs[3:5], *inputs[6:])
    ):
        new.refuse("it has a bias, a padding mask or a past of its own")
    return inputs[5]


def full_mask(new: Builder, mask: ir.Value, scores: Scores) -> ir.Value:
    """Return a mask of [1 or batch, 1 or heads, queries, keys], which the kernels ask for."""
    shape = dims.shape(mask)
    if shape is None or len(shape) > 4:
        new.refuse("the shape of the mask is not known")
    padded = (1,) * (4 - len(shape)) + shape
    if padded[0] != 1 and not dims.same(padded[0], scores.batch):
        new.refuse("the mask is not known to have the batch of the queries")
    if padded[1] not in (1, scores.heads):
        new.refuse("the mask is not known to have as many heads as the queries")
    rows = dims.same(padded[2], scores.queries)
    if len(shape) == 4 and rows and dims.same(padded[3], scores.keys):
        return mask
    made: ir.Value = new.Expand(mask, _sizes(new, scores))
    made.shape = ir.Shape([*padded[:2], scores.queries, scores.keys])
    return made


def _sizes(new: Builder, scores: Scores) -> Any:
    """Return [1, 1, queries, keys] as Expand takes it."""
    if isinstance(scores.queries, int) and isinstance(scores.keys, int):
        return np.array([1, 1, scores.queries, scores.keys], np.int64)
    ones = np.array([1, 1], np.int64)
    ends = (_size(new, scores.queries, scores.query), _size(new, scores.keys, scores.key))
    return new.Concat(new.constant(ones), *ends, axis=0)


def _size(new: Builder, known: facts.Dim, value: ir.Value) -> Any:
    if isinstance(known, int):
        return np.array([known], np.int64)
    source = packed(value)
    axis = 2 if source is None else 1
    shape = new.Shape(value if source is None else source)
    return new.Slice(shape, np.array([axis], np.int64), np.array([axis + 1], np.int64))
