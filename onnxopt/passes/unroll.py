"""Unrolls Loop and Scan whose number of turns is known, where few nodes come of it.

A turn of a loop is a copy of its body that reads what the turn before has handed on. That is worth
it beyond the nodes: runtimes neither fuse across turns nor plan memory for them, and what depends
on the number of the turn alone becomes constant. A body that runs once just moves out.

Only bodies without loops are copied, so the innermost loops go first and the nodes that come of it
stay in proportion to the model: a file of a few nested loops cannot ask for millions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor, graph_of
from onnxopt.passes.loops import Frame, frame_of
from onnxopt.passes.share import RANDOM

NAME = "unroll"
SUMMARY = "Writes out loops of a few turns, where their number is known"

_MOST_NODES = 64
_AXES_AS_INPUT = 13  # the operator set since which Unsqueeze and Squeeze take their axes so
_FREE = frozenset({"Constant", "Identity"})


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Unroll every loop of a few turns, inner ones first, so that outer ones may follow."""
    done = 0
    while True:
        loops = [
            node
            for graph, _ in facts.scopes(editor.model)
            for node in graph
            if node.op_type in ("Loop", "Scan") and not node.domain
        ]
        found = sum(unroll(editor, node) for node in reversed(loops))
        if not found:
            return Counter(unroll_loops=done) if done else Counter()
        done += found


def unroll(editor: Editor, node: ir.Node) -> bool:
    """Put the turns of one Loop or Scan in its place, where their number is known and small."""
    frame = frame_of(editor, node)
    if frame is None or not _plain(node, frame):
        return False
    turns = _loop_turns(node, frame) if node.op_type == "Loop" else _scan_turns(node, frame)
    if turns is None or turns < 1 or (turns > 1 and not _worth_copies(editor, node, frame, turns)):
        return False
    unrolling = _Unrolling(editor=editor, node=node, frame=frame, turns=turns)
    for old, new in zip(node.outputs, unrolling.results(), strict=True):
        if old.name:
            editor.replace(old, new)
    editor.erase(node)
    return True


def _plain(node: ir.Node, frame: Frame) -> bool:
    """Tell whether every carried value has an initial one and no axis counts from the back."""
    initial = node.inputs[frame.node_input : frame.node_input + frame.carried]
    lists = (node.attributes.get(name) for name in ("scan_input_axes", "scan_output_axes"))
    axes = [axis for held in lists if held is not None for axis in held.as_ints()]
    return None not in initial and all(axis >= 0 for axis in axes)


def _loop_turns(node: ir.Node, frame: Frame) -> int | None:
    """Return how often a Loop runs, where that does not depend on what it computes."""
    first = node.inputs[1]
    if first is not None and not facts.scalar(first):
        return None
    trips = None if node.inputs[0] is None else facts.scalar(node.inputs[0])
    if node.inputs[0] is not None and trips is None:
        return None
    goes_on = frame.body.outputs[0]
    while (maker := goes_on.producer()) is not None and maker.op_type == "Identity":
        source = maker.inputs[0]
        if source is None:
            break
        goes_on = source
    if trips == 1 or facts.scalar(goes_on) == 0:
        return 1 if trips is None else min(int(trips), 1)
    unbroken = goes_on is frame.body.inputs[1] or facts.scalar(goes_on)
    return int(trips) if unbroken and trips is not None else None


def _scan_turns(node: ir.Node, frame: Frame) -> int | None:
    """Return the length of what a Scan goes through, where its size is known."""
    dims = facts.shape(node.inputs[frame.carried])
    axis = _listed(node, "scan_input_axes", 0)
    length = dims[axis] if dims is not None and axis < len(dims) else None
    return length if isinstance(length, int) else None


def _listed(node: ir.Node, name: str, index: int) -> int:
    """Return one number of a list that a Scan may leave out; 0 where it does."""
    held = node.attributes.get(name)
    return 0 if held is None else int(held.as_ints()[index])


def _worth_copies(editor: Editor, node: ir.Node, frame: Frame, turns: int) -> bool:
    inner = [found for graph in facts.graphs_within(frame.body) for found in graph]
    kinds = {found.op_type for found in inner if not found.domain}
    if kinds & ({"Loop", "Scan"} | RANDOM) or not editor.holds_initializers(graph_of(node)):
        return False
    if any(value.is_graph_output() for value in frame.body.initializers.values()):
        return False
    scans = len(node.outputs) - frame.carried
    slices = len(frame.body.inputs) - frame.carried if node.op_type == "Scan" else 0
    nodes = sum(found.op_type not in _FREE for found in inner) + scans + slices
    return turns * nodes + scans <= _MOST_NODES


