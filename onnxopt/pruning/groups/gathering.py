"""Gathers what a walk has labelled into groups, by names, and tells what keeps the rest."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.groups.settling import STAYS, lasting, partitioned, settled
from onnxopt.pruning.groups.units import Units
from onnxopt.pruning.plan import Frozen, Group, Groups, Kind, Slice

_TOGETHER = "they can only go all together"
_UNMADE = "no weight makes these channels by its rows"
_UNREAD = "no weight reads these channels"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Plan:
    """By label: `group` and `unit` in it, `STAYS` for both where it cannot go."""

    group: Array
    unit: Array
    seen: dict[int, list[int]] = field(default_factory=dict)

    def groups(self, labels: Array) -> list[int]:
        """Return the groups of which some labels are; many tensors share one array of labels."""
        found = self.seen.get(id(labels))
        if found is None:
            found = [int(group) for group in np.unique(self.group[labels]) if group != STAYS]
            self.seen[id(labels)] = found
        return found

    def along(self, labels: Array, group: int) -> tuple[int, Array]:
        """Return the axis, counted from the end, along which units go, and the unit of each place.

        Units are -1 where a place belongs to none of the group.
        """
        found = np.where(self.group[labels] == group, self.unit[labels], STAYS)
        axes = lasting(found)
        axis = axes[0] if axes else found.ndim - 1
        line = np.moveaxis(found, axis, -1).reshape(-1, found.shape[axis])[0]
        return axis - found.ndim, line


def gathered(units: Units) -> Groups:
    """Return the groups of labels, in the order of the graph, and what cannot go."""
    classes = settled(units)
    named = {
        value: labels for value, labels in units.tensors.items() if value.name and labels.any()
    }
    plan = _planned(classes, [*named.values(), *(cut.labels for cut in units.cuts)])
    tensors = _tensors(plan, named)
    slices = _slices(plan, units)
    kinds = _kinds(plan, units)
    made, lost = [], []
    for number, name in _names(plan, named).items():
        group = Group(
            name=name,
            size=int(plan.unit[plan.group == number].max()) + 1,
            kind=kinds.get(number, "channels"),
            slices=tuple(slices[number]),
            tensors=tensors[number],
        )
        reason = _useless(group)
        if reason:
            node = next((part.edge.node for part in group.slices), "")
            lost.append(Frozen(tensor=name, node=node, reason=reason))
        else:
            made.append(group)
    return Groups(groups=tuple(made), frozen=(*_frozen(units, named), *lost))


def _useless(group: Group) -> str:
    if group.size < 2:
        return _TOGETHER
    if not any(group.of("writes")):
        return _UNMADE
    return "" if any(group.of("reads")) else _UNREAD


def _planned(classes: Array, arrays: list[Array]) -> _Plan:
    """Number groups, and in each its units, by their first labels."""
    owner = partitioned(classes, {id(labels): labels for labels in arrays}.values())
    alive, first = np.unique(classes, return_index=True)
    first = first[alive != STAYS]
    alive = alive[alive != STAYS]
    alive = alive[np.argsort(first)]
    by_group = alive[np.argsort(owner[alive], kind="stable")]
    _, begins, sizes = np.unique(owner[by_group], return_index=True, return_counts=True)
    unit = np.full(len(owner) + 1, STAYS)
    unit[by_group] = np.arange(len(by_group)) - np.repeat(begins, sizes)
    # STAYS is -1, and so finds the last place.
    return _Plan(group=np.append(owner, STAYS)[classes], unit=unit[classes])


def _tensors(
    plan: _Plan, named: Mapping[ir.Value, Array]
) -> dict[int, dict[str, tuple[int, Array]]]:
    found: dict[int, dict[str, tuple[int, Array]]] = defaultdict(dict)
    for value, labels in named.items():
        for group in plan.groups(labels):
            axis, line = plan.along(labels, group)
            found[group][value.name or ""] = axis + (facts.rank(value) or labels.ndim), line
    return found


def _slices(plan: _Plan, units: Units) -> dict[int, list[Slice]]:
    found: dict[int, list[Slice]] = defaultdict(list)
    for cut in units.cuts:
        for group in plan.groups(cut.labels):
            axis, line = plan.along(cut.labels, group)
            place = axis + len(cut.shape)
            if place >= 0 and cut.shape[place] > 1:
                found[group].append(Slice(edge=cut.edge, axis=place, units=line, role=cut.role))
    return found


def _kinds(plan: _Plan, units: Units) -> dict[int, Kind]:
    return {group: kind for labels, kind in units.kinds for group in plan.groups(labels)}


def _names(plan: _Plan, named: Mapping[ir.Value, Array]) -> dict[int, str]:
    """Return names by group, in the order of the graph: of the first tensor that is all theirs.

    A group without one goes by the first that it is in, with a number.
    """
    sharing: dict[int, str] = {}
    alone: dict[int, str] = {}
    for value, labels in named.items():
        groups = plan.groups(labels)
        whole = len(groups) == 1 and not (plan.group[labels] == STAYS).any()
        for group in groups:
            sharing.setdefault(group, value.name or "")
            if whole:
                alone.setdefault(group, value.name or "")
    taken = set(alone.values())
    names = {}
    for group, name in sharing.items():
        unique, number = alone.get(group, name), 1
        while group not in alone and unique in taken:
            number += 1
            unique = f"{name}#{number}"
        taken.add(unique)
        names[group] = unique
    return names


def _frozen(units: Units, named: Mapping[ir.Value, Array]) -> Iterator[Frozen]:
    """Yield what cannot go: by the first reason that was found for it."""
    classes, _ = units.labels.classes()
    first: dict[int, str] = {}
    seen: set[int] = set()
    for value, labels in named.items():
        if id(labels) not in seen:
            seen.add(id(labels))
            for one in np.unique(classes[labels[labels != 0]]).tolist():
                first.setdefault(one, value.name or "")
    told: set[int] = set()
    for reason in units.reasons:
        found = set(np.unique(classes[reason.labels]).tolist()) - told
        told |= found
        tensors = [first[one] for one in sorted(found) if one in first]
        if tensors:
            yield Frozen(tensor=tensors[0], node=reason.why.node, reason=reason.why.text)
    for tensor, why in units.refusals:
        yield Frozen(tensor=tensor, node=why.node, reason=why.text)
