"""The projections of an attention and the attention itself, as one operator.

onnxruntime's Attention takes the tokens and one matrix of three, W = (Wq, Wk, Wv), with its bias:
it projects each head's queries, keys and values straight to where it needs them. Exporters write
three layers on the same tokens, or one layer whose result is split in three.

Not for `cpu`: its kernel multiplies by each head's columns by themselves, which took a BERT of
twelve layers 5 % longer than three products.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.attention.heads import mask_alone

q, k, v = var("q"), var("k"), var("v")


@dataclass(frozen=True, kw_only=True)
class _Projection:
    """tokens·weight + bias; `part` says which third of the columns is meant, None: all."""

    tokens: ir.Value
    weight: ir.Value
    bias: ir.Value | None
    part: int | None = None


@rule(op.of("com.microsoft").MultiHeadAttention(q, k, v, ..., bind="attention"), targets=("cuda",))
def fuse_projections_into_attention(
    new: Builder, attention: ir.Node, q: ir.Value, k: ir.Value, v: ir.Value
) -> Any:
    """MultiHeadAttention(x·Wq + bq, x·Wk + bk, x·Wv + bv) becomes Attention(x, W, b)."""
    mask = mask_alone(new, attention)
    found = [_projection(value, attention, place) for place, value in enumerate((q, k, v))]
    layers = [layer for layer in found if layer is not None]
    if len(layers) < 3 or len({layer.tokens for layer in layers}) > 1:
        return None
    if facts.rank(layers[0].tokens) != 3:
        new.refuse("the tokens are not known to be [batch, tokens, channels]")
    weight, bias = _packed(new, layers)
    made = new.of("com.microsoft").Attention(
        layers[0].tokens, weight, bias, None, None, mask, **attention.attributes
    )
    made.shape = attention.outputs[0].shape
    return made


def _projection(value: ir.Value, attention: ir.Node, place: int) -> _Projection | None:
    """Read a value as a projection that nobody else reads, or as a third of one."""
    if not facts.is_private(value):
        return None
    node = value.producer()
    if node is None or node.domain or node.graph is not attention.graph:
        return None
    if node.op_type == "Split":
        return _third(node, attention, place)
    return _layer(value)


def _third(split: ir.Node, attention: ir.Node, place: int) -> _Projection | None:
    """Read the result number `place` of a Split into three equal parts of the last axis."""
    outputs, shape = list(split.outputs), dims.shape(split.inputs[0])
    sizes = {dims.extent(value, 2) for value in outputs}
    if len(outputs) != 3 or outputs[place] is not attention.inputs[place] or len(sizes) != 1:
        return None
    if shape is None or len(shape) != 3 or None in sizes:
        return None
    if split.attributes.get_int("axis", 0) not in (2, -1) or split.inputs[0] is None:
        return None
    whole = _layer(split.inputs[0]) if facts.is_private(split.inputs[0]) else None
    if whole is None:
        return None
    return _Projection(tokens=whole.tokens, weight=whole.weight, bias=whole.bias, part=place)


def _layer(value: ir.Value) -> _Projection | None:
    """Read MatMul(tokens, weight), with or without a bias added."""
    node, bias = value.producer(), None
    if node is not None and node.op_type == "Add" and not node.domain:
        held = [operand for operand in node.inputs if facts.is_constant(operand)]
        free = [operand for operand in node.inputs if not facts.is_constant(operand)]
        if len(held) != 1 or len(free) != 1 or not facts.is_private(free[0]) or free[0] is None:
            return None
        bias, node = held[0], free[0].producer()
    if node is None or node.op_type != "MatMul" or node.domain or node.inputs[0] is None:
        return None
    weight = node.inputs[1]
    shape = facts.static_shape(weight)
    if weight is None or not facts.is_constant(weight) or shape is None or len(shape) != 2:
        return None
    if bias is not None and (facts.static_shape(bias) or ())[-1:] != shape[1:]:
        return None
    if bias is not None and int(np.prod(facts.static_shape(bias) or ())) != shape[1]:
        return None
    return _Projection(tokens=node.inputs[0], weight=weight, bias=bias)


def _packed(new: Builder, layers: list[_Projection]) -> tuple[Any, Any]:
    """Return the matrix of three and its bias; refuse where weights would have to be copied."""
    first = layers[0]
    if first.part is not None:
        if any(layer.part is None or layer.weight is not first.weight for layer in layers):
            new.refuse("the projections are packed in part")
        bias = None if first.bias is None else facts.constant(first.bias)
        width = (facts.static_shape(first.weight) or (0,))[-1]
        return first.weight, np.zeros(width) if bias is None else bias.reshape(-1)
    weights = [facts.constant(layer.weight) for layer in layers]
    shapes = {None if weight is None else weight.shape for weight in weights}
    alone = all(len(facts.uses(layer.weight)) == 1 for layer in layers)
    if len(shapes) != 1 or not alone or any(layer.part is not None for layer in layers):
        new.refuse("the projections have other sizes, or others read their weights")
    zero = np.zeros((facts.static_shape(first.weight) or (0,))[-1])
    biases = [zero if layer.bias is None else facts.constant(layer.bias) for layer in layers]
    columns = np.concatenate([weight for weight in weights if weight is not None], axis=1)
    rows = np.concatenate([bias.reshape(-1) for bias in biases if bias is not None])
    return columns, rows