@dataclass(frozen=True, kw_only=True)
class _Unrolling:
    """Puts the turns of one loop in front of it."""

    editor: Editor
    node: ir.Node
    frame: Frame
    turns: int

    def results(self) -> list[ir.Value]:
        """Write all turns, the last with the body itself; return what the loop's outputs are."""
        frame, node = self.frame, self.node
        if self.turns > 1:
            self.prepare_copies()
        handed = [v for v in node.inputs[frame.node_input :] if v is not None][: frame.carried]
        rows: list[list[ir.Value]] = [[] for _ in node.outputs[frame.carried :]]
        for turn in range(self.turns):
            last = turn == self.turns - 1
            body = frame.body if last else frame.body.clone(allow_outer_scope_values=True)
            prefix = "" if last else f"{node.name or node.op_type}/{turn}/"
            found = self.write(body, handed, turn, prefix)
            handed = found[: frame.carried]
            for scan, row in zip(rows, found[frame.carried :], strict=True):
                scan.append(row)
        return handed + [self.stack(index, scan) for index, scan in enumerate(rows)]

    def prepare_copies(self) -> None:
        """Leave in the body only what each turn needs for itself."""
        for value in list(self.frame.body.initializers.values()):
            self.editor.hoist(value, graph_of(self.node))
        for graph in facts.graphs_within(self.frame.body):
            for value in (value for inner in graph for value in inner.outputs):
                # Named dimensions are equal within a turn, not from turn to turn.
                if facts.static_shape(value) is None:
                    value.shape = None

    def write(
        self, body: ir.Graph, handed: Sequence[ir.Value], turn: int, prefix: str
    ) -> list[ir.Value]:
        """Put one turn in front of the loop; return what it hands on and its rows."""
        frame = self.frame
        actual: dict[ir.Value, ir.Value] = {}
        for index, parameter in enumerate(body.inputs):
            place = index - frame.body_input
            if 0 <= place < frame.carried:
                actual[parameter] = handed[place]
            elif (parameter.uses() or parameter.is_graph_output()) and place < 0:
                actual[parameter] = self.count(parameter, index, turn)
            elif parameter.uses() or parameter.is_graph_output():
                actual[parameter] = self.slice(place - frame.carried, turn)
        for parameter, value in actual.items():
            for reader, index in parameter.uses():
                reader.replace_input_with(index, value)
        results = self.editor.splice(body, self.node, prefix)
        return [actual.get(value, value) for value in results[frame.body_output :]]

    def count(self, parameter: ir.Value, index: int, turn: int) -> ir.Value:
        """Return what Loop gives its body besides carried values: the turn, and that it goes on."""
        content = np.array(True) if index else np.array(turn, np.int64)
        if facts.rank(parameter) == 1:
            content = content.reshape(1)
        return self.editor.constant(content, parameter.name or "turn", self.node)

    def slice(self, index: int, turn: int) -> ir.Value:
        """Return what Scan gives its body in one turn of one of its inputs."""
        source = self.node.inputs[self.frame.carried + index]
        axis = _listed(self.node, "scan_input_axes", index)
        if self.turns == 1:
            return self.with_axes("Squeeze", source, axis)
        if _listed(self.node, "scan_input_directions", index):
            turn = self.turns - 1 - turn
        place = self.editor.constant(np.array(turn, np.int64), "turn", self.node)
        return self.insert(ir.node("Gather", [source, place], {"axis": axis}), source)

    def stack(self, index: int, rows: list[ir.Value]) -> ir.Value:
        """Put the rows of one scan together."""
        axis = _listed(self.node, "scan_output_axes", index)
        if _listed(self.node, "scan_output_directions", index):
            rows.reverse()
        parts = [self.with_axes("Unsqueeze", row, axis) for row in rows]
        if len(parts) == 1:
            return parts[0]
        return self.insert(ir.node("Concat", parts, {"axis": axis}), parts[0])

    def with_axes(self, op_type: str, value: ir.Value | None, axis: int) -> ir.Value:
        """Insert a Squeeze or Unsqueeze of one axis."""
        if self.editor.opset(graph_of(self.node)) >= _AXES_AS_INPUT:
            axes = self.editor.constant(np.array([axis], np.int64), "axes", self.node)
            return self.insert(ir.node(op_type, [value, axes]), value)
        return self.insert(ir.node(op_type, [value], {"axes": [axis]}), value)

    def insert(self, made: ir.Node, like: ir.Value | None) -> ir.Value:
        """Insert a node whose result has the element type of a value."""
        if like is not None:
            made.outputs[0].type = like.type
        self.editor.insert([made], self.node)
        return made.outputs[0]
