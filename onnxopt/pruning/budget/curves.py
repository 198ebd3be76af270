"""What narrowing a group loses, and the widths that it may have.

Widths are cut down to multiples that kernels like, and never filled up. A kernel that works on
blocks of 8 or 16 channels takes as long for 60 channels as for 64. One of onnxruntime's leaves the
blocked layout where a Conv reads fewer channels than a block has: a Conv of 16 channels took 0.9 of
its time with 8 of them, for a quarter of its MACs. So a group of one multiple or more keeps one.
Smaller ones, which gain no time whatever they do, go in steps of 1, 2 or 4, about a quarter of
their units, for the sake of parameters.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.plan import Group
from onnxopt.runtime.machine.isa import Processor, processor

_BLOCK, _WIDE_BLOCK = 8, 16
_LARGEST_STEP = 4


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """What it loses to narrow one group, and how narrow it may get.

    `losses` [size + 1] is the energy of the noise at the model's outputs, relative to theirs, that
    it adds to take out the 0, 1, 2, … least important units; it never falls, and is infinite where
    that must not be. Losses of groups add up. `widths` are the numbers of units that may stay,
    falling from all. `weight` is what a unit counts where units are counted.
    """

    group: str
    losses: Array
    widths: tuple[int, ...]
    weight: float = 1.0

    @property
    def size(self) -> int:
        """The number of units."""
        return len(self.losses) - 1

    def loss(self, kept: int) -> float:
        """Return what it loses to keep so many units."""
        return float(self.losses[self.size - kept])

    @cached_property
    def hull(self) -> Array:
        """The largest convex curve below `losses` [size + 1]: what a unit loses never falls."""
        found: list[int] = []
        for place in map(int, np.flatnonzero(np.isfinite(self.losses))):
            while len(found) > 1 and self._slope(found[-2], found[-1]) >= self._slope(
                found[-1], place
            ):
                found.pop()
            found.append(place)
        places = np.arange(self.size + 1)
        line = np.interp(places, found, self.losses[found])
        return np.where(places > found[-1], np.inf, line)

    def _slope(self, one: int, other: int) -> float:
        return float(self.losses[other] - self.losses[one]) / (other - one)


def curve(
    group: str, losses: Sequence[float] | Array, widths: Sequence[int], *, weight: float = 1.0
) -> Curve:
    """Return the curve of a group from losses as they were measured or predicted.

    What falls again was noise of the measurement: each loss is at least that of fewer units gone.
    Losses that are no number are infinite.
    """
    found = np.asarray(losses, np.float64)
    found = np.where(np.isnan(found), np.inf, found)
    rising = np.maximum.accumulate(np.maximum(found - found[0], 0.0))
    allowed = tuple(sorted({len(found) - 1, *widths}, reverse=True))
    return Curve(group=group, losses=rising, widths=allowed, weight=weight)


def multiple_for(target: str, isa: Processor | None = None) -> int:
    """Return what the widths of channels are cut to multiples of.

    onnxruntime's CPU kernels work on 16 channels at once with AVX-512, else on 8; tensor cores want
    8 halves or floats (TensorRT's int8 kernels would like 32, which leaves small groups no choice).
    `portable` is 8, which all of these can use. `isa` is this processor's where it is not given.
    """
    if target == "cpu" and (isa or processor()).has("avx512f"):
        return _WIDE_BLOCK
    return _BLOCK


def widths_of(
    group: Group, multiple: int, *, least: int = 1, small: bool = False
) -> tuple[int, ...]:
    """Return the numbers of units of a group that may stay, falling from all of them.

    Where a unit has several places in the weights that make it (a head), only these have to come to
    a multiple. At least `least` units stay, and one multiple of a group that has one. With `small`,
    groups of fewer than two multiples go in steps of 1, 2 or 4, too, which need not be faster.
    """
    step = multiple // math.gcd(multiple, _places(group))
    if group.size < (2 if small else 1) * step:
        step = max(1, min(step, _LARGEST_STEP, 1 << max(0, (group.size // 4).bit_length() - 1)))
    narrower = range((group.size - 1) // step * step, 0, -step)
    return (group.size, *(width for width in narrower if width >= least))


def _places(group: Group) -> int:
    """Return how many neighbouring places a unit has at least in the weights that make it."""
    if group.kind == "state":
        return 1  # the gates' places of a unit lie far apart: each block of them is a width
    written = [int(np.count_nonzero(part.units >= 0)) for part in group.of("writes")]
    return max(1, min(written, default=1) // group.size)
