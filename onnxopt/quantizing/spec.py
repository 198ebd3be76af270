"""What a tensor should become, and the numbers that this comes to.

    Placement → Spec → (statistics) → QParams → Q/DQ nodes

A placement says for each tensor what it should be (`Spec`), statistics say which scale and zero
point that needs (`QParams`), the inserter writes them: neither knows the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxopt.arrays import Array

Format = Literal["uint8", "int8"]

_LIMITS = {"uint8": (0, 255), "int8": (-128, 127)}
SMALLEST_SCALE = 1e-8
"""Below this a tensor is as good as constant: its scale would underflow in products."""


@dataclass(frozen=True, kw_only=True)
class Spec:
    """How a tensor is to be quantized.

    `symmetric` puts the zero point at 0 (int8) or 128 (uint8). `axis` is that of the channels which
    have a scale each, None for one scale. `narrow` leaves out -128, so that a weight and its
    negative are both there. `fixed` are a scale and zero point that need no statistics.
    """

    format: Format = "uint8"
    symmetric: bool = False
    axis: int | None = None
    narrow: bool = False
    fixed: tuple[float, int] | None = None

    @property
    def limits(self) -> tuple[int, int]:
        """Least and largest integer."""
        low, high = _LIMITS[self.format]
        return (low + 1 if self.narrow else low), high


@dataclass(frozen=True, kw_only=True, eq=False)
class QParams:
    """Scale and zero point: x ≈ scale · (q - zero_point).

    `scale` is float32 and `zero_point` of the integers' dtype; both of shape [], or [channels]
    along `axis`.
    """

    scale: Array
    zero_point: Array
    axis: int | None = None

    @property
    def range(self) -> tuple[float, float]:
        """The least and the largest number that can be represented by any channel."""
        limits = np.iinfo(self.zero_point.dtype)
        zero = self.zero_point.astype(np.float64)
        low, high = (limits.min - zero) * self.scale, (limits.max - zero) * self.scale
        return float(np.min(low)), float(np.max(high))


def qparams(low: Array | float, high: Array | float, spec: Spec) -> QParams:
    """Return the parameters with which [low, high] is covered; 0 is always represented exactly.

    `low` and `high` are scalars, or [channels] for a spec with an axis. A range of nothing gets a
    scale of 1.
    """
    if spec.fixed is not None:
        number, place = spec.fixed
        return QParams(scale=np.array(number, np.float32), zero_point=np.array(place, spec.format))
    least, most = spec.limits
    below: Array = np.minimum(np.asarray(low, np.float64), 0.0)
    above: Array = np.maximum(np.asarray(high, np.float64), 0.0)
    if spec.symmetric:
        zero: Array = np.full(below.shape, 128.0 if spec.format == "uint8" else 0.0)
        scale: Array = np.maximum(-below, above) / (most - zero)
    else:
        scale = np.asarray((above - below) / (most - least))
        zero = np.rint(least - below / np.where(scale > 0, scale, 1.0))
    return QParams(
        scale=np.asarray(np.where(scale > SMALLEST_SCALE, scale, 1.0), np.float32),
        zero_point=np.asarray(np.clip(zero, least, most), spec.format),
        axis=spec.axis,
    )


def quantize(array: Array, params: QParams) -> Array:
    """Return the integers of an array, rounded half to even and clipped as QuantizeLinear does."""
    scale, zero = (
        _along(part, array.ndim, params.axis) for part in (params.scale, params.zero_point)
    )
    limits = np.iinfo(params.zero_point.dtype)
    integers = np.rint(array / scale) + zero.astype(np.float32)
    clipped = np.clip(integers, limits.min, limits.max)
    return np.asarray(clipped, params.zero_point.dtype)


def dequantize(integers: Array, params: QParams) -> Array:
    """Return the float32 numbers that integers stand for."""
    scale, zero = (
        _along(part, integers.ndim, params.axis) for part in (params.scale, params.zero_point)
    )
    numbers = integers.astype(np.float32) - zero.astype(np.float32)
    return np.asarray(numbers * scale, np.float32)


def _along(part: Array, rank: int, axis: int | None) -> Array:
    if axis is None or part.ndim == 0:
        return part
    shape = [1] * rank
    shape[axis] = -1
    return part.reshape(shape)
