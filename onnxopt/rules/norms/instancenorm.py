"""InstanceNormalization from the forms that exporters write.

IN(x) = (x - μ)/√(σ² + ε)·γ + β with μ and σ² taken over all axes from the third on, and one γ and β
for each channel. The core becomes an InstanceNormalization whose scale is ones; what scales and
shifts each channel afterwards goes into its scale and bias.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.norms.layernorm import LARGEST_SCALE
from onnxopt.rules.norms.standardized import STANDARDIZED, axes_of, epsilon, refuse_overflow

x = var("x")
_NORM = op.InstanceNormalization(x, const("scale"), const("bias"), bind="norm")


@rule(STANDARDIZED, since=7)
def fuse_instance_normalization(
    new: Builder, x: ir.Value, eps: Any, mean: ir.Node, mean_again: ir.Node, variance: ir.Node
) -> Any:
    """(x - μ)/√(σ² + ε) over the third and all further axes becomes InstanceNormalization(x)."""
    axes = axes_of(new, x, mean, mean_again, variance)
    shape = facts.shape(x) or ()
    if axes != tuple(range(2, len(shape))) or not facts.is_single_or_half(x):
        new.refuse(f"it is not taken over all axes from the third on, but over {axes}")
    if len(shape) == 3 and not _is_long(shape[2]):
        new.refuse("three dimensions: it may be the LayerNormalization of a sequence")
    channels = shape[1]
    if not isinstance(channels, int) or channels == 0:
        new.refuse("the number of channels is not known")
    ones, zeros = np.ones(channels), np.zeros(channels)
    return new.InstanceNormalization(x, ones, zeros, epsilon=epsilon(new, x, eps))


@rule(op.Mul(_NORM, const("factor")), since=7)
def fold_scale_into_instance_normalization(
    new: Builder, norm: ir.Node, x: ir.Value, scale: Any, bias: Any, factor: Any
) -> Any:
    """InstanceNormalization(x)·c, with a c for each channel, gets c as a part of its scale."""
    factors = _per_channel(new, x, factor, scale.size)
    refuse_overflow(new, x, scale * factors, bias * factors)
    return new.InstanceNormalization(x, scale * factors, bias * factors, **norm.attributes)


@rule(op.Add(_NORM, const("shift")), since=7)
def fold_shift_into_instance_normalization(
    new: Builder, norm: ir.Node, x: ir.Value, scale: Any, bias: Any, shift: Any
) -> Any:
    """InstanceNormalization(x) + c, with a c for each channel, gets c as a part of its bias."""
    shifts = bias + _per_channel(new, x, shift, scale.size)
    refuse_overflow(new, x, shifts)
    return new.InstanceNormalization(x, scale, shifts, **norm.attributes)


def _is_long(size: int | str | None) -> bool:
    return isinstance(size, int) and size > LARGEST_SCALE


def _per_channel(new: Builder, x: ir.Value, content: Any, channels: int) -> Any:
    """Return a constant operand as one number for each channel, or refuse."""
    rank = facts.rank(x)
    if rank is None or content.ndim > rank:
        new.refuse("the constant has more dimensions than what it meets")
    shape = (1,) * (rank - content.ndim) + content.shape
    if content.size != 1 and shape != (1, channels, *(1,) * (rank - 2)):
        new.refuse("the constant is not one number for each channel")
    return np.broadcast_to(content.reshape(-1), channels)
