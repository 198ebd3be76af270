"""Einsum that is a matrix product, or a transposition.

Each label of `bhid,bhjd->bhij` is of one kind: batch (b, h: in both operands and the result),
summed (d: in both operands only), row (i: in the first and the result) or column (j: in the second
and the result). With the operands arranged as batch + row + summed and batch + summed + column,
MatMul makes batch + row + column. The Einsum of onnxruntime copies more: MatMul between
Transposes took 0.24 to 0.95 of its time on a CPU, in every form that is rewritten here.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x, y = var("x"), var("y")


@dataclass(frozen=True, kw_only=True)
class _Product:
    """An equation of two operands as a matrix product: labels by kind, in the result's order."""

    batch: str
    row: str
    summed: str
    column: str
    result: str


def read_equation(equation: str) -> tuple[list[str], str] | None:
    """Return the labels of the operands and of the result; None with an ellipsis or a diagonal."""
    operands, arrow, result = equation.replace(" ", "").partition("->")
    terms = operands.split(",")
    if not arrow:
        count = Counter(label for term in terms for label in term)
        result = "".join(sorted(label for label, times in count.items() if times == 1))
    if "." in equation or any(len(set(term)) < len(term) for term in (*terms, result)):
        return None
    return terms, result


@rule(op.Einsum(x, bind="node"), since=12)
def turn_einsum_into_transpose(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """Einsum that only rearranges the axes of its operand becomes Transpose, or the operand."""
    found = read_equation(new.attribute(node, "equation"))
    if found is None or len(found[0]) != 1 or set(found[0][0]) != set(found[1]):
        return None
    (term,), result = found
    return x if term == result else new.Transpose(x, perm=[term.index(label) for label in result])


@rule(op.Einsum(x, y, bind="node"), since=12)
def turn_einsum_into_matmul(new: Builder, node: ir.Node, x: ir.Value, y: ir.Value) -> Any:
    """Einsum that is a matrix product becomes MatMul, between Transposes where needed."""
    found = read_equation(new.attribute(node, "equation"))
    if found is None or not facts.is_float(x) or len(found[0]) != 2:
        return None
    left, right = found[0]
    product = _as_product(left, right, found[1])
    if product is None:
        return None
    if facts.dtype(x) == ir.DataType.BFLOAT16:
        new.refuse("onnxruntime has no MatMul of bfloat16 on a processor")
    if product.row[0] not in left:
        left, right, x, y = right, left, y, x
    sizes = dict(zip(left, dims.shape(x) or (), strict=False))
    others = dict(zip(right, dims.shape(y) or (), strict=False))
    if not all(dims.same(sizes.get(label), others.get(label)) for label in product.summed):
        new.refuse("the summed dimensions are not known to be equal")
    return _matmul(new, product, (x, left), (y, right), {**sizes, **others})


def _as_product(left: str, right: str, result: str) -> _Product | None:
    """Sort labels by kind, with the operand whose own labels come first in the result as rows."""
    batch = "".join(label for label in result if label in left and label in right)
    own = [label for label in result if label not in batch]
    summed = "".join(label for label in left if label in right and label not in result)
    first = left if own and own[0] in left else right
    row = "".join(label for label in own if label in first)
    column = "".join(label for label in own if label not in first)
    every = {*left, *right}
    if not (row and column and summed) or every != {*batch, *row, *summed, *column}:
        return None
    if {*result} != {*batch, *row, *column}:
        return None
    plain = len(row) == len(column) == len(summed) == 1
    return (
        _Product(batch=batch, row=row, summed=summed, column=column, result=result)
        if plain or not batch
        else None
    )


def _matmul(
    new: Builder,
    product: _Product,
    first: tuple[ir.Value, str],
    second: tuple[ir.Value, str],
    sizes: dict[str, facts.Dim],
) -> Any:
    """Make the MatMul and what arranges its operands and result."""
    known = {label: size for label, size in sizes.items() if isinstance(size, int)}
    a = _arranged(new, *first, product.batch + product.row + product.summed)
    if len(product.summed) == len(product.column) == 1:
        b = _arranged(new, *second, product.batch + product.summed + product.column)
    else:
        held = facts.constant(second[0])
        if held is None or not facts.is_private(second[0]):
            new.refuse("the second operand is no constant of its own")
        depth = math.prod(known[label] for label in product.summed)
        order = [second[1].index(label) for label in product.summed + product.column]
        b = new.constant(held.transpose(order).reshape(depth, -1), facts.dtype(second[0]))
        if len(product.summed) > 1:
            a = new.Reshape(a, np.array([0] * len(product.row) + [depth], np.int64))
    made = new.MatMul(a, b)
    if len(product.column) > 1:
        split = [0] * len(product.row) + [known[label] for label in product.column]
        made = new.Reshape(made, np.array(split, np.int64))
    return _arranged(new, made, product.batch + product.row + product.column, product.result)


def _arranged(new: Builder, value: ir.Value, labels: str, wanted: str) -> ir.Value:
    """Return a value with its axes in the wanted order; a constant is rearranged now."""
    if labels == wanted:
        return value
    perm = [labels.index(label) for label in wanted]
    held = facts.constant(value)
    if held is not None and facts.is_private(value):
        return new.constant(held.transpose(perm), facts.dtype(value))
    made: ir.Value = new.Transpose(value, perm=perm)
    return made
