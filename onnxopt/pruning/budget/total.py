"""Sums of what parts of a model cost, each of which depends on the widths of a few groups."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from onnxopt.arrays import Array

Widths = Mapping[str, Any]
"""By group, how many of its units stay; arrays of such numbers are costed in one go."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Term:
    """The cost of one part, by the widths of `groups`; `value` takes a whole `Widths`."""

    name: str
    groups: tuple[str, ...]
    value: Callable[[Widths], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Total:
    """What a model costs in one unit (MACs, parameters, ms): `fixed` costs no width changes.

    `full` are the widths of the whole model.
    """

    full: Mapping[str, int]
    terms: tuple[Term, ...]
    fixed: float = 0

    def __call__(self, kept: Mapping[str, int]) -> Any:
        """Return the cost of widths; what is not named is whole. Whole numbers stay whole."""
        widths = {**self.full, **kept}
        return self.fixed + sum(term.value(widths) for term in self.terms)

    @cached_property
    def whole(self) -> float:
        """The cost of the whole model."""
        return float(self({}))

    def share(self, kept: Mapping[str, int]) -> float:
        """Return the share of the whole model's cost that is left."""
        return float(self(kept)) / self.whole if self.whole else 1.0

    def along(self, kept: Mapping[str, int], group: str, widths: Sequence[int]) -> Array:
        """Return the cost of all terms of a group [widths], while the others are as they are."""
        column = np.asarray(widths, np.int64)
        tried = {**self.full, **kept, group: column}
        found = np.zeros(len(column))
        for term in self._of.get(group, ()):
            found = found + term.value(tried)
        return found

    def near(self, group: str) -> frozenset[str]:
        """Return the groups whose costs change with the width of this one, itself included."""
        return frozenset(name for term in self._of.get(group, ()) for name in term.groups)

    @cached_property
    def _of(self) -> dict[str, list[Term]]:
        found: dict[str, list[Term]] = {}
        for term in self.terms:
            for group in term.groups:
                found.setdefault(group, []).append(term)
        return found


def counted(weights: Mapping[str, float], full: Mapping[str, int]) -> Total:
    """Return the cost that counts units themselves, each by the weight of its group."""
    return Total(full=full, terms=tuple(_units(name, weights.get(name, 1.0)) for name in full))


def _units(group: str, weight: float) -> Term:
    return Term(name=group, groups=(group,), value=lambda kept: weight * kept[group])


def split(parts: Iterable[Term]) -> tuple[tuple[Term, ...], float]:
    """Return the terms that depend on a width, and the sum of the others."""
    terms = tuple(parts)
    fixed = sum(term.value({}) for term in terms if not term.groups)
    return tuple(term for term in terms if term.groups), fixed
