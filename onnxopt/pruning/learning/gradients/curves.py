"""Functions of each number alone, and their slopes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from onnxopt.arrays import Array

Get = Callable[[str], Any]
"""Gives an attribute."""
Curve = Callable[[Get, Sequence[Array | None]], tuple[Array, Callable[[], Array]]]
"""Takes attributes and inputs; returns what is made of the first one, and the slope there."""


def _x(inputs: Sequence[Array | None]) -> Array:
    found = inputs[0]
    assert found is not None
    return found


def _relu(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    return np.maximum(x, 0), lambda: x > 0


def _leaky(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    x, slope = _x(inputs), np.float32(get("alpha"))
    return np.where(x < 0, slope * x, x), lambda: np.where(x < 0, slope, np.float32(1))


def _clip(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    x = _x(inputs)
    ends: list[Any] = [*inputs[1:], None, None][:2]
    if len(inputs) == 1:
        ends = [get("min"), get("max")]
    low, high = (None if end is None else x.dtype.type(end) for end in ends)
    made = np.clip(x, low, high) if ends != [None, None] else x
    return made, lambda: made == x


def _sigmoid(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    from scipy.special import expit

    del get
    made = np.asarray(expit(_x(inputs)))
    return made, lambda: made * (1 - made)


def _tanh(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    made = np.tanh(_x(inputs))
    return made, lambda: 1 - made * made


def _erf(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    from scipy.special import erf

    del get
    x = _x(inputs)
    return np.asarray(erf(x)), lambda: np.float32(2 / math.sqrt(math.pi)) * np.exp(-x * x)


def _exp(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    made = np.exp(_x(inputs))
    return made, lambda: made


def _sqrt(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    made = np.sqrt(_x(inputs))
    return made, lambda: np.float32(0.5) / np.maximum(made, np.float32(1e-12))


def _negative(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    return -_x(inputs), lambda: np.float32(-1) * np.ones((), np.float32)


def _power(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x, exponent = _x(inputs), inputs[1]
    assert exponent is not None
    power = np.asarray(exponent, x.dtype)
    return np.power(x, power), lambda: power * np.power(x, power - 1)


def _hard_sigmoid(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    x, slope, shift = _x(inputs), np.float32(get("alpha")), np.float32(get("beta"))
    made = np.clip(slope * x + shift, 0, 1)
    return made, lambda: np.where((made > 0) & (made < 1), slope, np.float32(0))


def _hard_swish(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    gate = np.clip(x / np.float32(6) + np.float32(0.5), 0, 1)
    return x * gate, lambda: gate + np.where((gate > 0) & (gate < 1), x / np.float32(6), 0)


def _gelu(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    from scipy.special import ndtr

    x = _x(inputs)
    if str(get("approximate")) == "tanh":
        inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
        bent = np.tanh(inner)
        steep = np.float32(math.sqrt(2 / math.pi)) * (1 + np.float32(3 * 0.044715) * x * x)
        return x * (1 + bent) / 2, lambda: (1 + bent) / 2 + x * (1 - bent * bent) * steep / 2
    share = np.asarray(ndtr(x), x.dtype)
    return x * share, lambda: share + x * np.exp(-x * x / 2) / np.float32(math.sqrt(2 * math.pi))


def _abs(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    return np.abs(x), lambda: np.sign(x)


def _log(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    return np.log(x), lambda: 1 / x


def _reciprocal(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    made = 1 / _x(inputs)
    return made, lambda: -made * made


def _sin(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    return np.sin(x), lambda: np.cos(x)


def _cos(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    return np.cos(x), lambda: -np.sin(x)


def _elu(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    """Elu, and Selu, which is gamma times it; Elu has no gamma."""
    x, alpha, gamma = _x(inputs), np.float32(get("alpha")), np.float32(get("gamma") or 1)
    made = gamma * np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))
    return made, lambda: np.where(x > 0, gamma, made + gamma * alpha)


def _celu(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    x, alpha = _x(inputs), np.float32(get("alpha"))
    below = np.minimum(x, 0) / alpha
    return np.maximum(x, 0) + alpha * np.expm1(below), lambda: np.exp(below)


def _softplus(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    from scipy.special import expit

    del get
    x = _x(inputs)
    return np.logaddexp(x, 0), lambda: np.asarray(expit(x))


def _softsign(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    del get
    x = _x(inputs)
    share = 1 / (1 + np.abs(x))
    return x * share, lambda: share * share


def _mish(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    from scipy.special import expit

    del get
    x = _x(inputs)
    gate = np.tanh(np.logaddexp(x, 0))
    return x * gate, lambda: gate + x * (1 - gate * gate) * expit(x)


def _swish(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    from scipy.special import expit

    x, alpha = _x(inputs), np.float32(get("alpha"))
    gate = np.asarray(expit(alpha * x))
    return x * gate, lambda: gate + alpha * x * gate * (1 - gate)


def _thresholded(get: Get, inputs: Sequence[Array | None]) -> tuple[Array, Callable[[], Array]]:
    x = _x(inputs)
    over = x > np.float32(get("alpha"))
    return x * over, lambda: over


CURVES: dict[str, Curve] = {
    "Abs": _abs,
    "Celu": _celu,
    "Clip": _clip,
    "Cos": _cos,
    "Elu": _elu,
    "Erf": _erf,
    "Exp": _exp,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Log": _log,
    "Mish": _mish,
    "Neg": _negative,
    "Pow": _power,
    "Reciprocal": _reciprocal,
    "Relu": _relu,
    "Selu": _elu,
    "Sigmoid": _sigmoid,
    "Sin": _sin,
    "Softplus": _softplus,
    "Softsign": _softsign,
    "Sqrt": _sqrt,
    "Swish": _swish,
    "Tanh": _tanh,
    "ThresholdedRelu": _thresholded,
}
