"""Biases of an attention that softmax makes redundant.

softmax does not change when a row of scores is shifted: q·(k + bₖ) = q·k + q·bₖ, and q·bₖ is the
same for every key. And its rows add up to 1: P·(v + 1·bᵥ) = P·v + 1·bᵥ, so that the bias of the
values passes the attention and goes, as bᵥ·Wₒ, into the bias of what comes behind.

A multi-head attention reshapes [batch, tokens, channels] to [batch, tokens, heads, size] and
transposes; axes are called by their place in the latter. ONNX Runtime recognises BERT's attention,
biases included, up to operator set 12: there they stay.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rewrite.through import Through
from onnxopt.rules.elementwise import remade
from onnxopt.rules.linear.formula import bias_of, faithful, layer_of, response
from onnxopt.rules.linear.scale_through import handed_on

_POSITIONS, _HEADS, _SIZE = (0, 1), 2, 3
"""The axes [batch, tokens, heads, size]: a bias is the same at every position."""

_ROUTE = ["Transpose", "Reshape", "Reshape", "Transpose"]
"""What stands before and behind the product with the values, from the end."""

x, w, b, w_out, b_out = var("x"), const("w"), const("b"), const("w_out"), const("b_out")


def _moved(given: Pattern, bind: str) -> Pattern:
    return Through(frozenset({"Reshape", "Transpose"}), given, bind, at_least=2)


@rule(op.MatMul(x, w, bind="layer") + b, since=13)
def drop_key_bias(new: Builder, layer: ir.Node, b: Any) -> Any:
    """softmax(q·(W·x + b)ᵀ) loses b, which shifts all scores of a query alike."""
    reshape = _only_reader(new.root, "Reshape")
    transpose = _only_reader(reshape, "Transpose")
    product = _only_reader(transpose, "MatMul")
    if reshape is None or transpose is None or product is None:
        return None
    order = _order(new, reshape, transpose, layer)
    if product.inputs[1] is not transpose.outputs[0] or order is None:
        return None
    if order[2] != _SIZE or order[3] not in _POSITIONS or not _reaches_softmax(new, product):
        return None
    bias_of(new, layer_of(new, layer), b)
    if not np.isfinite(b).all():
        new.refuse("the bias is not finite")
    return layer.outputs[0]


@rule(
    op.MatMul(
        _moved(
            op.MatMul(
                op.Softmax(bind="softmax", shared=True),
                _moved(op.MatMul(x, w, bind="layer") + b, "before"),
                bind="product",
            ),
            "behind",
        ),
        w_out,
        bind="out",
    )
    + b_out,
    since=13,
)
def fold_value_bias_into_output(
    new: Builder,
    layer: ir.Node,
    softmax: ir.Node,
    before: tuple[ir.Node, ...],
    product: ir.Node,
    behind: tuple[ir.Node, ...],
    out: ir.Node,
    b: Any,
    w_out: Any,
    b_out: Any,
) -> Any:
    """f(softmax(s)·g(W·x + b))·Wₒ + bₒ becomes f(softmax(s)·g(W·x))·Wₒ + (bₒ + b·Wₒ)."""
    if [node.op_type for node in (*before, *behind)] != _ROUTE:
        return None
    order = _order(new, before[1], before[0], layer)
    if order is None or order[2] not in _POSITIONS or not _is_over_last(new, softmax):
        return None
    known, last = layer_of(new, layer), layer_of(new, out)
    perm = new.attribute(behind[1], "perm") or ()
    width = (facts.shape(behind[0].outputs[0]) or (None,))[-1]
    if [order[axis] for axis in perm[2:]] != [_HEADS, _SIZE] or width != known.outputs:
        new.refuse("the channels come out in another order")
    bias, more = bias_of(new, known, b), bias_of(new, last, b_out)
    if bias is None:
        return None
    more = response(new, last, w_out, bias) + (0 if more is None else more)
    value = handed_on(new, before, layer.outputs[0])
    value = remade(new, product, [softmax.outputs[0], value], product.outputs[0].shape)
    value = handed_on(new, behind, value)
    value = remade(new, out, [value, out.inputs[1]], out.outputs[0].shape)
    return new.Add(value, faithful(new, more, last.dtype))


def _order(
    new: Builder, reshape: ir.Node, transpose: ir.Node, layer: ir.Node
) -> tuple[int, ...] | None:
    """Return the order of the axes behind a split into heads; None where it is none."""
    shape, perm = facts.shape(reshape.outputs[0]), new.attribute(transpose, "perm")
    held = facts.static_shape(layer.inputs[1])
    if shape is None or len(shape) != 4 or perm is None or len(perm) != 4 or not held:
        return None
    heads, size = shape[_HEADS:]
    if not isinstance(heads, int) or not isinstance(size, int) or heads * size != held[-1]:
        return None
    return tuple(perm)


def _reaches_softmax(new: Builder, product: ir.Node) -> bool:
    """Tell whether scores are only scaled by a number and masked by a sum before softmax."""
    node = product
    scale = _only_reader(product, "Mul") or _only_reader(product, "Div")
    if scale is not None:
        number = next((value for value in scale.inputs if facts.scalar(value) is not None), None)
        if number is None or (scale.op_type == "Div" and scale.inputs[1] is not number):
            return False
        node = scale
    node = _only_reader(node, "Add") or node
    softmax = _only_reader(node, "Softmax")
    return softmax is not None and _is_over_last(new, softmax)


def _is_over_last(new: Builder, softmax: ir.Node) -> bool:
    rank = facts.rank(softmax.outputs[0])
    return rank == 4 and new.attribute(softmax, "axis") in (-1, 3)


def _only_reader(node: ir.Node | None, op_type: str) -> ir.Node | None:
    """Return the one node that reads a node's output, if it is of the given operator."""
    if node is None or not facts.is_private(node.outputs[0]):
        return None
    reader = next(iter(node.outputs[0].uses())).node
    same = reader.op_type == op_type and not reader.domain and reader.graph is node.graph
    return reader if same else None
