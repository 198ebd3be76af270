"""What can be taken out of a model together: groups of units, and the slices that go with each.

A unit is the least that can go: a channel, a neuron, a head, a place of a recurrent state. Units of
a group share an axis; any part of them can go, but not all. Everything is told by names, because
the model that is written is not the object that was looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from onnxopt.arrays import Array
from onnxopt.graph.edges import Edge

Role = Literal["writes", "reads", "follows"]
"""What a constant does with units: it makes them, takes them in, or goes along with them."""
Kind = Literal["channels", "heads", "state"]

Keep = Mapping[str, Array]
"""By group, which of its units stay: bool [size] each. A group that is not named stays whole."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Slice:
    """One axis of a constant that goes with the units of a group.

    `units` [length of the axis] is the unit that each place belongs to, -1 where it belongs to none
    of the group. A weight is sliced by two groups where both its axes are.
    """

    edge: Edge
    axis: int
    units: Array
    role: Role


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """Units that one decision is made about; `name` is that of the first tensor they make up.

    `tensors` are the activations that shrink: by name, the axis and the unit of each place of it.
    """

    name: str
    size: int
    kind: Kind = "channels"
    slices: tuple[Slice, ...] = ()
    tensors: Mapping[str, tuple[int, Array]] = field(default_factory=dict)

    def of(self, role: Role) -> Iterator[Slice]:
        """Yield the slices of one role."""
        return (part for part in self.slices if part.role == role)


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """Units that cannot go: the tensor they make up, and what keeps them, in words."""

    tensor: str
    node: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Groups:
    """All that can be taken out of a model, and what cannot be."""

    groups: tuple[Group, ...]
    frozen: tuple[Frozen, ...] = ()

    def __getitem__(self, name: str) -> Group:
        """Return a group by its name; raises KeyError."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(name)

    def __iter__(self) -> Iterator[Group]:
        """Yield the groups in the order of the graph."""
        return iter(self.groups)
