"""The guard that exporters put behind the softmax of a masked attention.

torch's scaled dot product attention gives zeros for a query that may see no key at all, where
softmax(-∞, …, -∞) gives NaN. Its exporters write P' = Where(IsNaN(P), 0, P), two more passes over
[batch, heads, queries, keys], which also hides the attention from every fuser.

A row of finite scores is NaN after softmax only if the mask is -∞ throughout. With masks that are
never -∞ (exporters write the lowest finite number too) the guard never acts. Otherwise the mask
says which queries it is about, once for all layers, and their rows of P·V are zeroed behind the
product, where they are shorter: P'·V = Where(max(mask) = -∞, 0, P·V).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

v = var("v")
_PROBABILITIES = op.Softmax(var("scores"), bind="softmax")
_LARGEST = 65536
_DEPTH = 8


@rule(op.MatMul(op.Where(op.IsNaN(_PROBABILITIES), 0, _PROBABILITIES), v), since=11)
def guard_by_mask(new: Builder, softmax: ir.Node, scores: ir.Value, v: ir.Value) -> Any:
    """Where(IsNaN(P), 0, P)·V looks at the mask once instead of at every probability."""
    rank = facts.rank(scores)
    if rank is None or new.attribute(softmax, "axis") not in (-1, rank - 1):
        new.refuse("softmax is not known to be over the last axis")
    infinite = _never_finite(scores)
    product = new.MatMul(softmax.outputs[0], v)
    if not infinite:
        return product
    mask = infinite[0]
    if len(infinite) > 1 or mask is scores or not facts.rank(mask):
        new.refuse("it is not known which queries see no key")
    lowest = new.constant(np.array(-np.inf), facts.dtype(mask))
    hidden = new.Equal(new.with_axes("ReduceMax", mask, (-1,), keepdims=1), lowest)
    shape = dims.shape(mask)
    hidden.shape = None if shape is None else ir.Shape([*shape[:-1], 1])
    return new.Where(hidden, np.array(0.0), product)


def _never_finite(scores: ir.Value) -> list[ir.Value]:
    """Return the summands of scores that may be -∞ at run time: the masks, or all where unknown."""
    node = scores.producer()
    if node is None or node.domain:
        return [scores]
    if node.op_type == "Add":
        return [found for part in node.inputs if part is not None for found in _summand(part)]
    return [] if _is_product(scores) else [scores]


def _summand(value: ir.Value) -> list[ir.Value]:
    return [] if _is_product(value) or is_finite(value) else [value]


def _is_product(value: ir.Value) -> bool:
    """Tell whether a value is a matrix product, maybe scaled: finite for inputs of usual size."""
    node = value.producer()
    if node is not None and node.op_type in {"Mul", "Div"} and not node.domain:
        others = [part for part in node.inputs if facts.scalar(part) is None]
        node = others[0].producer() if len(others) == 1 and others[0] is not None else None
    return node is not None and node.op_type in {"MatMul", "Einsum"} and not node.domain


def is_finite(value: ir.Value | None) -> bool:
    """Tell whether a mask is made of finite constants alone, chosen and moved at run time."""
    return is_made_of(value, lambda held: bool(np.isfinite(held).all()))


def is_made_of(
    value: ir.Value | None,
    test: Callable[[np.ndarray[Any, Any]], bool],
    depth: int = _DEPTH,
) -> bool:
    """Tell whether a mask is made of constants alone that pass a test, moved at run time."""
    held = facts.constant(value, limit=_LARGEST)
    if held is not None:
        return held.dtype.kind == "b" or test(held.astype(np.float64))
    node = None if value is None else value.producer()
    if node is None or node.domain or depth == 0:
        return False
    if node.op_type == "Where":
        return all(is_made_of(part, test, depth - 1) for part in node.inputs[1:])
    if node.op_type == "Concat":
        return all(is_made_of(part, test, depth - 1) for part in node.inputs)
    return node.op_type in _MOVERS and is_made_of(node.inputs[0], test, depth - 1)


_MOVERS = frozenset({
    "Expand", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Tile", "Transpose",
    "Unsqueeze",
})  # fmt: skip


def above_lowest(new: Builder, mask: ir.Value) -> ir.Value:
    """Keep a mask above the lowest number, which onnxruntime's Attention takes for -∞.

    Half of it hides a key as well; a query that sees no key gets the mean of all, not zeros.
    """
    kind = facts.dtype(mask)
    if kind is None:
        new.refuse("the element type of the mask is not known")
    lowest = float(np.finfo(kind.numpy()).min)
    if is_made_of(mask, lambda held: bool((held != lowest).all())):
        return mask
    made: ir.Value = new.Max(mask, np.array(lowest / 2))
    made.type, made.shape = mask.type, mask.shape
    return made
