"""Which channels of which tensors have to be scaled alike: labels, ties between them, and freezes.

Each channel that some layer writes gets a label, a whole number; label 0 is that of all that must
stay as it is. An operator that hands channels on ties labels: to each other, or, where two tensors
are multiplied and summed over their channels (queries and keys), to each other's inverse. Labels
are solved as components of a graph that has two vertices for each label, itself and its inverse; a
label that meets its own inverse can only be scaled by 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.arrays import Array

FROZEN = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Solved:
    """What came of the labels.

    By label: `group` is the number of the chain that it belongs to, -1 where it is frozen; `slot`
    its place among the chain's scales, `inverse` where it goes by the inverse of that scale. By
    chain: `sizes` is the number of its scales. `least` and `most` bound the scales of all chains,
    one chain behind the other.
    """

    group: Array
    slot: Array
    inverse: Array
    sizes: Array
    least: Array
    most: Array

    def places(self, labels: Array, group: int, *, divide: bool = False) -> Array:
        """Return where in [scales, 1 / scales, 1] of a chain the factors of labels are."""
        size = self.sizes[group]
        place = self.slot[labels] + size * (self.inverse[labels] ^ divide)
        return np.asarray(np.where(self.group[labels] == group, place, 2 * size))

    def groups(self, labels: Array) -> list[int]:
        """Return the chains to which some of the labels belong."""
        found = np.unique(self.group[labels])
        return [int(group) for group in found if group >= 0]


class Labels:
    """Hands out labels and remembers what was said of them."""

    def __init__(self) -> None:
        self.count = 1
        self._ties: list[tuple[Array, Array]] = []
        self._kin: list[tuple[Array, Array]] = []
        self._frozen = np.ones(1, bool)
        self._least: list[tuple[Array, Array]] = []

    def fresh(self, shape: tuple[int, ...]) -> Array:
        """Return new labels, one for each channel of one tensor, as an array of this shape."""
        size = int(np.prod(shape))
        labels = np.arange(self.count, self.count + size)
        self.count += size
        if self.count > len(self._frozen):
            self._frozen = np.pad(self._frozen, (0, self.count))
        self._kin.append((labels[:-1], labels[1:]))
        return labels.reshape(shape)

    def tie(self, one: Array, other: Array, *, inverse: bool = False) -> None:
        """Let labels have the same scale, or, with `inverse`, scales whose product is 1."""
        one, other = (part.reshape(-1) for part in np.broadcast_arrays(one, other))
        self.freeze(one[other == FROZEN])
        self.freeze(other[one == FROZEN])
        both = (one != FROZEN) & (other != FROZEN)
        one, other = one[both], other[both]
        self._kin.append((one, other))
        # An odd vertex stands for the inverse of the label.
        self._ties.append((2 * one, 2 * other + inverse))
        self._ties.append((2 * one + 1, 2 * other + (not inverse)))

    def freeze(self, labels: Array) -> None:
        """Let labels have a scale of 1."""
        self._frozen[labels] = True

    def bound(self, labels: Array, least: Array) -> None:
        """Let the scales that divide labels be at least so large; `least` is more than 0."""
        labels, least = np.broadcast_arrays(labels, least)
        self._least.append((labels.reshape(-1), least.reshape(-1)))

    def all_frozen(self, labels: Array) -> bool:
        """Tell whether it is known by now that none of the labels can be scaled."""
        return bool(self._frozen[labels].all())

    def classes(self) -> tuple[Array, Array]:
        """Return the class of each label, [labels], and which classes are frozen, [classes].

        Labels of a class are tied, whether they go alike or by inverses.
        """
        ties = [(one // 2, other // 2) for one, other in self._ties[0::2]]
        classes = _components(ties, self.count)
        frozen = np.zeros(classes.max() + 1, bool)
        frozen[classes[self._frozen[: self.count]]] = True
        return classes, frozen

    def solve(self) -> Solved:
        """Return which labels are scaled by what."""
        classes = _components(self._ties, 2 * self.count)
        straight, inverted = classes[0::2], classes[1::2]
        frozen = np.zeros(classes.max() + 1, bool)
        frozen[straight[straight == inverted]] = True
        still = np.flatnonzero(self._frozen)
        frozen[straight[still]] = frozen[inverted[still]] = True
        free = ~frozen[straight]
        first = np.minimum(straight, inverted)
        group = np.full(self.count, -1)
        _, group[free] = np.unique(_components(self._kin, self.count)[free], return_inverse=True)
        # Scales are numbered chain by chain, and in a chain by their first label.
        scales, number = np.unique(
            np.stack([group[free], first[free]]), axis=1, return_inverse=True
        )
        sizes = np.bincount(scales[0], minlength=1)
        begins = np.cumsum(sizes) - sizes
        slot = np.zeros(self.count, np.int64)
        slot[free] = number.reshape(-1) - begins[group[free]]
        inverse = straight != first
        owner = np.where(free, begins[group] + slot, len(scales[0]))
        least, most = self._bounds(owner, inverse, len(scales[0]) + 1)
        return Solved(group=group, slot=slot, inverse=inverse, sizes=sizes, least=least, most=most)

    def _bounds(self, owner: Array, inverse: Array, count: int) -> tuple[Array, Array]:
        least, most = np.zeros(count), np.full(count, np.inf)
        for labels, values in self._least:
            turned = inverse[labels]
            np.maximum.at(least, owner[labels[~turned]], values[~turned])
            np.minimum.at(most, owner[labels[turned]], 1 / values[turned])
        return least[:-1], most[:-1]


def _components(ties: list[tuple[Array, Array]], count: int) -> Array:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    none = np.zeros(0, np.int64)
    ones = np.concatenate([none, *(one for one, _ in ties)])
    others = np.concatenate([none, *(other for _, other in ties)])
    linked: Any = coo_array((np.ones(len(ones), np.int8), (ones, others)), shape=(count, count))  # type: ignore[no-untyped-call]
    return np.asarray(connected_components(linked.tocsr(), directed=False)[1], np.int64)
