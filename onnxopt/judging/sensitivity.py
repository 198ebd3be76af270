"""Measures how much noise each part of a model adds to its outputs when it alone is changed.

Noise is the energy of the error over that of the output. What parts add is nearly independent,
so that energies add up; how nearly is told, by holding their sum against all of them changed.

Every answer takes a model and a few runs of it, so that there is a budget. Where it allows, each
part is asked by itself. Otherwise neighbours are asked together, and the group with the most
noise is halved until the time is over: one half is asked, and the other has what is left. Members
of a group that was not divided share its noise by their weights.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

Noise = Callable[[frozenset[str]], float]
"""Returns the noise of a model of which nothing but these parts is changed."""
Progress = Callable[[str, float | None], None]

WORST = 1e6

_STAGE = "sensitivity"


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The noise of each part alone, and of all of them together.

    `shared` are parts that were only asked in a group: name to how many there were in it.
    """

    noise: Mapping[str, float]
    together: float
    asked: int
    seconds: float
    shared: Mapping[str, int] = field(default_factory=dict)

    @property
    def additivity(self) -> float:
        """Noise of all together over the sum of each: 1 where they add up."""
        total = math.fsum(self.noise.values())
        return self.together / total if total > 0 and math.isfinite(total) else 1.0

    def predicted(self, chosen: Collection[str]) -> float:
        """Return the noise of a choice: the sum, as far off as it is for all together."""
        return self.additivity * math.fsum(self.noise[name] for name in chosen)


def sensitivity(
    parts: Mapping[str, float],
    noise: Noise,
    *,
    budget: float,
    clock: Callable[[], float] | None = None,
    progress: Progress | None = None,
) -> Sensitivity:
    """Ask `noise` about parts, in topological order, for about `budget` seconds of a `clock`.

    `parts` are names with weights, by which members of a group share: elements, or MACs.
    The first question is always asked, for all of them together. Noise that is no number, because
    outputs were none, counts as `WORST`.
    """
    return _Asking(parts, noise, budget, clock or time.monotonic, progress).run()


class _Asking:
    """The groups of parts that have been asked, and the time that is left."""

    def __init__(
        self,
        parts: Mapping[str, float],
        noise: Noise,
        budget: float,
        clock: Callable[[], float],
        progress: Progress | None,
    ) -> None:
        self.weights = parts
        self.names = tuple(parts)
        self.noise = noise
        self.budget = budget
        self.progress = progress
        self.clock = clock
        self.begun = clock()
        self.asked = 0
        self.known: dict[tuple[str, ...], float] = {}

    def run(self) -> Sensitivity:
        together = self.ask(self.names)
        groups = self.first_groups()
        for number, group in enumerate(groups):
            # What is not asked in time has what is left of the whole.
            if number and not self.time_left():
                rest = tuple(name for left in groups[number:] for name in left)
                self.known[rest] = max(0.0, together - math.fsum(self.known.values()))
                break
            self.known[group] = self.ask(group)
            self.tell()
        while self.time_left() and self.halve():
            self.tell()
        return Sensitivity(
            noise={name: self.share(name, group) for group in self.known for name in group},
            together=together,
            asked=self.asked,
            seconds=self.seconds(),
            shared={n: len(group) for group in self.known if len(group) > 1 for n in group},
        )

    def first_groups(self) -> list[tuple[str, ...]]:
        """Return single parts if there is time for all, else groups for half of the time."""
        spent = self.seconds()
        count = len(self.names)
        fit = int((self.budget - spent) / (spent / self.asked)) if spent > 0 else count
        if fit >= count:
            return [(name,) for name in self.names]
        pieces = max(1, min(count, fit // 2))
        bounds = [count * piece // pieces for piece in range(pieces + 1)]
        return [self.names[low:high] for low, high in pairwise(bounds)]

    def halve(self) -> bool:
        """Divide the group with the most noise; return False where all are single."""
        divisible = [group for group in self.known if len(group) > 1]
        if not divisible:
            return False
        worst = max(divisible, key=lambda group: (self.known[group], len(group)))
        whole = self.known.pop(worst)
        middle = len(worst) // 2
        first, second = worst[:middle], worst[middle:]
        self.known[first] = self.ask(first)
        self.known[second] = max(0.0, whole - self.known[first])
        return True

    def ask(self, names: Sequence[str]) -> float:
        self.asked += 1
        found = self.noise(frozenset(names))
        return min(found, WORST) if found >= 0 else WORST

    def share(self, name: str, group: tuple[str, ...]) -> float:
        total = math.fsum(self.weights[member] for member in group)
        part = self.weights[name] / total if total > 0 else 1 / len(group)
        return self.known[group] * part

    def seconds(self) -> float:
        return self.clock() - self.begun

    def time_left(self) -> bool:
        """Tell whether one more question fits into the budget."""
        spent = self.seconds()
        return spent + spent / max(self.asked, 1) <= self.budget

    def tell(self) -> None:
        if self.progress is not None:
            single = sum(len(group) == 1 for group in self.known)
            share = max(single / max(len(self.names), 1), self.seconds() / max(self.budget, 1e-9))
            self.progress(_STAGE, min(share, 1.0))
