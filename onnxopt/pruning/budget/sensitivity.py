"""Tells how much of the error that a cut makes in a layer arrives at the model's outputs.

What a cut loses is known at its readers, by their Gram matrices, at every width. What that does to
the outputs is asked of the model: one group at a time has some of its units masked, the rest is
refitted, and the noise at the outputs over the loss at the readers is the group's reach. Small
errors pass linearly, large ones do not: a group that loses little by its first units may lose
nearly all by the next. So every group is asked at one width, and then those that a choice would cut
are asked again at the very width it wants, until a choice holds that was made of answers. Between
widths that were asked, the reach is interpolated by the logarithms of both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.judging.sensitivity import Progress, sensitivity
from onnxopt.pruning.plan import Keep

Noise = Callable[[Keep], float]
"""Returns the energy of the outputs' error over that of the outputs, with units masked."""

SHARE = 0.25
"""The share of a group's units that is masked at first."""

_FIRST = 0.5
"""The share of the questions that goes to the first width of each group."""

_NEAR = 1.25
"""How many times more, or fewer, units may be gone at a width that stands for another."""

_LEAST = 1e-12


@dataclass(kw_only=True)
class Reach:
    """What arrived at the outputs from each group, at the widths that were asked.

    `orders` [size] are the units of groups in the order in which they go, `losses` [size + 1] what
    is lost at their readers by then. `known` is by group and number of units gone the noise at the
    outputs. `shared` are groups that were only asked together with others, whose noise they share
    by their losses. `additivity` is the noise of all groups together over the sum of each.
    """

    orders: Mapping[str, Array]
    losses: Mapping[str, Array]
    noise: Noise
    known: dict[str, dict[int, float]] = field(default_factory=dict)
    shared: frozenset[str] = frozenset()
    additivity: float = 1.0
    asked: int = 0

    def measure(self, *, budget: float, progress: Progress | None = None) -> None:
        """Ask every group at one width, about half of `budget` times."""
        gone = {name: _count(SHARE, len(order)) for name, order in self.orders.items()}
        lost = {name: float(self.losses[name][count]) for name, count in gone.items()}

        def arrives(names: Collection[str]) -> float:
            self.asked += 1
            return self.noise({name: self._mask(name, gone[name]) for name in names})

        answer = sensitivity(
            {name: value if math.isfinite(value) else 0.0 for name, value in lost.items()},
            arrives,
            budget=_FIRST * budget,
            clock=lambda: float(self.asked),
            progress=progress,
        )
        for name, value in answer.noise.items():
            self.known[name] = {gone[name]: value}
        self.additivity, self.shared = answer.additivity, frozenset(answer.shared)

    def refine(
        self,
        choose: Callable[[], Mapping[str, int]],
        *,
        budget: float,
        progress: Progress | None = None,
    ) -> None:
        """Ask again at the widths of a choice, until it stands, `budget` times at most.

        `choose` returns by group how many units would go, by what is known so far. Of the widths it
        wants, those that would lose most are asked first.
        """
        before = self.asked
        while True:
            wanted = {
                name: count
                for name, count in choose().items()
                if name in self.orders and 0 < count < len(self.orders[name])
            }
            doubtful = [name for name, count in wanted.items() if not self.is_known(name, count)]
            if not doubtful:
                break
            name = max(doubtful, key=lambda name: self.at(name, wanted[name]))
            spent = self.asked - before
            if spent >= budget:
                break
            self.ask(name, wanted[name])
            if progress is not None:
                progress("sensitivity", min(1.0, spent / budget))

    def ask(self, name: str, gone: int) -> None:
        """Ask what arrives when so many units of one group are gone."""
        self.asked += 1
        found = self.noise({name: self._mask(name, gone)})
        if name in self.shared:
            self.shared -= {name}
            self.known[name] = {}
        self.known[name][gone] = found

    def is_known(self, name: str, gone: int) -> bool:
        """Tell whether a group was asked by itself at about this width."""
        if name in self.shared:
            return False
        return any(
            max(gone, count) <= max(_NEAR * min(gone, count), min(gone, count) + 1)
            for count in self.known[name]
        )

    def at(self, name: str, gone: int) -> float:
        """Return what is known of the noise that arrives when so many units are gone."""
        return float(self.at_outputs(name)[gone])

    def at_outputs(self, name: str) -> Array:
        """Return a group's losses at the outputs: [size + 1].

        A group that lost nothing where it was asked has the median reach of the others.
        """
        losses = np.asarray(self.losses[name], np.float64)
        points = self._ratios(name)
        if not points:
            return self._usual() * losses
        counts, ratios = zip(*points, strict=True)
        places = np.log(np.maximum(np.arange(len(losses)), 1))
        return losses * np.exp(np.interp(places, np.log(counts), np.log(ratios)))

    def _ratios(self, name: str) -> list[tuple[int, float]]:
        """Return the units gone and the reach at every width that was asked, in this order."""
        return [
            (count, noise / float(self.losses[name][count]))
            for count, noise in sorted(self.known.get(name, {}).items())
            if _LEAST < noise < math.inf and _LEAST < float(self.losses[name][count]) < math.inf
        ]

    def _usual(self) -> float:
        found = [ratio for name in self.orders for _, ratio in self._ratios(name)[:1]]
        return float(np.median(found)) if found else 1.0

    def _mask(self, name: str, gone: int) -> Array:
        keep = np.ones(len(self.orders[name]), bool)
        keep[self.orders[name][:gone]] = False
        return keep


def _count(share: float, size: int) -> int:
    return min(max(1, round(share * size)), size - 1)
