"""The walk that labels channels by how they may be scaled, and what has to be scaled with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.labels import FROZEN
from onnxopt.channels.walk import Walk
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge

Ranges = Mapping[str, tuple[Array, Array]]
"""Least and largest number that each channel of a tensor took: [channels] each, by tensor."""

SHARED_ELEMENTS = 1 << 14
"""A constant of up to so many elements may be kept twice, if it has other readers too."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """A constant that is to be divided by the scales of its labels, or multiplied by them.

    For a weight, `rows` is the axis that has one int8 scale per channel; where it reads `tensor`,
    `channels` says which channel each element meets, in an array that broadcasts as `labels` do.
    """

    edge: Edge
    labels: Array
    divide: bool
    rows: int | None = None
    tensor: str = ""
    channels: Array | None = None


@dataclass(kw_only=True)
class Scaling(Walk):
    """A walk that looks for scales; `restored` are edges that will read what stood before.

    `observed` are ranges by which a clamp that none of them reaches counts as absent; the scales
    then leave room for `margin` times the range. `bounds` are those of tensors that are clamped.
    """

    observed: Ranges = field(default_factory=dict)
    margin: float = 1.0
    restored: Collection[Edge] = ()
    bounds: dict[ir.Value, tuple[float, float]] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def read(self, node: ir.Node, place: int) -> Array:
        """Return the labels of one input; frozen where nothing is known of it, or is restored."""
        if Edge(node.name or "", place) in self.restored:
            return np.full((), FROZEN)
        return super().read(node, place)

    def change(self, node: ir.Node, place: int, labels: Array, *, divide: bool) -> None:
        """Ask for a constant that is divided, or multiplied, by the scales of labels."""
        if place < len(node.inputs) and node.inputs[place] is not None:
            edge = Edge(node.name or "", place)
            self.changes.append(Change(edge=edge, labels=labels, divide=divide))


def editable(value: ir.Value | None) -> bool:
    """Tell whether a value is a float constant that may be written anew, with other numbers."""
    held = facts.tensor(value)
    if held is None or value is None or not facts.is_float(value):
        return False
    return held.size <= SHARED_ELEMENTS or facts.is_private(value)
