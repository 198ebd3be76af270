"""Tells how much of the error that a cut makes in a layer arrives at the model's outputs.

What a cut loses is known at its readers, by their Gram matrices, at every width. What that does to
the outputs is asked of the model: one group at a time has a share of its units masked, and the
noise at the outputs over the loss at the readers is the group's reach. Losses are energies relative
to what is there, errors are small, and a network passes small errors on linearly: so the reach is
one number, and loss · reach a curve in the currency that all groups share.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.judging.sensitivity import Progress, sensitivity
from onnxopt.pruning.plan import Keep

Noise = Callable[[Keep], float]
"""Returns the energy of the outputs' error over that of the outputs, with units masked."""

SHARES = (0.25, 0.1)
"""The shares of a group's units that are masked, one after the other where there is time."""


@dataclass(frozen=True, kw_only=True)
class Reach:
    """By group, the noise at the outputs for a loss of 1 at its readers.

    `additivity` is the noise of all groups masked together over the sum of each. `shared` are
    groups that were only asked together with others, whose noise they share by their losses.
    """

    reach: Mapping[str, float]
    additivity: float
    asked: int
    seconds: float
    shared: frozenset[str] = frozenset()

    def losses(self, group: str, at_readers: Array) -> Array:
        """Return losses at the outputs from those at the readers of a group."""
        return self.reach[group] * np.asarray(at_readers, np.float64)


def measure_reach(
    orders: Mapping[str, Array],
    losses: Mapping[str, Array],
    noise: Noise,
    *,
    budget: float,
    shares: Sequence[float] = SHARES,
    progress: Progress | None = None,
) -> Reach:
    """Mask shares of each group, and see what arrives, for about `budget` seconds.

    `orders` [size] are the units of groups in the order in which they go, `losses` [size + 1] what
    is lost at their readers by then. The reach is the geometric mean over the shares that were
    asked; a group that lost nothing there has the median of the others.
    """
    found: dict[str, list[float]] = {name: [] for name in orders}
    asked, seconds, additivity, shared = 0, 0.0, 1.0, frozenset[str]()
    for number, share in enumerate(shares):
        # A share costs about as much as the one before.
        if number and seconds + seconds / number > budget:
            break
        gone = {name: _count(share, len(order)) for name, order in orders.items()}
        lost = {name: float(losses[name][count]) for name, count in gone.items()}
        masks = {name: _mask(orders[name], count) for name, count in gone.items()}
        answer = sensitivity(
            {name: value if math.isfinite(value) else 0.0 for name, value in lost.items()},
            lambda names, masks=masks: noise({name: masks[name] for name in names}),  # type: ignore[misc]
            budget=budget - seconds if number else budget / len(shares),
            progress=progress,
        )
        for name, value in answer.noise.items():
            if value > 0 and 0 < lost[name] < math.inf:
                found[name].append(value / lost[name])
        asked, seconds = asked + answer.asked, seconds + answer.seconds
        if not number:
            additivity, shared = answer.additivity, frozenset(answer.shared)
    known = {name: math.exp(np.mean(np.log(each))) for name, each in found.items() if each}
    usual = float(np.median(list(known.values()))) if known else 1.0
    return Reach(
        reach={name: known.get(name, usual) for name in orders},
        additivity=additivity,
        asked=asked,
        seconds=seconds,
        shared=shared,
    )


def _count(share: float, size: int) -> int:
    return min(max(1, round(share * size)), size - 1)


def _mask(order: Array, gone: int) -> Array:
    keep = np.ones(len(order), bool)
    keep[order[:gone]] = False
    return keep
