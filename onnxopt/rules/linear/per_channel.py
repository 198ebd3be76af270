"""A scale and a shift per channel, as the one BatchNormalization that they are.

x·s + b = (x - 0)/√(1 + 0)·s + b, and (x - m)·s has mean m. onnxruntime's BatchNormalization reads
and writes x once and knows that a channel is one run of memory; its Mul and Add, which broadcast,
take 1.2 to 4 times as long on a CPU (per shape: 1×64×56×56 1.8, 8×256×14×14 2.7, 32×64×4×4 4.0).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.formula import faithful, reciprocal

x, c1, c2 = var("x"), const("c1"), const("c2")
_ARITHMETIC = frozenset({"Add", "Sub", "Mul", "Div"})


def _scaled(given: Pattern, c: Pattern) -> Pattern:
    return op.Mul(given, c, bind="scale") | op.Div(given, c, bind="scale")


def _shifted(given: Pattern, c: Pattern) -> Pattern:
    return op.Add(given, c, bind="shift") | op.Sub(given, c, bind="shift")


@rule(
    _shifted(_scaled(x, c1), c2) | _scaled(_shifted(x, c1), c2),
    since=9,
    targets=("cpu",),
)
def fuse_channel_affine(
    new: Builder, x: ir.Value, scale: ir.Node, shift: ir.Node, c1: Any, c2: Any
) -> Any:
    """x·s + b and (x + b)·s with constants per channel become BatchNormalization(x)."""
    shape = facts.shape(x)
    count = shape[1] if shape is not None and len(shape) > 2 else None
    if not isinstance(count, int) or count < 2 or facts.dtype(x) != ir.DataType.FLOAT:
        new.refuse("it is not known to have channels of float32")
    if any(_is_constant_arithmetic(use.node) for use in facts.uses(new.root.outputs[0])):
        new.refuse("the constants behind it come first")
    scaled_first = new.root is shift
    factor, summand = (c1, c2) if scaled_first else (c2, c1)
    factors = _per_channel(new, factor, count, len(shape or ()))
    summands = _per_channel(new, summand, count, len(shape or ()))
    if factor.size == summand.size == 1:
        new.refuse("its constants are numbers")
    if scale.op_type == "Div":
        factors = reciprocal(factors)
    if shift.op_type == "Sub":
        summands = -summands
    nothing, zero = np.zeros(count), np.zeros(count, np.float64)
    bias, mean = (summands, zero) if scaled_first else (zero, -summands)
    statistics = (factors, bias, mean, nothing + 1)
    held = [faithful(new, array, ir.DataType.FLOAT) for array in statistics]
    return new.BatchNormalization(x, *held, epsilon=0.0)


def _is_constant_arithmetic(node: ir.Node) -> bool:
    return node.op_type in _ARITHMETIC and any(map(facts.is_constant, node.inputs))


def _per_channel(new: Builder, array: Any, count: int, rank: int) -> Any:
    """Return a constant as a vector over axis 1, or refuse where it varies over others."""
    aligned = (
        array.reshape((1,) * (rank - array.ndim) + array.shape) if array.ndim <= rank else array
    )
    if aligned.ndim != rank or aligned.size not in (1, count) or aligned.shape[1] != aligned.size:
        new.refuse("a constant varies over other axes than the channels")
    return np.broadcast_to(aligned.reshape(-1), count).astype(np.float64)
