"""BatchNormalization at inference is an affine map per channel: it folds into linear neighbours.

y = (x - mean)/√(var + ε)·γ + β = x·s + (β - mean·s) with s = γ/√(var + ε) (Ioffe and Szegedy 2015).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import const, consts, op, var
from onnxopt.rewrite.rule import Builder, rule

x, w, b = var("x"), const("w"), const("b", default=0)
gamma, beta, mean, variance = consts("gamma beta mean variance")


@rule(
    op.BatchNormalization(
        op.Conv(x, w, b, bind="conv"), gamma, beta, mean, variance, bind="bn", training_mode=0
    )
)
def fold_batchnorm_into_conv(
    new: Builder,
    conv: ir.Node,
    bn: ir.Node,
    x: ir.Value,
    w: Any,
    b: Any,
    gamma: Any,
    beta: Any,
    mean: Any,
    variance: Any,
) -> Any:
    """BatchNormalization(Conv(x)) becomes one Conv that carries the scale and the shift."""
    scale = gamma / np.sqrt(variance + bn.attributes.get_float("epsilon", 1e-5))
    weight = w * scale.reshape(-1, *[1] * (w.ndim - 1))
    return new.Conv(x, weight, (b - mean) * scale + beta, **conv.attributes)
