"""Forms of normalisation."""

from __future__ import annotations

import numpy as np

from patterns.graph import IMAGE, TOKENS, Graph, form


def standardized(g: Graph, x: str, axes: list[int], how: str, epsilon: float = 1e-5) -> str:
    """Add (x − mean)/√(variance + ε) over `axes`; `how` is pow, mul or recip."""
    centred = g.Sub(x, g.ReduceMean(x, axes=axes))
    square = g.Pow(centred, 2.0) if how == "pow" else g.Mul(centred, centred)
    deviation = g.Sqrt(g.Add(g.ReduceMean(square, axes=axes), epsilon))
    if how == "recip":
        return str(g.Mul(centred, g.Reciprocal(deviation)))
    return str(g.Div(centred, deviation))


def affine(g: Graph, x: str, *shape: int) -> str:
    """Add the scale and the shift that follow a normalisation."""
    return str(g.Add(g.Mul(x, g.weight(*shape)), g.weight(*shape)))


@form(*TOKENS, name="layernorm_pow", how="pow")
@form(*TOKENS, name="layernorm_mul", how="mul")
@form(*TOKENS, name="layernorm_recip", how="recip")
def layer_normalization(g: Graph, x: str, how: str) -> str:
    """LayerNormalization in its parts."""
    return affine(g, standardized(g, x, [-1], how), 32)


@form(*TOKENS)
def layernorm_noaffine(g: Graph, x: str) -> str:
    """LayerNormalization in its parts, without scale and shift."""
    return standardized(g, x, [-1], "pow")


@form(*TOKENS, opset=18)
def layernorm_opset18_axes_input(g: Graph, x: str) -> str:
    """LayerNormalization in its parts where axes are an input."""
    axes = g.constant([-1])
    centred = g.Sub(x, g.ReduceMean(x, axes))
    variance = g.ReduceMean(g.Mul(centred, centred), axes)
    return affine(g, g.Mul(centred, g.Reciprocal(g.Sqrt(g.Add(variance, 1e-5)))), 32)


@form(*IMAGE)
def layernorm_channels_first(g: Graph, x: str) -> str:
    """LayerNormalization over the channels of an image (ConvNeXt)."""
    return affine(g, standardized(g, x, [1], "pow", 1e-6), 8, 1, 1)


@form(*IMAGE, name="layernorm_T_LN_T")
def layer_normalization_between_transposes(g: Graph, x: str) -> str:
    """LayerNormalization over channels that are moved to the end and back."""
    last = g.Transpose(x, perm=[0, 2, 3, 1])
    made = g.LayerNormalization(last, g.weight(8), g.weight(8))
    return g.Transpose(made, perm=[0, 3, 1, 2])


def root_mean_square(g: Graph, x: str) -> str:
    """Add √(mean of squares + ε)."""
    return str(g.Sqrt(g.Add(g.ReduceMean(g.Pow(x, 2.0), axes=[-1]), 1e-6)))


@form(*TOKENS)
def rmsnorm(g: Graph, x: str) -> str:
    """RMSNormalization in its parts."""
    return g.Mul(g.Div(x, root_mean_square(g, x)), g.weight(32))


@form(*TOKENS)
def rmsnorm_recip_wfirst(g: Graph, x: str) -> str:
    """RMSNormalization in its parts, by a reciprocal, the scale on the left (Llama)."""
    return g.Mul(g.weight(32), g.Mul(x, g.Reciprocal(root_mean_square(g, x))))


@form(*TOKENS)
def skip_layernorm(g: Graph, x: str) -> str:
    """A residual sum and its LayerNormalization."""
    both = g.Add(x, g.input("s", *TOKENS))
    return g.LayerNormalization(both, g.weight(32), g.weight(32), axis=-1)


@form(*TOKENS)
def skip_layernorm_bias(g: Graph, x: str) -> str:
    """A linear layer, a residual sum and its LayerNormalization."""
    skip = g.input("s", *TOKENS)
    both = g.Add(g.dense(x, 32, 32), skip)
    return g.LayerNormalization(both, g.weight(32), g.weight(32), axis=-1)


@form(*TOKENS)
def skip_rmsnorm(g: Graph, x: str) -> tuple[str, str]:
    """A residual sum that others read too, and its RMSNormalization in parts."""
    both = g.Add(x, g.input("s", *TOKENS))
    return g.Mul(g.Div(both, root_mean_square(g, both)), g.weight(32)), both


@form(*IMAGE)
def groupnorm_instancenorm_decomposed(g: Graph, x: str) -> str:
    """GroupNormalization by way of InstanceNormalization, as torch exports it."""
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    made = g.InstanceNormalization(g.Reshape(x, [0, 4, -1]), ones, zeros)
    return affine(g, g.Reshape(made, [1, 8, 16, 16]), 8, 1, 1)


@form(*IMAGE)
def instancenorm_decomposed(g: Graph, x: str) -> str:
    """InstanceNormalization in its parts."""
    return affine(g, standardized(g, x, [2, 3], "mul"), 1, 8, 1, 1)


@form(4, 32)
def l2norm_reducel2(g: Graph, x: str) -> str:
    """Vectors of length 1, as torch's normalize is exported."""
    return g.Div(x, g.Clip(g.ReduceL2(x, axes=[-1]), 1e-12))
