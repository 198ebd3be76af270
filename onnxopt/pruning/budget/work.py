"""Counts MACs and parameters of a model as its groups get narrower, without making it so.

An axis of a tensor has places of groups and places of nobody:

    length = places of nobody + Σ_groups units kept · places of a unit

and what a node has to do is told by the same formulas over shapes as that of a whole model
(`graph.work`): a Conv depends on the group that it writes and the one that it reads, a depthwise
one on one, products of activations on the heads. Where the units of a group do not all have as many
places (a tensor that stands twice in a Concat, once in part), their mean counts, and what is
counted is no longer exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts, work
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.graph.profile import known_sizes
from onnxopt.graph.storage.kept import KEY as KEPT
from onnxopt.pruning.budget.total import Term, Total, Widths, split
from onnxopt.pruning.plan import Group, Groups

_DOMAINS = ("", "com.microsoft")


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The length of one axis: `parts` are a group, its size, and the places of each unit."""

    length: int
    parts: tuple[tuple[str, int, float], ...]

    def at(self, kept: Widths) -> Any:
        """Return the length at these widths."""
        gone = sum(places * (size - kept[group]) for group, size, places in self.parts)
        if any(places != int(places) for _, _, places in self.parts):
            gone = np.rint(gone).astype(np.int64)
        return self.length - gone


Sized = tuple[int | Axis, ...]
"""A shape, some of whose axes depend on widths."""


def shape_at(shape: Sized | None, kept: Widths) -> tuple[Any, ...] | None:
    """Return a shape at these widths; None where it is not known."""
    if shape is None:
        return None
    return tuple(dim.at(kept) if isinstance(dim, Axis) else dim for dim in shape)


@dataclass(frozen=True, kw_only=True, eq=False)
class NodeWork:
    """What one node reads and writes, by widths; `equation` is that of an Einsum.

    `constant` are the places of its inputs that are constants.
    """

    name: str
    op: str
    domain: str
    groups: tuple[str, ...]
    reads: tuple[Sized | None, ...]
    writes: tuple[Sized | None, ...]
    constant: frozenset[int] = frozenset()
    equation: str = ""

    @property
    def is_counted(self) -> bool:
        """Whether the node is made of MACs."""
        return work.is_counted(self.op) and self.domain in _DOMAINS

    def macs(self, kept: Widths) -> Any:
        """Count the MACs; 0 for operators that are not made of them, and for unknown shapes."""
        if not self.is_counted:
            return 0
        reads, writes = self.shapes(kept)
        found = work.macs(self.op, reads, writes, self.equation)
        if found is None:
            return self._one_by_one(kept)
        return found

    def moved(self, kept: Widths) -> Any:
        """Count the elements that the node has to read and write."""
        reads, writes = (
            sum(math.prod(shape) for shape in side if shape is not None)
            for side in self.shapes(kept)
        )
        return work.traffic(self.op, reads, writes)

    def shapes(self, kept: Widths) -> tuple[list[Any], list[Any]]:
        """Return the shapes that are read and written."""
        return [shape_at(each, kept) for each in self.reads], [
            shape_at(each, kept) for each in self.writes
        ]

    def _one_by_one(self, kept: Widths) -> Any:
        """Count for each of many widths alone: some formulas compare sizes."""
        many = next((kept[name] for name in self.groups if np.ndim(kept[name])), None)
        if many is None:
            return 0
        name = next(name for name in self.groups if kept[name] is many)
        return np.array([self.macs({**kept, name: int(width)}) for width in many], np.int64)


@dataclass(frozen=True, kw_only=True, eq=False)
class Work:
    """MACs and parameters of a model by widths, and the nodes that make them up."""

    macs: Total
    parameters: Total
    nodes: tuple[NodeWork, ...]


