"""Leaves out the blocks that are worth least: each is tried without, by what the outputs lose.

In place of a block come its entry, its entry scaled by channel, or a fitted map; all that save
anything are run on held-out samples, and the one goes that loses least for the cost it saves. Then
the rest is measured again, as far as it can matter: what lost more before than could be taken now
is not tried, for with another block gone it would hardly lose less.

Where a share of the cost is asked for, what reaches it at once competes at each step, too: by what
it loses, whatever it saves beyond that. The way that loses least of those that got there is taken.
A model is run no further than until it has lost more than the best of its kind.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.profile import known_macs
from onnxopt.judging.quality import decibel
from onnxopt.judging.samples import Samples
from onnxopt.pruning.blocks.bypass import bypass
from onnxopt.pruning.blocks.find import find_blocks
from onnxopt.pruning.blocks.fit import Fit
from onnxopt.pruning.blocks.pairs import Progress, fit_blocks
from onnxopt.pruning.blocks.plan import Affine, Block

How = Literal["identity", "scale", "map"]
Cost = Callable[[ir.Model], float]
Noise = Callable[[Path, float], float]
"""Says how far a model is from the one that nothing was taken from: noise over signal of outputs,
as `Judge.noise` does, on samples that nothing was fitted on. Infinite: of no use. What is above the
second argument need not be told any further than that."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much goes: blocks, the share of the cost that may be left, the least SQNR in dB.

    The first two say when it is enough, the last when it is too much.
    """

    blocks: int | None = None
    cost: float | None = None
    min_sqnr: float | None = None


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A block that was tried without: what came in its place, and what that came to.

    `noise` is that of the outputs over their energy, everything that had gone before included;
    `saved` the share of the whole model's cost; `seen` the share of the exit's variance that the
    map loses, None for the entry itself.
    """

    block: Block
    how: How
    noise: float
    saved: float
    seen: float | None = None
    patch: Affine | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """A model with some blocks gone, in the order in which they went; `cost` is the share left."""

    model: ir.Model
    removed: tuple[Trial, ...]
    cost: float
    noise: float

    @property
    def sqnr_db(self) -> float:
        """SQNR of the outputs on the samples that they were judged by."""
        return decibel(self.noise)


def remove_blocks(
    model: ir.Model,
    samples: Samples,
    noise: Noise,
    budget: Budget,
    *,
    cost: Cost | None = None,
    protect: Collection[str] = (),
    hows: Collection[How] = ("identity", "scale", "map"),
    kinds: Collection[str] = ("residual", "layer", "chain"),
    max_memory: int = 1 << 29,
    progress: Progress | None = None,
) -> Iterator[Point]:
    """Yield the model with one block fewer after the other, until the budget is reached.

    `model` stays as it is. Maps are fitted on `samples` without those held back, which choose the
    ridge; `noise` judges each model, on the held ones or on others. `cost` says what a model costs,
    in any unit: MACs where it is not given. A block with a node or tensor of `protect` stays in,
    and so does one whose loss could not be measured. Where the cost cannot be reached, as many go
    as can.
    """
    search = _Search(
        model=model,
        samples=samples,
        noise=noise,
        cost=cost or count_macs,
        protect=frozenset(protect),
        hows=tuple(hows),
        kinds=frozenset(kinds),
        target=budget.cost,
        max_memory=max_memory,
        progress=progress,
    )
    most = math.inf if budget.min_sqnr is None else 10 ** (-budget.min_sqnr / 10)
    point = Point(model=model, removed=(), cost=1.0, noise=0.0)
    way: list[Point] = []
    best: list[Point] = []
    while not _is_enough(point, budget):
        step, last = search.next(point, most)
        if last is not None:
            best, most = [*way, search.without(point, last)], last.noise
        if step is None:
            break
        point = search.without(point, step)
        way.append(point)
    yield from best or way


def _is_enough(point: Point, budget: Budget) -> bool:
    enough = budget.blocks is not None and len(point.removed) >= budget.blocks
    return enough or (budget.cost is not None and point.cost <= budget.cost)


def count_macs(model: ir.Model) -> float:
    """Count the multiply-accumulates of a model, dimensions that are not known as 1."""
    return float(sum(known_macs(node) or 0 for node in model.graph))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Choice:
    """What could be done about a block, before it is tried: `seen` is what the exit would lose."""

    block: Block
    how: How
    patch: Affine | None
    seen: float
    cost: float
    saved: float


