"""One walk over a graph that labels the channels of every tensor (see `labels`).

The labels of a tensor are an array that broadcasts to it from the right: [C, 1, 1] for the output
of a Conv over pictures, [C] for that of a MatMul, [heads, 1, width] for heads. What the walk does
at an operator is told by a table, operator → function; an operator that is in no table freezes all
that it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.labels import FROZEN, Labels
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir


@dataclass(kw_only=True)
class Walk:
    """What is known so far of one graph."""

    opset: int
    labels: Labels
    tensors: dict[ir.Value, Array] = field(default_factory=dict)

    def read(self, node: ir.Node, place: int) -> Array:
        """Return the labels of one input; frozen where nothing is known of it."""
        value = node.inputs[place] if place < len(node.inputs) else None
        return np.full((), FROZEN) if value is None else self.of(value)

    def of(self, value: ir.Value) -> Array:
        """Return the labels of a tensor; frozen where nothing is known of it."""
        return self.tensors.get(value, np.full((), FROZEN))

    def along(self, labels: Array, axis: int, count: int) -> Array:
        """Return the labels along one axis, counted from the end: [count].

        Labels that differ along other axes too are frozen.
        """
        others = [size for place, size in enumerate(labels.shape) if place - labels.ndim != axis]
        whole = labels.shape[axis] if labels.ndim >= -axis else 1
        if any(size > 1 for size in others) or whole not in (1, count):
            self.labels.freeze(labels)
            return np.full(count, FROZEN)
        return np.broadcast_to(labels.reshape(-1), count)

    def varies(self, labels: Array, axis: int) -> bool:
        """Tell whether labels differ along an axis, counted from the end."""
        return labels.ndim >= -axis and labels.shape[axis] > 1

    def write(self, value: ir.Value, labels: Array) -> None:
        """Say what the labels of a tensor are."""
        self.tensors[value] = labels
        if value.is_graph_output():
            self.labels.freeze(labels)

    def capture(self, node: ir.Node, value: ir.Value) -> None:  # noqa: ARG002
        """Let a tensor stay as it is that the graphs within a node read."""
        self.labels.freeze(self.of(value))

    def freeze(self, node: ir.Node) -> None:
        """Let all that a node reads stay as it is, and what it writes too."""
        for place in range(len(node.inputs)):
            self.labels.freeze(self.read(node, place))
        for output in node.outputs:
            self.tensors[output] = np.full((), FROZEN)

    def hand_on(self, node: ir.Node, place: int = 0) -> None:
        """Let the first output have the labels of one input; other outputs are frozen."""
        self.write(node.outputs[0], self.read(node, place))


AnyWalk = TypeVar("AnyWalk", bound=Walk)
Step = Callable[[AnyWalk, ir.Node], bool]
"""Labels what a node writes; tells whether it could."""


def whole(labels: Array, rank: int) -> Array:
    """Return labels with all dimensions, those in front of size 1."""
    return labels.reshape((1,) * (rank - labels.ndim) + labels.shape)


def constants(node: ir.Node) -> list[int]:
    """Return which inputs are constants."""
    return [place for place, value in enumerate(node.inputs) if facts.is_constant(value)]


def walk(walked: AnyWalk, graph: ir.Graph, steps: Mapping[str, Step[AnyWalk]]) -> None:
    """Label all tensors of a graph."""
    for node in graph:
        for value in _captured(node):
            if value in walked.tensors:
                walked.capture(node, value)
        step = None if node.domain else steps.get(node.op_type)
        if step is None or not node.name or not step(walked, node):
            walked.freeze(node)
        for output in node.outputs[1:]:
            walked.tensors.setdefault(output, np.full((), FROZEN))


def _captured(node: ir.Node) -> Iterator[ir.Value]:
    """Yield what the graphs that a node carries read."""
    for graph in facts.nested_graphs(node):
        for inner in facts.graphs_within(graph):
            yield from inner.outputs
            for nested in inner:
                yield from (value for value in nested.inputs if value is not None)
