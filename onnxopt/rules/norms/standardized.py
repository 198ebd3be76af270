"""What LayerNormalization, RMSNormalization and InstanceNormalization are made of.

(x - μ)/√(σ² + ε) with μ and σ² the mean and the variance of x over some axes, and x/√(m + ε) with m
the mean of x² (Ba et al. 2016, Zhang and Sennrich 2019, Ulyanov et al. 2016), written with a Div, a
Reciprocal or a Pow, with Pow(d, 2) or d·d, and with the difference d computed once or twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder

_LARGEST_HALF = 65504

x, eps = var("x"), const("eps")


def _mean(value: Pattern, name: str) -> Pattern:
    """Match a mean over any axes; `name` binds its node."""
    axes = var(f"axes of {name}", optional=True)
    return op.ReduceMean(value, axes, bind=name, keepdims=1) | op.GlobalAveragePool(
        value, bind=name
    )


def _squared(value: Pattern) -> Pattern:
    return op.Pow(value, 2) | op.Mul(value, value)


def _inverse_root(square: Pattern) -> Pattern:
    """Match 1/√(square + ε)."""
    inside = op.Add(square, eps)
    return (
        op.Reciprocal(op.Sqrt(inside))
        | op.Div(1, op.Sqrt(inside))
        | op.Pow(inside, -0.5)
        | op.Sqrt(op.Reciprocal(inside) | op.Div(1, inside))
    )


def _over_root(numerator: Pattern, square: Pattern) -> Pattern:
    """Match numerator/√(square + ε)."""
    quotient = op.Div(numerator, op.Sqrt(square + eps))
    return quotient | op.Mul(numerator, _inverse_root(square))


MEAN = _mean(x, "mean")
DEVIATION = op.Sub(x, MEAN)
_VARIANCE = _mean(_squared(op.Sub(x, _mean(x, "mean_again"))), "variance")
INVERSE_DEVIATION = _inverse_root(_VARIANCE)
STANDARDIZED = _over_root(DEVIATION, _VARIANCE)
"""(x - μ)/√(σ² + ε); binds x, eps and the nodes mean, mean_again and variance."""

INVERSE_ROOT_MEAN_SQUARE = _inverse_root(_mean(_squared(x), "mean_square"))
OVER_ROOT_MEAN_SQUARE = _over_root(x, _mean(_squared(x), "mean_square"))
"""x/√(m + ε); binds x, eps and the node mean_square."""

PLAIN_ROOT_MEAN_SQUARE = op.Div(x, op.Sqrt(_mean(op.Pow(x, 2), "mean_square") + eps))
"""The spelling of it that onnxruntime fuses when a scale follows."""


def axes_of(new: Builder, x: ir.Value, *means: ir.Node) -> tuple[int, ...]:
    """Return the axes of all the means, counted from the front; refuse where they are not one."""
    rank = facts.rank(x)
    if rank is None:
        new.refuse(f"the rank of '{x.name}' is not known")
    found = set()
    for node in means:
        axes: Sequence[int] | None = range(2, rank)
        if node.op_type == "ReduceMean":
            axes = facts.axes(node, new.opset)
        found.add(dims.normalized_axes(axes, rank) if axes else None)
    only = found.pop()
    if only is None or found:
        new.refuse("the means are not taken over the same known axes")
    return only


def epsilon(new: Builder, x: ir.Value, eps: Any) -> float:
    """Return the one number that eps is; refuse one that would give x more dimensions."""
    if eps.size != 1 or eps.ndim > (facts.rank(x) or 0):
        new.refuse("epsilon is not one number")
    return float(eps.item())


def trailing(new: Builder, x: ir.Value, axes: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes of the axes, which have to be the last ones."""
    shape = facts.shape(x) or ()
    if axes != tuple(range(len(shape) - len(axes), len(shape))):
        new.refuse(f"it is taken over the axes {axes}, which are not the last ones")
    sizes = tuple(dim for dim in shape[-len(axes) :] if isinstance(dim, int))
    if len(sizes) != len(axes) or 0 in sizes:
        new.refuse(f"the sizes of the axes {axes} are not known")
    return sizes


def spread(content: Any, sizes: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
    """Return a constant over trailing axes of these sizes, or None where it varies over others."""
    array = np.asarray(content)
    while array.ndim > len(sizes) and array.shape[0] == 1:
        array = array[0]
    try:
        return np.broadcast_to(array, sizes)
    except ValueError:
        return None


def refuse_overflow(new: Builder, x: ir.Value, *contents: Any) -> None:
    """Refuse constants that would become infinite in the element type of x."""
    half = facts.dtype(x) == ir.DataType.FLOAT16
    if half and any(np.abs(content).max(initial=0) > _LARGEST_HALF for content in contents):
        new.refuse("a constant would overflow half precision")
