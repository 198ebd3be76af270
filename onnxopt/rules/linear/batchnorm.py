"""BatchNormalization at inference is an affine map per channel: it folds into linear neighbours.

y = (x - mean)/√(var + ε)·γ + β = x·s + (β - mean·s) with s = γ/√(var + ε) (Ioffe and Szegedy 2015).
With constant statistics and no linear neighbour it stays: one node is less than Mul and Add.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, consts, op
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.linear.formula import (
    Layer,
    bias_of,
    layer_of,
    linear,
    rebuilt,
    response,
    scaled,
    takes_transposed,
    x,
)
from onnxopt.rules.linear.pad import is_unpadded

gamma, beta, mean, variance = consts("gamma beta mean variance")


def normalized(given: Pattern) -> Pattern:
    """Match BatchNormalization of `given` with constant statistics, one per channel."""
    return op.BatchNormalization(
        given, gamma, beta, mean, variance, bind="bn", training_mode=0, spatial=1
    )


@rule(normalized(linear(x)), since=7)
def fold_batchnorm_into_linear(
    new: Builder,
    layer: ir.Node,
    bn: ir.Node,
    x: ir.Value,
    w: Any,
    b: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
) -> Any:
    """BatchNormalization(W·x + b) becomes one layer that carries the scale and the shift."""
    scale, shift = affine(new, bn, gamma, beta, mean, variance)
    known = layer_of(new, layer)
    _check_channels(new, known)
    if scale.shape != (known.outputs,):
        new.refuse("the statistics do not fit the layer")
    bias = bias_of(new, known, b)
    moved = shift if bias is None else bias * scale + shift
    return rebuilt(new, known, x, scaled(new, known, w, outputs=scale), moved)


@rule(linear(normalized(x)), since=7)
def fold_batchnorm_into_next_linear(
    new: Builder,
    layer: ir.Node,
    bn: ir.Node,
    x: ir.Value,
    w: Any,
    b: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
) -> Any:
    """W·BatchNormalization(x) + b becomes one layer where nothing is padded."""
    if not is_unpadded(new, layer):
        new.refuse("zeros are padded beside what BatchNormalization shifts")
    known = layer_of(new, layer)
    _check_channels(new, known)
    scale, shift = affine(new, bn, gamma, beta, mean, variance)
    if scale.shape != (known.inputs,) or takes_transposed(new, known):
        new.refuse("the statistics do not fit the layer")
    more = response(new, known, w, shift)
    bias = bias_of(new, known, b)
    weight = scaled(new, known, w, inputs=scale)
    return rebuilt(new, known, x, weight, more if bias is None else bias + more)


def _check_channels(new: Builder, layer: Layer) -> None:
    if layer.axis == -1 and layer.rank != 2:
        new.refuse("the channels of the layer are not those of BatchNormalization")


def affine(new: Builder, bn: ir.Node, *statistics: Any) -> tuple[Any, Any]:
    """Return scale and shift in double precision."""
    epsilon = new.attribute(bn, "epsilon")
    if epsilon is None or (new.opset < 14 and len(bn.outputs) > 1):
        new.refuse("it may be in training mode")
    gamma, beta, mean, variance = (array.astype(np.float64) for array in statistics)
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
    return scale, beta - mean * scale
