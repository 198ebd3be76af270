"""Predicts how long the nodes of a model take: multiplications, bytes moved, and each call.

seconds = MACs / speed + bytes / bandwidth + one call

A node reads what it is given and writes what it makes once; one that only looks at memory in
another way moves nothing, one that picks reads what it picks. What a runtime fuses by itself is not
seen, nor that one kernel is better than another: good enough to say what is worth measuring first.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import RULE_KEY
from onnxopt.graph.profile import known_macs, known_sizes
from onnxopt.graph.storage.kept import KEY as KEPT
from onnxopt.graph.work import holds_graphs, traffic


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What an execution provider gets done in a second, and the seconds that one call costs."""

    macs: float
    bytes: float
    call: float


_PROCESSOR = Machine(macs=4e10, bytes=1e10, call=3e-6)
_MACHINES = {
    "cuda": Machine(macs=1e13, bytes=1e12, call=5e-6),
    "tensorrt": Machine(macs=1e13, bytes=1e12, call=2e-6),
}


@dataclass(frozen=True, kw_only=True)
class NodeCost:
    """What one run of a node takes: `macs` and `bytes` are None where they cannot be told.

    Of a node that holds graphs neither is told: the nodes inside have costs of their own.
    """

    node: ir.Node
    graph: ir.Graph
    macs: int | None
    bytes: int | None
    seconds: float


def costs(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], provider: str
) -> Iterator[NodeCost]:
    """Predict what each node of a model takes, those that nothing runs for left out.

    `shapes` gives the shapes of values by name; a dimension that is in neither it nor the model
    counts as 1. Every branch of an If counts, the body of a Loop counts once.
    """
    machine = _MACHINES.get(provider, _PROCESSOR)

    def sizes(value: ir.Value | None) -> tuple[int, ...]:
        found = shapes.get(value.name or "") if value is not None else None
        return known_sizes(value) if found is None else found

    def held(value: ir.Value | None) -> float | None:
        try:
            width = facts.dtype(value) or ir.DataType.FLOAT
            return math.prod(sizes(value)) * width.itemsize
        except TypeError:
            return None

    for graph, _ in facts.scopes(model):
        for node in graph:
            if node.op_type == "Constant" or node.domain == KEPT:
                continue
            read = [held(value) for value in node.inputs if value is not None]
            written = [held(value) for value in node.outputs if value.name]
            moved = traffic(node.op_type, sum(filter(None, read)), sum(filter(None, written)))
            told = not holds_graphs(node.op_type) and None not in (*read, *written)
            work = known_macs(node, sizes)
            yield NodeCost(
                node=node,
                graph=graph,
                macs=work,
                bytes=int(moved) if told else None,
                seconds=(work or 0) / machine.macs + moved / machine.bytes + machine.call,
            )


def predict(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], provider: str
) -> dict[str, float]:
    """Sum the predicted seconds of `costs` by the rule that made the nodes; "" are the file's."""
    seconds: dict[str, float] = {}
    for cost in costs(model, shapes, provider):
        rule = cost.node.metadata_props.get(RULE_KEY, "")
        seconds[rule] = seconds.get(rule, 0.0) + cost.seconds
    return seconds
