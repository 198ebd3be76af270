"""Cuts a graph into segments at given nodes, so that each can be run once those before it were.

A segment holds what can be computed without the nodes at which the next ones begin. What goes from
one to the next is integers wherever there are any: a DequantizeLinear is computed again by each
segment that reads it, because integers take a quarter of the room.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Names of what a segment reads and computes, and of what nobody needs once it has run."""

    reads: tuple[str, ...]
    makes: tuple[str, ...]
    last_read: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Cuts:
    """The segments of a graph in their order; `before` is by node the segment that feeds it."""

    segments: tuple[Segment, ...]
    before: dict[str, int]


def cut(graph: ir.Graph, nodes: Collection[str]) -> Cuts:
    """Cut a graph in front of the named nodes of it.

    Nodes that do not depend on each other share a segment; each belongs to the one behind its cut.
    """
    depth: dict[ir.Node, int] = {}
    needs: dict[ir.Node, set[ir.Value]] = {}
    before: dict[str, int] = {}
    for node in graph:
        needs[node] = {integers(value) for value in _read(node, graph)}
        found = max((depth.get(_maker(value), 0) for value in needs[node]), default=0)
        if node.name in nodes:
            before[node.name or ""] = found
            found += 1
        depth[node] = found
    count = max(before.values(), default=0) + 1
    needed: defaultdict[ir.Value, int] = defaultdict(int)
    for node, values in needs.items():
        for value in values if node.op_type != "DequantizeLinear" else ():
            needed[value] = max(needed[value], depth[node])
    segments = [_segment(number, depth, needs, needed) for number in range(count)]
    return Cuts(segments=tuple(segments), before=before)


def integers(value: ir.Value) -> ir.Value:
    """Return the integers that a value is dequantized from, or the value itself."""
    maker = value.producer()
    if maker is None or maker.op_type != "DequantizeLinear":
        return value
    found = maker.inputs[0]
    assert found is not None
    return found


def _maker(value: ir.Value) -> ir.Node:
    return value.producer()  # type: ignore[return-value]


def _read(node: ir.Node, graph: ir.Graph) -> set[ir.Value]:
    """Return the values of a graph that a node or a graph nested in it reads, but for constants."""
    found = {value for value in node.inputs if value is not None}
    for nested in facts.nested_graphs(node):
        for inner in facts.graphs_within(nested):
            found.update(value for value in inner.outputs if value.graph is graph)
            for reader in inner:
                found.update(value for value in reader.inputs if value is not None)
    return {value for value in found if _is_of(value, graph) and not _is_constant(value)}


def _is_constant(value: ir.Value) -> bool:
    return facts.is_constant(integers(value))


def _is_of(value: ir.Value, graph: ir.Graph) -> bool:
    maker = value.producer()
    return value.graph is graph if maker is None else maker.graph is graph


def _segment(
    number: int,
    depth: dict[ir.Node, int],
    needs: dict[ir.Node, set[ir.Value]],
    needed: dict[ir.Value, int],
) -> Segment:
    reads: dict[str, None] = {}
    for node, values in needs.items():
        if depth[node] == number and node.op_type != "DequantizeLinear":
            for value in values:
                if value.producer() is None or depth[_maker(value)] < number:
                    reads[value.name or ""] = None
    makes = [
        value.name or ""
        for value, last in needed.items()
        if value.producer() is not None and depth[_maker(value)] == number and last > number
    ]
    done = [value.name or "" for value, last in needed.items() if last == number]
    return Segment(reads=tuple(reads), makes=tuple(makes), last_read=tuple(done))
