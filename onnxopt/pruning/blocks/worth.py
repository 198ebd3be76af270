"""Leaves out the blocks that are worth least: each is tried without, by what the outputs lose.

In place of a block come its entry, its entry scaled by channel, or a fitted map; all that save
anything are run on held-out samples, and the one goes that loses least for the cost it saves. Then
the rest is measured again, as far as it can matter: what was worth more before than the best is now
is not tried, for with another block gone it would hardly be worth less.
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
Noise = Callable[[Path], float]
"""Says how far a model is from the one that nothing was taken from: noise over signal of outputs,
as `Judge.judge(path).noise` is, on samples that nothing was fitted on. Infinite: of no use."""


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
    and so does one whose loss could not be measured.
    """
    search = _Search(
        model=model,
        samples=samples,
        noise=noise,
        cost=cost or count_macs,
        protect=frozenset(protect),
        hows=tuple(hows),
        kinds=frozenset(kinds),
        max_memory=max_memory,
        progress=progress,
    )
    point = Point(model=model, removed=(), cost=1.0, noise=0.0)
    while not _is_enough(point, budget):
        best = search.next(point)
        if best is None or (budget.min_sqnr is not None and decibel(best.noise) < budget.min_sqnr):
            return
        point = search.without(point, best)
        yield point


def _is_enough(point: Point, budget: Budget) -> bool:
    enough = budget.blocks is not None and len(point.removed) >= budget.blocks
    return enough or (budget.cost is not None and point.cost <= budget.cost)


def count_macs(model: ir.Model) -> float:
    """Count the multiply-accumulates of a model, dimensions that are not known as 1."""
    return float(sum(known_macs(node) or 0 for node in model.graph))


@dataclass(kw_only=True)
class _Search:
    """What stays the same while blocks go, and what each was worth when it was last tried."""

    model: ir.Model
    samples: Samples
    noise: Noise
    cost: Cost
    protect: frozenset[str]
    hows: Sequence[How]
    kinds: frozenset[str]
    max_memory: int
    progress: Progress | None

    def __post_init__(self) -> None:
        self.whole = self.cost(self.model)
        self.worth: dict[tuple[str, How], float] = {}

    def next(self, point: Point) -> Trial | None:
        """Return the trial that loses least for what it saves; None where nothing can go."""
        blocks = [block for block in find_blocks(point.model) if self._may_go(block)]
        fitted = fit_blocks(
            self.model,
            point.model,
            [block for block in blocks if self._has(block.exit)],
            self.samples,
            max_memory=self.max_memory,
            progress=self.progress,
        )
        choices = [
            (self.worth.get((found.block.name, how), -math.inf), found, how)
            for found in fitted.values()
            for how in self.hows
        ]
        choices.sort(key=lambda choice: choice[0])
        best, least = None, math.inf
        for number, (worth, found, how) in enumerate(choices):
            if worth >= least:
                break
            trial = self._try(point, found, how)
            if self.progress is not None:
                self.progress(f"trying without {found.block.name}", (number + 1) / len(choices))
            if trial is None:
                continue
            paid = (trial.noise - point.noise) / trial.saved
            self.worth[found.block.name, how] = paid
            if paid < least:
                best, least = trial, paid
        return best

    def _may_go(self, block: Block) -> bool:
        return block.kind in self.kinds and not self.protect & {
            block.entry, block.exit, *block.nodes
        }  # fmt: skip

    def _has(self, name: str) -> bool:
        """Tell whether the whole model has a tensor, too: a map's own output is none of it."""
        return any(value.name == name for node in self.model.graph for value in node.outputs)

    def _try(self, point: Point, found: Fit, how: How) -> Trial | None:
        """Run a model without a block; None where that saves nothing or cannot be run."""
        patch = {"identity": None, "scale": found.scale, "map": found.full}[how]
        lost = {"identity": None, "scale": found.lost_scale, "map": found.lost_full}[how]
        model = point.model.clone()
        bypass(model, found.block, patch)
        saved = (self.cost(point.model) - self.cost(model)) / self.whole
        if saved <= 0:
            return None
        noise = self._measure(model)
        if not math.isfinite(noise):
            return None
        return Trial(block=found.block, how=how, noise=noise, saved=saved, seen=lost, patch=patch)

    def _measure(self, model: ir.Model) -> float:
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
            path = Path(folder) / "without.onnx"
            io.save(model, path)
            try:
                return self.noise(path)
            except OnnxOptError:
                return math.inf

    def without(self, point: Point, trial: Trial) -> Point:
        """Return a model that a block of a trial has gone from."""
        model = point.model.clone()
        bypass(model, trial.block, trial.patch)
        return Point(
            model=model,
            removed=(*point.removed, trial),
            cost=self.cost(model) / self.whole,
            noise=trial.noise,
        )
