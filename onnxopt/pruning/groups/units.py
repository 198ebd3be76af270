"""The walk that labels units: what goes together, the cuts of constants, and what keeps units.

The labels of a tensor are an array that broadcasts to it from the right (see `channels.walk`). A
unit that goes takes all places of its label out of all tensors, so that what an operator computes
for the places that stay must not depend on those that go, but through a weight that reads them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.labels import FROZEN
from onnxopt.channels.walk import Step, Walk
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.pruning.plan import Kind, Role

OUTPUT = "an output of the model"
_QUANTIZED = ("quantize", "qlinear", "integer", "nbits", "qattention")


class Cut(NamedTuple):
    """A constant that goes with labels, which broadcast from the right to it or to more than it.

    `shape` is that of the constant. Along an axis that it lacks, or has only one place of, it is
    not cut, whatever the labels say.
    """

    edge: Edge
    labels: Array
    shape: tuple[int, ...]
    role: Role


class Why(NamedTuple):
    """What keeps units: a node, and what it does, in words."""

    node: str
    text: str


class Reason(NamedTuple):
    """Labels that stay, and why."""

    labels: Array
    why: Why


class Meeting(NamedTuple):
    """A tensor that cannot shrink, met by one that can, and has one place along some of its axes.

    Labels that turn out to go along an axis where `sizes` is not 1 stay; `sizes` are those of the
    axes of the labels.
    """

    reason: Reason
    sizes: tuple[facts.Dim, ...]


@dataclass(kw_only=True)
class Units(Walk):
    """What is known so far of the units of a model.

    `outer` is the model's graph; `origins` tells why a tensor that is computed cannot shrink,
    `looked` at which inputs a step has, `why` why it gives up, `refusals` where that kept it from
    making any units.
    """

    outer: ir.Graph
    cuts: list[Cut] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)
    meetings: list[Meeting] = field(default_factory=list)
    kinds: list[tuple[Array, Kind]] = field(default_factory=list)
    origins: dict[ir.Value, Why] = field(default_factory=dict)
    looked: set[int] = field(default_factory=set)
    refusals: list[tuple[str, Why]] = field(default_factory=list)
    why: str = ""

    def read(self, node: ir.Node, place: int) -> Array:
        """Return the labels of one input, and remember that somebody has looked at them."""
        self.looked.add(place)
        return super().read(node, place)

    def follow(self, step: Step[Units], node: ir.Node) -> bool:
        """Take a step; let stay what it did not look at."""
        self.looked.clear()
        done = step(self, node)
        for place in set(range(len(node.inputs))) - self.looked:
            told = f"{node.op_type} is told by these channels what to do"
            self.stay(self.read(node, place), because(node, told))
        return done

    def refuse(self, why: str) -> bool:
        """Say why a step gives up, and that it does."""
        self.why = why
        return False

    def fresh(self, count: int, *, axis: int = -1) -> Array:
        """Return new labels along an axis counted from the end; a place that is alone stays."""
        shape = (count, *[1] * (-1 - axis))
        return np.zeros(shape, np.int64) if count < 2 else self.labels.fresh(shape)

    def stay(self, labels: Array, why: Why) -> None:
        """Let labels stay, for a reason."""
        kept = np.unique(labels[labels != FROZEN])
        if kept.size:
            self.reasons.append(Reason(kept, why))
            self.labels.freeze(kept)

    def tie(self, one: Array, other: Array, why: Why) -> None:
        """Let labels go together; those that meet a place that stays, stay."""
        one, other = np.broadcast_arrays(one, other)
        self.stay(np.where(one == FROZEN, other, FROZEN), why)
        self.stay(np.where(other == FROZEN, one, FROZEN), why)
        self.labels.tie(one, other)

    def flat(self, labels: Array, axes: Iterable[int], why: Why) -> Array:
        """Return labels that are the same along axes, over which an operator mixes.

        Where they differ along others too, they are tied, else they stay, for the given reason.
        Axes count from the end.
        """
        mixed = [axis for axis in axes if self.varies(labels, axis)]
        if not mixed:
            return labels
        if set(varying(labels)) <= set(mixed):
            self.stay(labels, why)
            return np.full((), FROZEN)
        for axis in mixed:
            first = labels.take([0], axis)
            self.tie(labels, first, why)
            labels = first
        return labels

    def cut(self, node: ir.Node, place: int, labels: Array, role: Role) -> None:
        """Let a constant, if there is one, go with labels."""
        value = node.inputs[place] if place < len(node.inputs) else None
        shape = facts.static_shape(value)
        if shape is not None and facts.is_constant(value) and labels.any():
            self.cuts.append(Cut(Edge(node.name or "", place), labels, shape, role))

    def write(self, value: ir.Value, labels: Array) -> None:
        """Say what the labels of a tensor are."""
        node = value.producer()
        assert node is not None
        if value.is_graph_output() and labels.any():
            inner = node.graph is not self.outer
            self.stay(labels, because(node, "an output of a nested graph" if inner else OUTPUT))
        elif labels.size == 1:
            text = f"{node.op_type} takes out one of these channels alone"
            self.stay(labels, because(node, text))
            labels = np.full((), FROZEN)
        self.tensors[value] = labels if labels.any() else np.full((), FROZEN)

    def hand_on(self, node: ir.Node, place: int = 0) -> None:
        """Let the first output have the labels of one input."""
        source = node.inputs[place]
        self.write(node.outputs[0], self.read(node, place))
        if source in self.origins:
            self.origins.setdefault(node.outputs[0], self.origins[source])

    def capture(self, node: ir.Node, value: ir.Value) -> None:
        """Let a tensor stay as it is that the graphs within a node read."""
        text = f"a graph within {node.op_type} reads these channels"
        self.stay(self.of(value), because(node, text))

    def freeze(self, node: ir.Node) -> None:
        """Let all that a node reads stay as it is, and what it writes too."""
        quantized = any(word in node.op_type.lower() for word in _QUANTIZED)
        text = f"{node.op_type} is quantized" if quantized else ""
        why = because(node, self.why or text or f"no rule for operator {node.op_type}")
        read = [self.read(node, place) for place in range(len(node.inputs))]
        if (self.why or quantized) and not any(labels.any() for labels in read):
            self.refusals.append((node.outputs[0].name or "", why))
        self.why = ""
        for labels in read:
            self.stay(labels, why)
        for output in node.outputs:
            self.tensors[output] = np.full((), FROZEN)
            if node.inputs:
                self.origins[output] = why

    def keeps(self, value: ir.Value | None, node: ir.Node) -> Why:
        """Say what keeps a tensor that others meet at a node: the name of a node, and why."""
        if value is not None and value in self.origins:
            return self.origins[value]
        kind = "an input" if value is not None and value.is_graph_input() else "something"
        name = (value.name if value is not None else None) or ""
        text = f"{node.op_type} joins these channels with {kind} that cannot shrink: {name}"
        return because(node, text.rstrip(": "))


def because(node: ir.Node, text: str) -> Why:
    """Say that something stays because of what a node does."""
    return Why(node.name or "", text)


def varying(labels: Array) -> list[int]:
    """Return the axes, counted from the end, along which labels differ."""
    return [axis - labels.ndim for axis, size in enumerate(labels.shape) if size > 1]


def size_along(sizes: tuple[facts.Dim, ...] | None, axis: int) -> facts.Dim:
    """Return the size of a tensor along an axis counted from the end; 1 in front of its first."""
    if sizes is None:
        return None
    return sizes[axis] if len(sizes) >= -axis else 1
