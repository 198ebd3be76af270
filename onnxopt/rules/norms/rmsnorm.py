"""RMSNormalization (ONNX has it since opset 23) from the forms that exporters write.

RMS(x) = x/√(mean(x²) + ε)·γ over the last axes. With an older opset, and for targets that are not
known to have a kernel of RMSNormalization, the expression stays: onnxruntime fuses it when it loads
the model (as SimplifiedLayerNormalization), if it is written with Pow(x, 2) and a Div. Any other
spelling is brought to that one, which has as many nodes or one less. The core of a
LayerNormalization is such an expression of x - μ, and profits in the same way before opset 17.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, op, product, unless, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.norms.standardized import (
    INVERSE_ROOT_MEAN_SQUARE,
    OVER_ROOT_MEAN_SQUARE,
    PLAIN_ROOT_MEAN_SQUARE,
    axes_of,
    epsilon,
    spread,
    trailing,
)

x, gamma = var("x"), const("gamma")
_TARGETS = ("portable", "cpu")
_SCALED = op.Mul(OVER_ROOT_MEAN_SQUARE, gamma) | product(x, INVERSE_ROOT_MEAN_SQUARE, gamma)


@rule(OVER_ROOT_MEAN_SQUARE, since=23, targets=_TARGETS)
def fuse_rms_normalization(new: Builder, x: ir.Value, eps: Any, mean_square: ir.Node) -> Any:
    """x/√(mean(x²) + ε) over the last axes becomes RMSNormalization(x)."""
    sizes = trailing(new, x, axes_of(new, x, mean_square))
    return _rms(new, x, np.ones(sizes), eps)


@rule(product(x, INVERSE_ROOT_MEAN_SQUARE, gamma), since=23, targets=_TARGETS)
def fuse_scaled_rms_normalization(
    new: Builder, x: ir.Value, eps: Any, mean_square: ir.Node, gamma: Any
) -> Any:
    """x·(γ/√(mean(x²) + ε)) over the last axes becomes RMSNormalization(x)."""
    sizes = trailing(new, x, axes_of(new, x, mean_square))
    return _rms(new, x, _scale(new, x, gamma, sizes), eps)


@rule(unless(_SCALED, op.Mul(PLAIN_ROOT_MEAN_SQUARE, gamma)))
def respell_rms_normalization(
    new: Builder, x: ir.Value, eps: Any, mean_square: ir.Node, gamma: Any
) -> Any:
    """x·γ/√(mean(x²) + ε) is spelt as onnxruntime fuses it, with Pow(x, 2) and a Div."""
    axes = axes_of(new, x, mean_square)
    sizes = trailing(new, x, axes)
    if len(sizes) != 1 or sizes[0] == 1 or not facts.is_float(x):
        new.refuse("onnxruntime only fuses normalisation over one axis of floating-point numbers")
    mean = new.with_axes("ReduceMean", new.Pow(x, 2.0), (-1,), keepdims=1)
    root = new.Sqrt(new.Add(mean, epsilon(new, x, eps)))
    return new.Mul(new.Div(x, root), _scale(new, x, gamma, sizes))


def _rms(new: Builder, x: ir.Value, scale: Any, eps: Any) -> Any:
    if not facts.is_float(x):
        new.refuse(f"'{x.name}' is not known to hold floating-point numbers")
    return new.RMSNormalization(x, scale, axis=-scale.ndim, epsilon=epsilon(new, x, eps))


def _scale(new: Builder, x: ir.Value, gamma: Any, sizes: tuple[int, ...]) -> Any:
    array = spread(gamma, sizes)
    if array is None or gamma.ndim > (facts.rank(x) or 0):
        new.refuse("the scale varies over other axes than the last ones")
    return array
