"""Predicts how long the nodes of a model take: multiplications, bytes moved, and each call.

seconds = MACs / speed + bytes / bandwidth + one call

A node reads what it is given and writes what it makes once; one that only looks at memory in
another way moves nothing, one that picks reads what it picks. What a runtime fuses by itself is not
seen, nor that one kernel is better than another: good enough to say what is worth measuring first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import RULE_KEY
from onnxopt.graph.profile import known_sizes, macs
from onnxopt.graph.storage.kept import KEY as KEPT

_VIEWS = frozenset(
    {"Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Dropout", "Shape", "Size"}
)
_PICKS = frozenset({"Gather", "Slice", "Split", "GatherElements", "GatherND"})


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


def predict(
    model: ir.Model, shapes: Mapping[str, tuple[int, ...]], provider: str
) -> dict[str, float]:
    """Predict the seconds of one run, by the rule that made the nodes; "" are those of the file.

    `shapes` gives the shapes of values by name; a dimension that is in neither it nor the model
    counts as 1. Every branch of an If counts, the body of a Loop counts once.
    """
    machine = _MACHINES.get(provider, _PROCESSOR)
    seconds: dict[str, float] = {}

    def sizes(value: ir.Value | None) -> tuple[int, ...]:
        found = shapes.get(value.name or "") if value is not None else None
        return known_sizes(value) if found is None else found

    def moved(value: ir.Value | None) -> float:
        try:
            width = facts.dtype(value) or ir.DataType.FLOAT
            return math.prod(sizes(value)) * width.itemsize
        except TypeError:
            return 0.0

    for graph, _ in facts.scopes(model):
        for node in graph:
            if node.op_type == "Constant" or node.domain == KEPT:
                continue
            written = sum(map(moved, node.outputs))
            if node.op_type in _VIEWS:
                traffic = 0.0
            elif node.op_type in _PICKS:
                traffic = 2 * written
            else:
                traffic = written + sum(map(moved, node.inputs))
            work = (macs(node, sizes) or 0) / machine.macs
            rule = node.metadata_props.get(RULE_KEY, "")
            taken = work + traffic / machine.bytes + machine.call
            seconds[rule] = seconds.get(rule, 0.0) + taken
    return seconds
