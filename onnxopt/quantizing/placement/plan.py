"""Int8 units and the tensors between them: what can be int8, not yet whether it should be.

A unit is what the target runs as one int8 kernel. Which units are chosen is decided elsewhere
(by error and by measured time); any subset of a placement's units is a valid choice. Everything
goes by name, because the model that is written is not the object that was looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from onnxopt.graph.edges import Edge
from onnxopt.quantizing.spec import Spec


@dataclass(frozen=True, kw_only=True)
class Weight:
    """A constant that a unit reads as int8: where, what it becomes, and how it is multiplied.

    `columns` tells the axes whose product is summed, in the order in which kernels walk them:
    the weight transposed to (channel axis, *columns) is a matrix with a row for each channel.
    `groups` divides the rows: those of one group read the same columns of the input.
    """

    edge: Edge
    tensor: str
    spec: Spec
    columns: tuple[int, ...]
    groups: int = 1


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Nodes that the target runs as one int8 kernel, the one that works first.

    `reads` are the edges at which it takes activations as int8. `absorbed` are clamps (Relu, Clip)
    behind the first node that the range of its output makes superfluous. `outputs` are the tensors
    that it writes as int8, none where it writes float; with `writes_either` the kernel does both,
    and the readers decide. `ties` are tensors that have to share one scale, `near` tensors that
    are free if they do. `bias` is the edge of a constant that becomes int32 with the product of the
    scales of input and weight; None where it stays float or there is none.
    """

    name: str
    op: str
    reads: tuple[Edge, ...]
    weight: Weight | None = None
    bias: Edge | None = None
    absorbed: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    writes_either: bool = False
    ties: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Placement:
    """All units that a target could run, in topological order.

    `tensors` are the activations that units read or write, with what they become; `sources` says
    which tensor an edge reads. `left` says of nodes that compute but can be no unit, why. With
    `integer_biases` biases are int32 in the units of the products.
    """

    target: str
    units: tuple[Unit, ...]
    tensors: Mapping[str, Spec]
    sources: Mapping[Edge, str]
    left: Mapping[str, str] = field(default_factory=dict)
    integer_biases: bool = True

    def only(self, names: Collection[str]) -> Placement:
        """Return the placement of some units, by name."""
        units = tuple(unit for unit in self.units if unit.name in names)
        used = {name for unit in units for name in self.touched(unit)}
        tensors = {name: spec for name, spec in self.tensors.items() if name in used}
        return replace(self, units=units, tensors=tensors)

    def touched(self, unit: Unit) -> Iterator[str]:
        """Yield the tensors that a unit reads or writes as int8."""
        yield from (self.sources[edge] for edge in unit.reads)
        yield from unit.outputs

    def scales(self) -> list[list[str]]:
        """Return the tensors in groups that share one scale, in the order of `tensors`."""
        return merged(self.tensors, (unit.ties for unit in self.units))


def merged(names: Iterable[str], ties: Iterable[Iterable[str]]) -> list[list[str]]:
    """Group names so that those tied to each other, directly or not, are in one group."""
    group = {name: [name] for name in names}
    for tie in ties:
        known = [name for name in tie if name in group]
        for other in known[1:]:
            mine, theirs = group[known[0]], group[other]
            if mine is not theirs:
                mine.extend(theirs)
                group.update(dict.fromkeys(theirs, mine))
    return list({id(members): members for members in group.values()}.values())
