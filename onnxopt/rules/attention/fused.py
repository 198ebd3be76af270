"""Multi-head attention, softmax(s·Q·Kᵀ + mask)·V, as the one operator that runtimes have.

onnxruntime has MultiHeadAttention for any operator set: packed queries in, packed results out,
keys and values packed or parted (see `heads`), the mask as a summand of the scores. Its kernel
computes each row in one go, without storing the scores of all heads, and without the transposes.

ONNX has Attention since operator set 23, on parted operands; there keys and values may have fewer
heads than the queries.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.attention.guard import above_lowest
from onnxopt.rules.attention.heads import (
    PART,
    Scores,
    full_mask,
    pack,
    packed,
    scores_of,
    ungrouped,
)

v, mask, hidden = var("v"), var("mask"), var("hidden")


def _scaled(product: Pattern) -> Pattern:
    return product | op.Mul(product, const("factor")) | op.Div(product, const("divisor"))


_PRODUCT = _scaled(op.MatMul(var("q"), var("k"), bind="product"))
_PROBABILITIES = op.Softmax(_PRODUCT | op.Add(_PRODUCT, mask), bind="softmax")
_ATTENTION = op.MatMul(_PROBABILITIES, v)


@rule(
    op.Transpose(_ATTENTION | op.Where(hidden, 0, _ATTENTION), perm=list(PART)),
    since=13,
    targets=("cpu", "cuda"),
)
def fuse_multi_head_attention(
    new: Builder,
    product: ir.Node,
    softmax: ir.Node,
    v: ir.Value,
    mask: ir.Value | None,
    hidden: ir.Value | None,
    factor: Any,
    divisor: Any,
) -> Any:
    """softmax(s·Q·Kᵀ + mask)·V of several heads becomes onnxruntime's MultiHeadAttention."""
    scores = _scores(new, product, softmax, factor, divisor)
    _check_type(new, v)
    size = _size_of(new, v, scores)
    query = pack(new, scores.query)
    keys, values = packed(scores.key), packed(v)
    if keys is None or values is None:
        if size != scores.size:
            new.refuse("parted values have another size than the keys")
        keys, values = scores.key, v
    options = {"num_heads": scores.heads, "scale": scores.scale}
    more = () if mask is None else (None, None, full_mask(new, mask, scores))
    made = new.of("com.microsoft").MultiHeadAttention(query, keys, values, *more, **options)
    made.shape = ir.Shape([scores.batch, scores.queries, scores.heads * size])
    if hidden is not None:
        made = _without_hidden(new, made, hidden)
    return new.Reshape(made, np.array([0, 0, scores.heads, size], np.int64))


@rule(_ATTENTION, since=23, targets=("portable",))
def fuse_attention(
    new: Builder,
    product: ir.Node,
    softmax: ir.Node,
    v: ir.Value,
    mask: ir.Value | None,
    factor: Any,
    divisor: Any,
) -> Any:
    """softmax(s·Q·Kᵀ + mask)·V of several heads becomes Attention."""
    scores = _scores(new, product, softmax, factor, divisor)
    _check_type(new, v)
    _size_of(new, v, scores)
    more = () if mask is None else (full_mask(new, above_lowest(new, mask), scores),)
    keys, values = (ungrouped(value, new.opset) for value in (scores.key, v))
    if keys is None or values is None or dims.extent(keys, 1) != dims.extent(values, 1):
        keys, values = scores.key, v
    return new.Attention(scores.query, keys, values, *more, scale=scores.scale)


def _scores(new: Builder, product: ir.Node, softmax: ir.Node, factor: Any, divisor: Any) -> Scores:
    if new.attribute(softmax, "axis") not in (-1, 3):
        new.refuse("softmax is over another axis")
    scale = 1.0
    for array, power in ((factor, 1), (divisor, -1)):
        if array is not None:
            if array.size != 1 or array.ndim > 4:
                new.refuse("the scores are scaled by more than one number")
            scale *= float(array.item()) ** power
    return scores_of(new, product, scale)


def _size_of(new: Builder, v: ir.Value, scores: Scores) -> int:
    """Return the size of the values of one head, where their shape fits the scores."""
    shape = dims.shape(v)
    if shape is None or len(shape) != 4 or shape[1] != scores.heads:
        new.refuse("the shape of the values is not known")
    size = shape[3]
    if not isinstance(size, int) or not dims.same(shape[0], scores.batch):
        new.refuse("the values are not known to have the batch of the queries, and a size")
    return size


def _check_type(new: Builder, v: ir.Value) -> None:
    """Refuse element types for which the target's provider has no kernel."""
    half = new.target.name != "cpu" and facts.is_single_or_half(v)
    if facts.dtype(v) != ir.DataType.FLOAT and not half:
        new.refuse(f"'{v.name}' is not known to hold numbers that the target has a kernel for")


def _without_hidden(new: Builder, made: ir.Value, hidden: ir.Value) -> ir.Value:
    """Zero the rows of queries that see no key: [batch, 1, queries, 1] tells which."""
    shape = dims.shape(hidden)
    if shape is None or len(shape) != 4 or shape[1] != 1 or shape[3] != 1:
        new.refuse("it is not known which queries are hidden")
    rows = new.with_axes("Squeeze", hidden, (1,))
    zeroed: ir.Value = new.Where(rows, np.array(0.0), made)
    zeroed.type, zeroed.shape = made.type, made.shape
    return zeroed
