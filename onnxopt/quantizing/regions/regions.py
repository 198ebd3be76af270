"""Tells which units are decided together, and what has to be converted where regions meet.

What only moves elements goes with the unit that makes them, or else with the only one that reads
them: alone it could gain nothing. Products that read one tensor (queries, keys and values) go
together, because its rounding is the same for all of them. A tensor that crosses from one region
to another has to be converted if one of them is int8 and the other is not: which way, and when,
follows from what writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import prod

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.insert.qdq import values_of
from onnxopt.quantizing.placement.plan import Placement, Unit, merged

_PRODUCTS = ("Gemm", "MatMul")
_SPATIAL = frozenset({"AveragePool", "Conv", "GlobalAveragePool", "MaxPool"})
"""Operators whose float and int8 kernels keep the channels in blocks, or last."""


@dataclass(frozen=True, kw_only=True)
class Region:
    """Units that become int8 together, by name; the region has the name of the first that works."""

    name: str
    op: str
    units: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """A tensor that regions read or write as int8, of so many `elements` in one run.

    `writer` is the region that writes it, None where it is always float; `readers` are those that
    would read it as int8. `outside` tells that something else reads it, which wants float; with
    `either` the writer's kernel makes float or int8. `image` tells that convolutions or pools write
    or read it, whose float and int8 kernels order it differently; `given` that it is an input.
    """

    tensor: str
    elements: int
    writer: str | None
    readers: tuple[str, ...]
    outside: bool = False
    either: bool = False
    image: bool = False
    given: bool = False


@dataclass(frozen=True, kw_only=True)
class Regions:
    """All regions of a placement in topological order, and every tensor at which they meet.

    `surrounded` are regions without weights, with their neighbours: once all of those are int8, it
    stands between DQ and Q, and runs as int8 whether it was chosen or not.
    """

    regions: tuple[Region, ...]
    crossings: tuple[Crossing, ...]
    surrounded: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def units(self, chosen: Iterable[str]) -> frozenset[str]:
        """Return the units of some regions."""
        wanted = set(chosen)
        return frozenset(
            unit for region in self.regions if region.name in wanted for unit in region.units
        )


def divide(
    model: ir.Model, placement: Placement, sizes: Mapping[str, int] | None = None
) -> Regions:
    """Return the regions of a placement of a model.

    `sizes` are the elements of tensors whose shapes are not known from the model; a dimension that
    is known from neither counts as one.
    """
    regions = _regions(placement)
    seams = _Seams(placement, regions)
    values = values_of(model)
    found = [seams.crossing(name, values[name], sizes or {}) for name in placement.tensors]
    crossings = tuple(one for one in found if one is not None)
    weighted = {seams.region_of[unit.name] for unit in placement.units if unit.weight is not None}
    return Regions(
        regions=regions,
        crossings=crossings,
        surrounded={
            region.name: neighbours
            for region in regions
            if region.name not in weighted
            and (neighbours := _surrounding(region.name, crossings)) is not None
        },
    )


def _surrounding(name: str, crossings: Iterable[Crossing]) -> frozenset[str] | None:
    """Return the regions around one that it is int8 between; None where it never is."""
    found: set[str] = set()
    for one in crossings:
        if name in one.readers and one.writer != name:
            if one.writer is None or one.either:
                return None
            found.add(one.writer)
        if one.writer == name and not one.either:
            if one.outside or not one.readers:
                return None
            found.update(one.readers)
    return frozenset(found - {name}) or None


def _regions(placement: Placement) -> tuple[Region, ...]:
    units = {unit.name: unit for unit in placement.units}
    groups = merged(units, [*_moved(placement), *_siblings(placement)])
    order = {name: place for place, name in enumerate(units)}
    regions = []
    for group in groups:
        members = sorted(group, key=order.__getitem__)
        first = next((name for name in members if not units[name].ties), members[0])
        regions.append(Region(name=first, op=units[first].op, units=tuple(members)))
    return tuple(sorted(regions, key=lambda region: order[region.units[0]]))


def _moved(placement: Placement) -> Iterable[tuple[str, str]]:
    """Yield each unit that moves elements with the one that it goes with."""
    writers = {name: unit for unit in placement.units for name in unit.outputs}
    readers: dict[str, list[Unit]] = {}
    for unit in placement.units:
        for edge in unit.reads:
            readers.setdefault(placement.sources[edge], []).append(unit)
    for unit in placement.units:
        if not unit.ties:
            continue
        writer = writers.get(placement.sources[unit.reads[0]])
        if writer is not None:
            yield unit.name, writer.name
            continue
        reading = [each for name in unit.outputs for each in readers.get(name, ())]
        if len(reading) == 1:
            yield unit.name, reading[0].name


def _siblings(placement: Placement) -> Iterable[list[str]]:
    """Yield products with constants that read the same tensor."""
    readers: dict[str, list[str]] = {}
    for unit in placement.units:
        if unit.op in _PRODUCTS and unit.weight is not None:
            readers.setdefault(placement.sources[unit.reads[0]], []).append(unit.name)
    return (names for names in readers.values() if len(names) > 1)


class _Seams:
    """Who writes and who reads a tensor, looked up by name."""

    def __init__(self, placement: Placement, regions: Iterable[Region]) -> None:
        region_of = {unit: region.name for region in regions for unit in region.units}
        self.writers = {name: unit for unit in placement.units for name in unit.outputs}
        self.readers = {edge: region_of[u.name] for u in placement.units for edge in u.reads}
        self.region_of = region_of

    def crossing(self, name: str, value: ir.Value, sizes: Mapping[str, int]) -> Crossing | None:
        """Return what crosses between regions with a tensor; None where nothing does."""
        unit = self.writers.get(name)
        writer = None if unit is None else self.region_of[unit.name]
        found = [self.readers.get(Edge(use.node.name, use.idx)) for use in facts.uses(value)]
        readers = tuple(dict.fromkeys(reader for reader in found if reader is not None))
        outside = value.is_graph_output() or None in found
        if not outside and set(readers) <= {writer}:
            return None
        return Crossing(
            tensor=name,
            elements=sizes.get(name) or _elements(value),
            writer=writer,
            readers=readers,
            outside=outside,
            either=unit is not None and unit.writes_either,
            image=not _SPATIAL.isdisjoint(self.ops(name, value)),
            given=value.is_graph_input(),
        )

    def ops(self, name: str, value: ir.Value) -> Iterator[str]:
        """Yield the operators that write and read a tensor."""
        if name in self.writers:
            yield self.writers[name].op
        elif (maker := value.producer()) is not None:
            yield maker.op_type
        yield from (use.node.op_type for use in facts.uses(value))


def _elements(value: ir.Value) -> int:
    shape = facts.shape(value) or ()
    return prod(size for size in shape if isinstance(size, int))
