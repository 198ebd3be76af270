"""What int8 costs a chain, from ranges and weights alone: a quick judge of scales.

An activation x of one scale for all its channels has the step Δ = (max - min)/255 over the channels
as they are scaled, x_c/s_c, and so the error s_c²Δ²/12 in channel c; a weight has a step of its own
for each row, δ_r = max_c |W_rc|s_c/127. A row that reads x has the error

    Σ_c W_rc²·s_c²·Δ²/12 + δ_r²/12·Σ_c E[x_c²]/s_c²,    relative to    Σ_c W_rc²·E[x_c²].

It is the same whatever factor a row has, so that it does not matter to it what other chains do to
the same weight. Nothing is known of E[x_c²] but the range, so it is taken for (range/CREST)².
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.repair.chains import Chain, Edit
from onnxopt.quantizing.repair.walk import Ranges

CREST = 6.0
"""How much further than its root mean square a channel goes."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Reading:
    """A weight that reads a tensor: [rows, columns], and which channel a column meets.

    `power` are sums of squares over the taps, `peak` are maxima; `channels` are [1 or rows,
    columns].
    """

    tensor: str
    power: Array
    peak: Array
    channels: Array
    taps: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Outlook:
    """A chain with what is known of its tensors: places, least and largest number, [channels]."""

    chain: Chain
    tensors: Mapping[str, tuple[Array, Array, Array]]
    readings: tuple[Reading, ...]

    def reaches(self, name: str) -> Array:
        """Return the largest magnitude of each channel of a tensor."""
        _, low, high = self.tensors[name]
        return np.maximum(np.abs(low), np.abs(high))


def nodes_by_name(model: ir.Model) -> dict[str, ir.Node]:
    """Return the nodes of a model by name, those of nested graphs too."""
    return {node.name or "": node for graph in facts.graphs_within(model.graph) for node in graph}


def channel_axes(chains: Iterable[Chain]) -> dict[str, int]:
    """Return the tensors whose ranges by channel can be used, and the axis of the channels.

    Axes count from the end: -3 for pictures, -1 for tokens. Heads, which have two, are left out.
    """
    found = {}
    for chain in chains:
        for name, places in chain.tensors.items():
            axes = [axis - places.ndim for axis, size in enumerate(places.shape) if size > 1]
            if len(axes) == 1:
                found[name] = axes[0]
    return found


def outlook(chain: Chain, nodes: Mapping[str, ir.Node], ranges: Ranges) -> Outlook:
    """Return what ranges and weights say of a chain; ranges that do not fit are left out."""
    tensors = {}
    for name, places in chain.tensors.items():
        if name in ranges:
            low, high = (np.asarray(part, np.float64).reshape(-1) for part in ranges[name])
            if low.size == places.size:
                tensors[name] = places.reshape(-1), low, high
    readings = [
        _reading(edit, constant(nodes, edit.edge))
        for edit in chain.edits
        if edit.channels is not None and edit.rows is not None and edit.tensor in tensors
    ]
    return Outlook(chain=chain, tensors=tensors, readings=tuple(readings))


def constant(nodes: Mapping[str, ir.Node], edge: Edge) -> Array:
    """Return the constant at an edge."""
    array = facts.constant(nodes[edge.node].inputs[edge.place])
    assert array is not None
    return array


def _reading(edit: Edit, weight: Array) -> Reading:
    assert edit.channels is not None
    assert edit.rows is not None
    channels = edit.channels.reshape(
        (1,) * (weight.ndim - edit.channels.ndim) + edit.channels.shape
    )
    differ = [a for a, size in enumerate(channels.shape) if size > 1 and a != edit.rows]
    taps = [a for a in range(weight.ndim) if a not in differ and a != edit.rows]
    order = (edit.rows, *differ, *taps)
    columns = int(np.prod([weight.shape[a] for a in differ]))
    matrix = weight.transpose(order).reshape(weight.shape[edit.rows], columns, -1)
    matrix = matrix.astype(np.float64)
    return Reading(
        tensor=edit.tensor,
        power=np.square(matrix).sum(2),
        peak=np.abs(matrix).max(2, initial=0),
        channels=channels.transpose(order).reshape(-1, columns),
        taps=matrix.shape[2],
    )


def noise(view: Outlook, scales: Array) -> float:
    """Return the relative error, in power, that int8 makes around a chain; summed over readers."""
    factors = view.chain.factors(view.chain.allowed(scales))
    total, read = 0.0, set()
    for reading in view.readings:
        total += _error(view, reading, factors)
        read.add(reading.tensor)
    for name in view.tensors.keys() - read:
        places, low, high = view.tensors[name]
        weight = np.square(_partners(view, name))
        power = (weight * np.square(view.reaches(name) / CREST)).sum()
        error = (weight * np.square(factors[places])).sum() * _step(places, low, high, factors)
        total += error / power if power else 0.0
    return total


def _step(places: Array, low: Array, high: Array, factors: Array) -> float:
    """Return the variance of rounding a tensor."""
    by = factors[places]
    reach = max((high / by).max(), 0.0) - min((low / by).min(), 0.0)
    return float((reach / 255) ** 2 / 12)


def _error(view: Outlook, reading: Reading, factors: Array) -> float:
    """Return the relative error of what a weight computes, the mean over its rows."""
    places, low, high = view.tensors[reading.tensor]
    scale = factors[places][reading.channels]
    energy = np.square(view.reaches(reading.tensor) / CREST)[reading.channels]
    signal = (reading.power * energy).sum(1)
    heard = signal > 0
    rounding = (reading.power * np.square(scale)).sum(1) * _step(places, low, high, factors)
    steps = (reading.peak * scale).max(1, initial=0) / 127
    rounding += np.square(steps) / 12 * reading.taps * (energy / np.square(scale)).sum(1)
    if not heard.any():
        return 0.0
    return float(np.minimum(rounding[heard] / signal[heard], 1.0).mean())


def _partners(view: Outlook, name: str) -> Array:
    """Return by how much the channels of a tensor are multiplied, 1 where that is not known.

    Queries by keys: tensors of one chain, one of which goes by the inverse of the other's scales.
    """
    places = view.tensors[name][0]
    size = view.chain.size
    found = np.ones(2 * size + 1)
    for other, (theirs, _, _) in view.tensors.items():
        opposite = np.where(theirs < 2 * size, (theirs + size) % (2 * size), 2 * size)
        if np.isin(places, opposite[theirs < 2 * size]).any():
            found[opposite] = np.maximum(view.reaches(other), 1e-12)
    return found[places]
