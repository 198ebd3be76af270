"""LayerNormalization (ONNX has it since opset 17) from the forms that exporters write.

LN(x) = (x - μ)/√(σ² + ε)·γ + β over the last axes. The core becomes a LayerNormalization whose
scale is ones; what scales and shifts it afterwards goes into its scale and bias. Normalisation over
other axes (channels first) is no LayerNormalization.

With an older opset onnxruntime fuses one spelling by itself: `rmsnorm` sees to that.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, product, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.norms.standardized import (
    DEVIATION,
    INVERSE_DEVIATION,
    MEAN,
    STANDARDIZED,
    axes_of,
    epsilon,
    refuse_overflow,
    spread,
    trailing,
)

LARGEST_SCALE = 1 << 14
"""No LayerNormalization is made whose scale of ones would have more elements than this."""

x, scale, bias = var("x"), var("scale"), var("bias", optional=True)
_K = op.Mul(INVERSE_DEVIATION, const("gamma"), bind="k")
_NORM = op.LayerNormalization(x, scale, bias, bind="norm")
_RMS = op.RMSNormalization(x, scale, bind="norm")


@rule(STANDARDIZED, since=17)
def fuse_layer_normalization(
    new: Builder, x: ir.Value, eps: Any, mean: ir.Node, mean_again: ir.Node, variance: ir.Node
) -> Any:
    """(x - μ)/√(σ² + ε) over the last axes becomes LayerNormalization(x)."""
    axes = axes_of(new, x, mean, mean_again, variance)
    sizes = trailing(new, x, axes)
    if int(np.prod(sizes)) > LARGEST_SCALE:
        new.refuse(f"a scale of {sizes} ones would enlarge the model")
    if len(axes) > 1 and axes[0] == 2:
        new.refuse("it is an InstanceNormalization")
    return _layer_norm(new, x, np.ones(sizes), None, eps)


@rule(
    product(DEVIATION, INVERSE_DEVIATION, const("gamma"))
    | op.Add(op.Mul(x, _K), op.Sub(const("beta"), op.Mul(MEAN, _K))),
    since=17,
)
def fuse_scaled_layer_normalization(
    new: Builder,
    x: ir.Value,
    eps: Any,
    mean: ir.Node,
    mean_again: ir.Node,
    variance: ir.Node,
    gamma: Any,
    beta: Any,
) -> Any:
    """(x - μ)·(γ/√(σ² + ε)) and x·k + (β - μ·k), as Flax and Keras write it, become one node."""
    sizes = trailing(new, x, axes_of(new, x, mean, mean_again, variance))
    weight = _over_last_axes(new, x, gamma, sizes)
    shift = None if beta is None else _over_last_axes(new, x, beta, sizes)
    return _layer_norm(new, x, weight, shift, eps)


def _layer_norm(new: Builder, x: ir.Value, weight: Any, shift: Any, eps: Any) -> Any:
    if not facts.is_float(x):
        new.refuse(f"'{x.name}' is not known to hold floating-point numbers")
    number = epsilon(new, x, eps)
    return new.LayerNormalization(x, weight, shift, axis=-weight.ndim, epsilon=number)


@rule(op.Mul(_NORM | _RMS, var("factor")), since=17)
def fold_scale_into_normalization(
    new: Builder, norm: ir.Node, x: ir.Value, scale: ir.Value, bias: Any, factor: ir.Value
) -> Any:
    """LayerNormalization(x)·c and RMSNormalization(x)·c get c as a part of their scale."""
    sizes = _sizes(new, scale, norm)
    held, array = facts.constant(scale), facts.constant(factor)
    if array is None:
        ones = held is not None and bool(np.all(held == 1))
        if not ones or bias is not None or facts.static_shape(factor) != sizes:
            new.refuse(f"'{factor.name}' is neither a constant nor the first scale")
        return _like(new, norm, x, factor)
    factors = _over_last_axes(new, x, array, sizes)
    shift = facts.constant(bias)
    if held is None or (bias is not None and shift is None):
        new.refuse("the scale is no constant")
    weights = [held * factors] if shift is None else [held * factors, shift * factors]
    refuse_overflow(new, x, *weights)
    return _like(new, norm, x, *weights)


@rule(op.Add(_NORM, var("shift")), since=17)
def fold_shift_into_layer_normalization(
    new: Builder, norm: ir.Node, x: ir.Value, scale: ir.Value, bias: Any, shift: ir.Value
) -> Any:
    """LayerNormalization(x) + c gets c as a part of its bias."""
    sizes = _sizes(new, scale, norm)
    held, array = facts.constant(bias), facts.constant(shift)
    if bias is None and facts.static_shape(shift) == sizes:
        return _like(new, norm, x, scale, shift)
    if array is None or (bias is not None and held is None):
        new.refuse(f"'{shift.name}' is neither a constant nor the first bias")
    shifts = _over_last_axes(new, x, array, sizes)
    shifts = shifts if held is None else held + shifts
    refuse_overflow(new, x, shifts)
    return _like(new, norm, x, scale, shifts)


@rule(op.Cast(_NORM | _RMS, bind="down"), since=17)
def fold_casts_into_normalization(
    new: Builder, norm: ir.Node, down: ir.Node, x: ir.Value, scale: ir.Value, bias: Any
) -> Any:
    """Half → single → LayerNormalization → half becomes one node, which computes in single."""
    up = x.producer()
    half = None if up is None or up.op_type != "Cast" or up.domain else facts.dtype(up.inputs[0])
    if up is None or half != ir.DataType.FLOAT16 or new.attribute(norm, "stash_type") != 1:
        new.refuse("it does not go from half precision to a computation in single precision")
    if facts.dtype(x) != ir.DataType.FLOAT or new.attribute(down, "to") != int(half):
        new.refuse("it does not go back to half precision")
    weights = []
    for value in (scale,) if bias is None else (scale, bias):
        held = facts.constant(value)
        if held is None or not np.array_equal(held.astype(half.numpy()).astype(held.dtype), held):
            new.refuse(f"'{value.name}' is no constant that half precision can hold")
        weights.append(held)
    return _like(new, norm, up.inputs[0], *weights)


def _like(new: Builder, norm: ir.Node, *inputs: Any) -> Any:
    """Make a normalisation with the attributes of another."""
    attributes: dict[str, Any] = dict(norm.attributes)
    return new.node(norm.op_type, *inputs, **attributes)


def _sizes(new: Builder, scale: ir.Value, norm: ir.Node) -> tuple[int, ...]:
    """Return the sizes of the axes that a LayerNormalization normalises."""
    sizes, rank = facts.static_shape(scale), facts.rank(norm.inputs[0])
    axis = new.attribute(norm, "axis")
    count = None if rank is None or axis is None else (-axis if axis < 0 else rank - axis)
    if sizes is None or len(sizes) != count:
        new.refuse("the scale does not have the shape of the normalised axes")
    return sizes


def _over_last_axes(new: Builder, x: ir.Value, content: Any, sizes: tuple[int, ...]) -> Any:
    """Return a constant operand as an array over the last axes, or refuse."""
    array = spread(content, sizes)
    if array is None or np.ndim(content) > (facts.rank(x) or 0):
        new.refuse("a constant varies over other axes than the last ones")
    return array.astype(np.float64) if array.dtype.kind == "f" else array.astype(np.float32)
