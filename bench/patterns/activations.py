"""Forms of activations and of simple arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from onnx import TensorProto

from patterns.graph import IMAGE, TOKENS, Graph, form


@form(*IMAGE)
def conv_silu(g: Graph, x: str) -> str:
    """SiLU behind a convolution."""
    made = g.conv(x, 8)
    return g.Mul(made, g.Sigmoid(made))


@form(*IMAGE)
def silu_only(g: Graph, x: str) -> str:
    """SiLU: x·σ(x)."""
    return g.Mul(x, g.Sigmoid(x))


def _relu6_of_x_plus_3(g: Graph, x: str) -> str:
    return str(g.Clip(g.Add(x, 3.0), 0.0, 6.0))


@form(*IMAGE)
def conv_hardswish_decomposed(g: Graph, x: str) -> str:
    """HardSwish in its parts behind a convolution (MobileNetV3)."""
    made = g.conv(x, 8)
    return g.Div(g.Mul(made, _relu6_of_x_plus_3(g, made)), 6.0)


@form(*IMAGE)
def hardsigmoid_decomposed(g: Graph, x: str) -> str:
    """HardSigmoid in its parts."""
    return g.Div(_relu6_of_x_plus_3(g, x), 6.0)


@form(*IMAGE)
def hardswish_via_hardsigmoid(g: Graph, x: str) -> str:
    """HardSwish as x·HardSigmoid(x)."""
    return g.Mul(x, g.HardSigmoid(x, alpha=1 / 6, beta=0.5))


@form(*IMAGE)
def mish(g: Graph, x: str) -> str:
    """Mish: x·tanh(softplus(x))."""
    return g.Mul(x, g.Tanh(g.Softplus(x)))


@form(*IMAGE)
def softplus_decomposed(g: Graph, x: str) -> str:
    """Softplus as log(1 + eˣ)."""
    return g.Log(g.Add(g.Exp(x), 1.0))


def gelu_by_division(g: Graph, x: str) -> str:
    """GELU as (x·(1 + erf(x/√2)))·½."""
    return g.Mul(g.Mul(x, g.Add(g.Erf(g.Div(x, math.sqrt(2))), 1.0)), 0.5)


def gelu_by_product(g: Graph, x: str) -> str:
    """GELU as (x·½)·(1 + erf(x·√½))."""
    return g.Mul(g.Mul(x, 0.5), g.Add(g.Erf(g.Mul(x, math.sqrt(0.5))), 1.0))


def gelu_by_tanh(g: Graph, x: str) -> str:
    """GELU by tanh, the cube as two products."""
    return _tanh_gelu(g, x, g.Mul(g.Mul(x, x), x))


def gelu_by_tanh_and_power(g: Graph, x: str) -> str:
    """GELU by tanh, the cube as a power."""
    return _tanh_gelu(g, x, g.Pow(x, 3.0))


def _tanh_gelu(g: Graph, x: str, cube: str) -> str:
    inner = g.Mul(g.Add(x, g.Mul(cube, 0.044715)), math.sqrt(2 / math.pi))
    return str(g.Mul(g.Mul(x, 0.5), g.Add(g.Tanh(inner), 1.0)))


def quick_gelu(g: Graph, x: str) -> str:
    """GELU as x·σ(1.702·x)."""
    return g.Mul(x, g.Sigmoid(g.Mul(x, 1.702)))


_GELUS: dict[str, Callable[[Graph, str], str]] = {
    "gelu_erf": gelu_by_division,
    "gelu_erf_mul": gelu_by_product,
    "gelu_tanh": gelu_by_tanh,
    "gelu_tanh_pow": gelu_by_tanh_and_power,
    "gelu_quick": quick_gelu,
}
for _name, _write in _GELUS.items():
    form(*TOKENS, name=_name)(_write)


@form(*TOKENS)
def bias_gelu(g: Graph, x: str) -> str:
    """GELU behind a linear layer."""
    return gelu_by_division(g, g.dense(x, 32, 32))


@form(*IMAGE)
def noop_mul1_add0(g: Graph, x: str) -> str:
    """A product with 1 and a sum with 0."""
    return g.Relu(g.Add(g.Mul(x, 1.0), 0.0))


@form(*IMAGE)
def mul_mul_const(g: Graph, x: str) -> str:
    """Two products with numbers."""
    return g.Mul(g.Mul(x, 2.0), 3.0)


@form(*IMAGE)
def add_add_const(g: Graph, x: str) -> str:
    """Two sums with constants."""
    return g.Add(g.Add(x, g.weight(1, 8, 1, 1)), g.weight(1, 8, 1, 1))


@form(*IMAGE)
def pow2_to_mul(g: Graph, x: str) -> str:
    """A square as a power."""
    return g.Pow(x, 2.0)


@form(*IMAGE)
def sqrt_div_rsqrt(g: Graph, x: str) -> str:
    """One over a root."""
    return g.Div(1.0, g.Sqrt(g.Abs(x)))


@form(*IMAGE)
def relu_clip6(g: Graph, x: str) -> str:
    """Relu and then Clip to 0…6."""
    return g.Clip(g.Relu(x), 0.0, 6.0)


@form(*IMAGE)
def min_max_to_clip(g: Graph, x: str) -> str:
    """Clip as Max and Min."""
    return g.Min(g.Max(x, 0.0), 6.0)


@form(*IMAGE)
def relu_relu_idempotent(g: Graph, x: str) -> str:
    """Relu twice."""
    return g.Relu(g.Relu(x))


@form(*IMAGE)
def where_const_mask(g: Graph, x: str) -> str:
    """Where by a constant condition that is true everywhere."""
    return g.Where(np.ones((1, 1, 16, 16), bool), x, -1e9)


@form(*IMAGE)
def cast_cast(g: Graph, x: str) -> str:
    """To double precision and back."""
    return g.Cast(g.Cast(x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT)


@form(*IMAGE)
def dead_zero_mul(g: Graph, x: str) -> str:
    """A summand that is multiplied by 0."""
    return g.Add(x, g.Mul(g.Exp(x), 0.0))


@form(4, 32)
def argmax_softmax(g: Graph, x: str) -> str:
    """The largest of what Softmax made."""
    return g.ArgMax(g.Softmax(x, axis=-1), axis=-1)


@form(4, 32)
def log_softmax(g: Graph, x: str) -> str:
    """The logarithm of Softmax."""
    return g.Log(g.Softmax(x, axis=-1))
