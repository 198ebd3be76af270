"""The rule by which scales are chosen: from the ranges of what is written and of what reads it.

    s_c = a_c^α / w_c^(1-α)

a_c is how far channel c goes, w_c how large the weights are that it meets, relative to their rows
(a row has an int8 scale of its own; the only channel of a depthwise row meets 1). α = 1 makes all
channels go equally far, α = 0 evens out the weights: SmoothQuant (Xiao et al. 2023) at ½.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.repair.noise import Outlook, noise

ALPHAS = tuple(float(alpha) for alpha in np.linspace(0, 1, 11))


def scales_of(view: Outlook, alpha: float) -> Array:
    """Return the scales of a chain for one α: float64 [size].

    A channel that nothing is known of, or that is always 0, gets that of the others' middle. Where
    some channels of a tensor stay as they are, the others are scaled to go as far as these.
    """
    ranges, weights = _peaks(view)
    known = (ranges > 0) & (weights > 0)
    if not known.any():
        return np.ones(view.chain.size)
    logs = np.zeros(view.chain.size)
    logs[known] = alpha * np.log(ranges[known]) - (1 - alpha) * np.log(weights[known])
    logs[~known] = np.median(logs[known])
    scales = np.exp(logs - np.median(logs[known]))
    still = _still(view)
    if still > 0:
        scales *= (ranges[known] / scales[known]).max() / still
    return view.chain.allowed(scales)


def searched(view: Outlook) -> tuple[Array, float]:
    """Return the scales of the α with the least noise, and by what it divides the noise.

    Where no α helps, all scales are 1, and the gain too.
    """
    ones = view.chain.allowed(np.ones(view.chain.size))
    before = noise(view, ones)
    tried = [(noise(view, scales), scales) for scales in (scales_of(view, a) for a in ALPHAS)]
    least, scales = min(tried, key=lambda pair: pair[0])
    if not least < before:
        return ones, 1.0
    return scales, before / least


def _peaks(view: Outlook) -> tuple[Array, Array]:
    """Return how far the channels go, and the largest weight they meet: [size] each."""
    size = view.chain.size
    far, met = np.zeros(2 * size + 1), np.zeros(2 * size + 1)
    for name, (places, _, _) in view.tensors.items():
        np.maximum.at(far, places, view.reaches(name))
    for reading in view.readings:
        rows = reading.peak.max(1, keepdims=True, initial=0)
        relative = np.divide(reading.peak, rows, out=np.zeros_like(reading.peak), where=rows > 0)
        places = view.tensors[reading.tensor][0][reading.channels]
        np.maximum.at(met, np.broadcast_to(places, relative.shape), relative)
    # What goes by the inverse of the scales is met by what goes by the scales, and the reverse.
    weights = np.maximum(met[:size], far[size : 2 * size])
    weights = np.where(
        weights > 0, weights, np.median(weights[weights > 0]) if weights.any() else 1
    )
    return far[:size], weights


def _still(view: Outlook) -> float:
    """Return how far the channels go that stay as they are."""
    size = view.chain.size
    found = [
        view.reaches(name)[places == 2 * size].max(initial=0)
        for name, (places, _, _) in view.tensors.items()
    ]
    return float(max(found, default=0.0))