def work_of(
    model: ir.Model, groups: Groups, shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Work:
    """Return what a model costs by the widths of its groups.

    It needs inferred shapes (`passes.shapes`). `shapes` gives those of values by name where sizes
    were fixed (`passes.concrete`); a dimension that is in neither counts as 1, as in `profile`.
    """
    sizes = _Sizes(groups, shapes or {})
    nodes = tuple(sizes.nodes(model))
    full = {group.name: group.size for group in groups}
    macs, other = split(
        Term(name=node.name, groups=node.groups, value=node.macs)
        for node in nodes
        if node.is_counted
    )
    parameters, constants = split(sizes.tensors(model))
    return Work(
        macs=Total(full=full, terms=macs, fixed=other),
        parameters=Total(full=full, terms=parameters, fixed=constants),
        nodes=nodes,
    )


class _Sizes:
    """Knows which groups each axis of each tensor depends on."""

    def __init__(self, groups: Groups, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.given = shapes
        self.tensors_of: dict[str, list[tuple[int, Group, Array]]] = {}
        self.slices_of: dict[Edge, list[tuple[int, Group, Array]]] = {}
        for group in groups:
            for tensor, (axis, units) in group.tensors.items():
                self.tensors_of.setdefault(tensor, []).append((axis, group, units))
            for part in group.slices:
                found = self.slices_of.setdefault(part.edge, [])
                found.append((part.axis, group, part.units))

    def nodes(self, model: ir.Model) -> Iterator[NodeWork]:
        """Yield all nodes, those of nested graphs and functions included."""
        for graph, _ in facts.scopes(model):
            for node in graph:
                if node.op_type != "Constant" and node.domain != KEPT:
                    yield self.node(node)

    def node(self, node: ir.Node) -> NodeWork:
        reads = tuple(self.read(node, place) for place in range(len(node.inputs)))
        writes = tuple(self.activation(value) for value in node.outputs)
        is_einsum = node.op_type == "Einsum"
        return NodeWork(
            name=node.name or "",
            op=node.op_type,
            domain=node.domain,
            groups=_groups_in((*reads, *writes)),
            reads=reads,
            writes=writes,
            constant=frozenset(
                place for place, value in enumerate(node.inputs) if facts.is_constant(value)
            ),
            equation=(node.attributes.get_string("equation", "") or "") if is_einsum else "",
        )

    def read(self, node: ir.Node, place: int) -> Sized | None:
        value = node.inputs[place]
        if not facts.is_constant(value):
            return self.activation(value)
        return _sized(self.base(value), self.slices_of.get(Edge(node.name or "", place), ()))

    def activation(self, value: ir.Value | None) -> Sized | None:
        found = self.tensors_of.get(value.name or "", ()) if value is not None else ()
        return _sized(self.base(value), found)

    def base(self, value: ir.Value | None) -> tuple[int, ...] | None:
        given = self.given.get(value.name or "") if value is not None else None
        if given is not None:
            return given
        try:
            return known_sizes(value)
        except TypeError:
            return None

    def tensors(self, model: ir.Model) -> Iterator[Term]:
        """Yield the parameters of each constant once, as `profile` counts them."""
        slices: dict[int, list[tuple[int, Group, Array]]] = {}
        constants: dict[int, ir.Value] = {}
        for graph, _ in facts.scopes(model):
            held = [value for value in graph.initializers.values() if value.const_value is not None]
            constants |= {id(value): value for value in held}
            for node in graph:
                if node.op_type == "Constant" and facts.tensor(node.outputs[0]) is not None:
                    constants[id(node.outputs[0])] = node.outputs[0]
                for place, value in enumerate(node.inputs):
                    found = self.slices_of.get(Edge(node.name or "", place))
                    if found:
                        slices.setdefault(id(value), found)
        for key, value in constants.items():
            shape = _sized(_shape_of(value), slices.get(key, ()))
            yield Term(name=value.name or "", groups=_groups_in((shape,)), value=_elements(shape))


def _shape_of(value: ir.Value) -> tuple[int, ...]:
    held = value.const_value if value.const_value is not None else facts.tensor(value)
    assert held is not None
    return tuple(int(size) for size in held.shape.numpy())


def _elements(shape: Sized | None) -> Any:
    return lambda kept: math.prod(shape_at(shape, kept) or ())


def _groups_in(shapes: Iterable[Sized | None]) -> tuple[str, ...]:
    """Return the groups that some axis depends on, in a fixed order."""
    return tuple(
        dict.fromkeys(
            group
            for shape in shapes
            for dim in shape or ()
            if isinstance(dim, Axis)
            for group, _, _ in dim.parts
        )
    )


def _sized(base: tuple[int, ...] | None, parts: Iterable[tuple[int, Group, Array]]) -> Sized | None:
    if base is None:
        return None
    found: list[int | Axis] = list(base)
    for axis, group, units in parts:
        before = found[axis]
        places = int(np.count_nonzero(units >= 0)) / group.size
        part = (group.name, group.size, int(places) if places.is_integer() else places)
        others = before.parts if isinstance(before, Axis) else ()
        found[axis] = Axis(length=len(units), parts=(*others, part))
    return tuple(found)