@dataclass(kw_only=True)
class _Search:
    """What stays the same while blocks go, and by how much each last raised the noise."""

    model: ir.Model
    samples: Samples
    noise: Noise
    cost: Cost
    protect: frozenset[str]
    hows: Sequence[How]
    kinds: frozenset[str]
    target: float | None
    max_memory: int
    progress: Progress | None

    def __post_init__(self) -> None:
        self.whole = self.cost(self.model)
        self.raised: dict[tuple[object, ...], float] = {}

    def next(self, point: Point, most: float) -> tuple[Trial | None, Trial | None]:
        """Return what to go on with, and what reaches the target at once: each the best, if any.

        The first loses least for what it saves, the second least of all. Both lose less than
        `most`, and the first less than the second: else going on leads nowhere.
        """
        step, last, paid = None, None, math.inf
        choices = self._choices(point, most)
        for number, choice in enumerate(choices):
            ends = self._reaches(choice)
            limit = most if ends else min(most, point.noise + paid * choice.saved)
            if self._least(point, choice.block, choice.how) >= limit:
                continue
            noise = self._measure(point, choice, limit)
            self.raised[_key(choice.block, choice.how)] = noise - point.noise
            if self.progress is not None:
                text = f"trying without {choice.block.name}"
                self.progress(text, (number + 1) / len(choices))
            if not noise < limit:
                continue
            if ends:
                last, most = _trial(choice, noise), noise
            else:
                step, paid = _trial(choice, noise), (noise - point.noise) / choice.saved
        return step, last

    def _choices(self, point: Point, most: float) -> list[_Choice]:
        """Return what saves anything and may lose less than `most`, the likely best in front."""
        blocks = [
            block
            for block in find_blocks(point.model)
            if self._may_go(block)
            and self._has(block.exit)
            and any(self._least(point, block, how) < most for how in self.hows)
        ]
        fitted = fit_blocks(
            self.model,
            point.model,
            blocks,
            self.samples,
            max_memory=self.max_memory,
            progress=self.progress,
        )
        found = [self._choice(point, fit, how) for fit in fitted.values() for how in self.hows]
        return sorted((choice for choice in found if choice.saved > 0), key=self._rank)

    def _choice(self, point: Point, found: Fit, how: How) -> _Choice:
        patch, seen = {
            "identity": (None, found.lost_identity),
            "scale": (found.scale, found.lost_scale),
            "map": (found.full, found.lost_full),
        }[how]
        cost = self.cost(_bypassed(point.model, found.block, patch)) / self.whole
        return _Choice(
            block=found.block, how=how, patch=patch, seen=seen, cost=cost, saved=point.cost - cost
        )

    def _rank(self, choice: _Choice) -> tuple[bool, float]:
        """Return what choices are tried in the order of: what ends the search, and is good."""
        ends = self._reaches(choice)
        lost = self.raised.get(_key(choice.block, choice.how), choice.seen)
        return not ends, lost if ends else lost / choice.saved

    def _least(self, point: Point, block: Block, how: How) -> float:
        """Return what leaving a block out loses at least, as far as it was ever tried."""
        return point.noise + self.raised.get(_key(block, how), -math.inf)

    def _reaches(self, choice: _Choice) -> bool:
        return self.target is not None and choice.cost <= self.target

    def _may_go(self, block: Block) -> bool:
        return block.kind in self.kinds and not self.protect & {
            block.entry, block.exit, *block.nodes
        }  # fmt: skip

    def _has(self, name: str) -> bool:
        """Tell whether the whole model has a tensor, too: a map's own output is none of it."""
        return any(value.name == name for node in self.model.graph for value in node.outputs)

    def _measure(self, point: Point, choice: _Choice, most: float) -> float:
        model = _bypassed(point.model, choice.block, choice.patch)
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
            path = Path(folder) / "without.onnx"
            io.save(model, path)
            try:
                return self.noise(path, most)
            except OnnxOptError:
                return math.inf

    def without(self, point: Point, trial: Trial) -> Point:
        """Return a model that a block of a trial has gone from."""
        model = _bypassed(point.model, trial.block, trial.patch)
        return Point(
            model=model,
            removed=(*point.removed, trial),
            cost=self.cost(model) / self.whole,
            noise=trial.noise,
        )


def _key(block: Block, how: How) -> tuple[object, ...]:
    """Return what a choice is known by when other blocks have gone: entries may change names."""
    return block.exit, block.nodes, how


def _bypassed(model: ir.Model, block: Block, patch: Affine | None) -> ir.Model:
    made = model.clone()
    bypass(made, block, patch)
    return made


def _trial(choice: _Choice, noise: float) -> Trial:
    return Trial(
        block=choice.block,
        how=choice.how,
        noise=noise,
        saved=choice.saved,
        seen=None if choice.patch is None else choice.seen,
        patch=choice.patch,
    )
