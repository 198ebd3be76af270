"""Branches that come to nothing: 0·f(y) is 0, and W·y + b with W = 0 is b.

That holds for every finite f(y). Where f(y) overflows, or is NaN, the product is NaN, and the sum
x + 0·f(y) with it. Nobody multiplies by zero to learn of that: the branch goes, as everywhere in
these rules a result counts that is the same up to rounding *and overflow of what is only passed
through*. What holds infinity or NaN on purpose stays: a branch that reads a constant which is not
finite (a mask of -∞), or whose nodes are there to make or to find such values. Integers have
neither, nothing is looked for.

The product may broadcast the other operand: then its shape stays, if nothing else of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.formula import bias_of, layer_of

_INFINITE_ON_PURPOSE = frozenset({"IsInf", "IsNaN", "Log", "Reciprocal", "If", "Loop", "Scan"})
_HOPS = 32
_LARGEST_MASK = 1 << 16

x, y, w, b = var("x"), var("y"), const("w"), const("b", default=0)

LAYERS = (
    op.Conv(y, w, b, bind="branch", shared=True)
    | op.Gemm(y, w, b, bind="branch", shared=True)
    | op.Add(op.MatMul(y, w, bind="layer", shared=True), b, bind="branch", shared=True)
    | op.MatMul(y, w, bind="branch", shared=True)
)
PRODUCT = op.Mul(y, w, bind="branch", shared=True)
FILLED = op.ConstantOfShape(y, bind="branch", shared=True)


def _summed(given: Pattern) -> Pattern:
    return op.Add(x, given) | op.Sub(x, given)


@rule(_summed(PRODUCT | FILLED), since=7)
def drop_zero_addend(new: Builder, branch: ir.Node, x: ir.Value, y: ir.Value, w: Any) -> Any:
    """The sums x + 0·f(y) and x - 0·f(y) become x where x has the result's shape."""
    if w is None:
        value = branch.attributes.get_tensor("value")
        w = np.zeros(1) if value is None else value.numpy()
    if not is_zero(w) or x is branch.outputs[0]:
        return None
    _check_finite(new, y)
    if not dims.broadcast_keeps(x, dims.shape(branch.outputs[0])):
        new.refuse("the product may broadcast the other operand")
    return x


@rule(_summed(LAYERS), since=7)
def drop_layer_of_zeros(
    new: Builder, branch: ir.Node, layer: ir.Node | None, x: ir.Value, y: ir.Value, b: Any
) -> Any:
    """Adding 0·y + b, a linear layer whose weight is zero, becomes adding b."""
    if x is branch.outputs[0] or not is_zero(facts.constant((layer or branch).inputs[1])):
        return None
    _check_finite(new, y)
    if not dims.broadcast_keeps(x, dims.shape(branch.outputs[0])):
        new.refuse("the layer may broadcast the other operand")
    known = layer_of(new, layer or branch)
    bias = bias_of(new, known, b)
    if bias is None:
        return x
    return new.node(new.root.op_type, x, bias.reshape(-1, *[1] * (-known.axis - 1)))


@rule(PRODUCT, since=9)
def replace_zero_product(new: Builder, branch: ir.Node, y: ir.Value, w: Any) -> Any:
    """0·f(y) of a known shape becomes zeros."""
    if not is_zero(w):
        return None
    shape, kind = facts.static_shape(branch.outputs[0]), facts.dtype(branch.outputs[0])
    if shape is None or kind is None:
        new.refuse("the shape of the product is not known")
    _check_finite(new, y)
    zero = ir.Tensor(np.zeros(1, kind.numpy()))
    made = new.ConstantOfShape(np.array(shape, np.int64), value=zero)
    made.type, made.shape = branch.outputs[0].type, branch.outputs[0].shape
    return made


def is_zero(array: Any) -> bool:
    """Tell whether all elements of an array, and there are some, are zero."""
    return array.size > 0 and array.flat[0] == 0 and not array.any()


def _check_finite(new: Builder, value: ir.Value) -> None:
    """Refuse where what made a value holds infinity or NaN on purpose, as far as one sees."""
    if not facts.is_float(value):
        if facts.dtype(value) is None:
            new.refuse("the element type of the branch is not known")
        return
    front, seen = [value], {value}
    while front and len(seen) < _HOPS:
        node = front.pop().producer()
        if node is None:
            continue
        if node.op_type in _INFINITE_ON_PURPOSE:
            new.refuse(f"'{node.name}' may make infinity or NaN on purpose")
        for operand in node.inputs:
            if operand is None or operand in seen:
                continue
            seen.add(operand)
            if facts.is_constant(operand):
                if not _is_finite(operand):
                    new.refuse(f"'{operand.name}' holds infinity or NaN")
            else:
                front.append(operand)


def _is_finite(value: ir.Value) -> bool:
    """Tell whether a constant that may serve as a mask, not a large weight, is finite."""
    kind = facts.dtype(value)
    if kind is None or not kind.is_floating_point():
        return True
    array = facts.constant(value, limit=_LARGEST_MASK)
    return array is None or bool(np.isfinite(array.astype(np.float64)).all())
