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


CURVES: dict[str, Curve] = {
    "Clip": _clip,
    "Erf": _erf,
    "Exp": _exp,
    "Gelu": _gelu,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _hard_swish,
    "LeakyRelu": _leaky,
    "Neg": _negative,
    "Pow": _power,
    "Relu": _relu,
    "Sigmoid": _sigmoid,
    "Sqrt": _sqrt,
    "Tanh": _tanh,
}
