"""From what calibration saw to the scale and zero point of every activation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges import Method, range_of
from onnxopt.quantizing.placement.plan import Placement, merged
from onnxopt.quantizing.spec import QParams, qparams

_NEAR = 1.1
"""Tensors that need not share a scale do so where none gets a step wider than by this factor."""


def activations(
    placement: Placement, observers: Mapping[str, Observer], method: Method
) -> dict[str, QParams]:
    """Return the parameters of all activations; those that are tied get the same."""
    ties = [unit.ties for unit in placement.units if unit.ties]
    found = _shared(placement, observers, method, merged(placement.tensors, ties))
    near = [[name for name in unit.near if name in found] for unit in placement.units]
    near = [names for names in near if len(names) > 1 and _alike(names, found)]
    if not near:
        return found
    return _shared(placement, observers, method, merged(placement.tensors, [*ties, *near]))


def _shared(
    placement: Placement,
    observers: Mapping[str, Observer],
    method: Method,
    groups: list[list[str]],
) -> dict[str, QParams]:
    found: dict[str, QParams] = {}
    for group in groups:
        specs = [placement.tensors[name] for name in group]
        spec = next((spec for spec in specs if spec.fixed is not None), specs[0])
        seen = [] if spec.fixed is not None else [observers[name] for name in group]
        low, high = range_of(seen, method, spec)
        params = qparams(low, high, spec)
        found.update(dict.fromkeys(group, params))
    return found


def _alike(names: Sequence[str], found: Mapping[str, QParams]) -> bool:
    """Tell whether a range that covers all of some tensors is hardly wider than that of each."""
    ranges = [found[name].range for name in names]
    low, high = min(one for one, _ in ranges), max(two for _, two in ranges)
    return all(
        (high - low) <= _NEAR * (two - one) and (one == 0) == (low == 0) for one, two in ranges
    )
