"""Rounding up or down as a continuous choice that is driven to a decision.

Nagel et al., "Up or down? Adaptive rounding for post-training quantization" (ICML 2020), from the
Gram matrix alone: q = ⌊w/s⌋ + h(v) with h the stretched sigmoid clip(1.2 σ(v) - 0.1, 0, 1), and

    loss = d G dᵀ + λ Σ G_kk (1 - |2h - 1|^β),   d = q - w/s,   β falling from 20 to 2,

by Adam. In the paper λ is the same for all weights; then those of weak inputs are decided before
anything is known of them, and those of strong inputs never.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.weights.gram import full, times
from onnxopt.quantizing.weights.limits import Limits

_STRETCH, _SHIFT = 1.2, 0.1
_FIRST, _LAST = 20.0, 2.0
_WARM = 0.2
"""Share of the steps in which nothing is driven to a decision."""
_DECAY, _DECAY_OF_SQUARES = 0.9, 0.999


def adaround(
    rows: Array,
    scales: Array,
    limits: Limits,
    gram: Array | None,
    *,
    steps: int = 400,
    rate: float = 0.02,
    pressure: float = 1.0,
) -> Array:
    """Return allowed integers, each next to what it stands for: int32 [rows, columns].

    A step costs one product of `rows` with the Gram matrix. `pressure` is λ.
    """
    gram = full(gram, rows.shape[1])
    mean = float(np.trace(gram, axis1=1, axis2=2).mean() / rows.shape[1])
    gram = gram / (mean or 1.0)
    level = np.repeat(np.diagonal(gram, axis1=1, axis2=2), len(rows) // len(gram), axis=0)
    whole = np.floor(rows / scales[:, None])
    part = np.clip(rows / scales[:, None] - whole, 0.01, 0.99)
    choice = np.log((part + _SHIFT) / (_STRETCH - part - _SHIFT)).astype(np.float32)
    momentum, energy = np.zeros_like(choice), np.zeros_like(choice)
    for step in range(1, steps + 1):
        sigmoid = 1 / (1 + np.exp(-choice))
        stretched = _STRETCH * sigmoid - _SHIFT
        up = np.clip(stretched, 0, 1)
        slope = 2 * times(whole + up - rows / scales[:, None], gram)
        slope += _deciding(up, step / steps, pressure) * level
        slope *= _STRETCH * sigmoid * (1 - sigmoid) * ((stretched > 0) & (stretched < 1))
        momentum += (1 - _DECAY) * (slope - momentum)
        energy += (1 - _DECAY_OF_SQUARES) * (slope * slope - energy)
        size = np.sqrt(energy / (1 - _DECAY_OF_SQUARES**step)) + 1e-8
        choice -= rate * momentum / (1 - _DECAY**step) / size
    decided = np.clip(whole + (choice >= 0), -127, 127).astype(np.int32)
    return np.asarray(limits.project(decided))


def _deciding(up: Array, done: float, pressure: float) -> Array:
    """Return the slope of the part of the loss that drives `up` to 0 or 1."""
    if done < _WARM:
        return np.zeros_like(up)
    beta = _LAST + (_FIRST - _LAST) * (1 - (done - _WARM) / (1 - _WARM))
    off = 2 * up - 1
    return np.asarray(-2 * pressure * beta * np.sign(off) * np.abs(off) ** (beta - 1))
