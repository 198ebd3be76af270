"""Takes out of a prepared model what a structure is about, and proves what was cut."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxopt.arrays import Array
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.cost import costs
from onnxopt.judging.quality import Judge
from onnxopt.judging.samples import Samples
from onnxopt.passes import concrete, shapes
from onnxopt.prune_config import PruneConfig
from onnxopt.pruning import masks, refitting, seeing, telling
from onnxopt.pruning.blocks.worth import Budget, Point, remove_blocks
from onnxopt.pruning.budget.latency import Latency, latency_of
from onnxopt.pruning.budget.work import work_of
from onnxopt.pruning.channels import Channels, frozen, nothing, sizes
from onnxopt.pruning.factored import factorable
from onnxopt.pruning.factoring import factored
from onnxopt.pruning.groups.cutting import remove
from onnxopt.pruning.groups.finding import find_groups
from onnxopt.pruning.learning.learn import SEEN, learn
from onnxopt.pruning.teaching import teach
from onnxopt.pruning.zeros import Zeros
from onnxopt.report import FrozenPart, Learned, PrunedPart, PrunePoint
from onnxopt.runtime.comparing.compare import verify
from onnxopt.runtime.machine.isa import usable_cores

_PROVEN = 3
"""Feeds on which the shrunk model is held against the masked one."""
_ACTIVATIONS = 4
"""Part of the memory that is allowed for them; the rest of them goes to files."""
_SHOWN = 6
"""Points of the front whose error is measured, besides the chosen one."""


@dataclass(kw_only=True)
class Outcome:
    """What was made: a model, or None where only masks were asked for, and what to tell of it."""

    model: ir.Model | None
    parts: tuple[PrunedPart, ...]
    frozen: tuple[FrozenPart, ...] = ()
    front: tuple[PrunePoint, ...] = ()
    keep: Mapping[str, Array] = field(default_factory=dict)
    ridge: float | None = None
    learned: Learned | None = None


@dataclass(kw_only=True)
class Maker:
    """Prunes one prepared model; without samples there is no judge, and nothing is refitted.

    `identity` is the SHA-256 of the model that was given, which masks are kept for; `made_up`
    returns so many samples of random numbers, of sizes that the model runs with; `shown` points of
    a front get their error measured, besides the chosen one.
    """

    model: ir.Model
    config: PruneConfig
    samples: Samples | None
    judge: Judge | None
    folder: Path
    identity: str
    made_up: Callable[[int], list[dict[str, Any]]]
    progress: Callable[[str, float | None], None] | None = None
    shown: int = _SHOWN

    @property
    def room(self) -> int:
        """Bytes of activations that stay in memory: models, moments, sessions are there, too."""
        return self.config.max_memory // _ACTIVATIONS

    def outcome(self) -> Outcome:
        """Take out what the structure is about."""
        ways = {
            "channel": self.channels,
            "block": self.blocks,
            "rank": self.rank,
            "element": self.zeros,
            "2:4": self.zeros,
        }
        found = ways[self.config.structure]()
        if found.model is None or self.samples is None:
            return found
        if self.config.teach:
            found = replace(found, model=self.taught(found.model, self.samples))
        return self.learned(found, self.samples) if self.config.learn else found

    def taught(self, model: ir.Model, samples: Samples) -> ir.Model:
        """Refit a result block by block; keep it as it was where that errs more."""
        refitted = model.clone()
        teach(
            self.model,
            refitted,
            samples,
            protect=self.config.protect,
            room=self.room,
            progress=self.progress,
        )
        better = self.judge is None or self.noise(refitted) < self.noise(model)
        return refitted if better else model

    def learned(self, found: Outcome, samples: Samples) -> Outcome:
        """Let a result learn by gradient steps; keep it as it was where that errs more."""
        assert found.model is not None
        pupil = found.model.clone()
        told = learn(
            self.model,
            pupil,
            samples,
            passes=self.config.learn,
            most=max(SEEN, seeing.enough(self.macs(self.model))),
            protect=self.config.protect,
            seed=self.config.seed,
            room=self.room,
            progress=self.progress,
        )
        if told.kept and (self.judge is None or self.noise(pupil) < self.noise(found.model)):
            return replace(found, model=pupil, learned=told)
        return replace(found, learned=replace(told, kept=0))

    def noise(self, model: ir.Model) -> float:
        """Return the noise of a model's outputs over their energy."""
        assert self.judge is not None
        return self.judge.judge(io.to_proto(model).SerializeToString()).noise

    def noise_of(self, path: Path, at_most: float = math.inf) -> float:
        """Return the same of a model in a file, no further than until it is above `at_most`."""
        assert self.judge is not None
        return self.judge.noise(path, at_most)

    def channels(self) -> Outcome:
        """Take channels out, and with them what makes and reads them."""
        config = self.config
        refitting.prepare(self.model)
        shapes.infer(self.model)
        groups = find_groups(self.model, protect=config.protect)
        if not groups.groups:
            raise nothing(groups)
        fixed = concrete.concrete(self.model, self.shapes_of())
        work = work_of(self.model, groups, fixed)
        way = Channels(
            model=self.model,
            groups=groups,
            work=work,
            config=config,
            samples=self.samples,
            folder=self.folder,
            noise=None if self.judge is None else self.noise,
            room=self.room,
            progress=self.progress,
        )
        if config.target_latency is not None:
            way.latency = self.latency(way)
        if config.mask is not None:
            keep = masks.load(config.mask, sizes(groups), self.identity)
            points: tuple[PrunePoint, ...] = ()
        else:
            way.survey()
            found = way.front()
            chosen = way.cut(found)
            keep = way.keep(chosen)
            points = telling.front(
                found,
                chosen,
                None if self.judge is None else lambda cut: self.noise(way.quick(way.keep(cut))),
                self.shown,
            )
        if not any(not stays.all() for stays in keep.values()):
            raise OnnxOptError(
                "nothing goes: no group is that unimportant, or wide enough for its kernels",
                "ask for more, or for finer widths: --multiple 1",
            )
        return self.narrowed(way, keep, points)

    def narrowed(
        self, way: Channels, keep: Mapping[str, Array], points: tuple[PrunePoint, ...]
    ) -> Outcome:
        """Take units out that do not stay, refitted and proven; or keep the masks alone."""
        told = Outcome(model=None, parts=(), frozen=frozen(way.groups), front=points, keep=keep)
        if self.config.mask_out is not None:
            whole = {group.name: telling.everything(group.size) for group in way.groups}
            return replace(told, parts=way.parts(keep), keep={**whole, **keep})
        soft = way.soft(keep)
        hard = soft.clone()
        remove(hard, way.groups, keep)
        self.prove(soft, hard)
        if points:
            noise = None if self.judge is None else self.noise(hard)
            points = telling.with_chosen(points, noise)
        ridges = [] if way.done is None else list(way.done.ridges.values())
        return replace(
            told, model=hard, parts=way.parts(keep), front=points, ridge=telling.middle(ridges)
        )

    def latency(self, way: Channels) -> Latency:
        """Measure what nodes take at several widths."""
        assert self.judge is not None
        path = self.folder / "whole.onnx"
        io.save(self.model, path)
        return latency_of(
            self.model,
            way.work,
            path,
            self.judge.feeds[0],
            way.widths,
            threads=self.config.threads or usable_cores(),
            progress=self.progress,
        )

    def shapes_of(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the inputs, of the first sample where there is one."""
        if self.judge is not None and self.judge.feeds:
            feed = self.judge.feeds[0]
        else:
            feed = self.made_up(1)[0]
        return {name: tuple(getattr(array, "shape", ())) for name, array in feed.items()}

    def macs(self, model: ir.Model, among: Collection[str] | None = None) -> float:
        """Count the multiply-accumulates of a run on a sample, of some nodes where they are named.

        What a model of any batch and any length computes is not known without one.
        """
        found = costs(model, concrete.concrete(model, self.shapes_of()), "cpu")
        return float(
            sum(each.macs or 0 for each in found if among is None or each.node.name in among)
        )

    def zeros(self) -> Outcome:
        """Set weights to zero."""
        refitting.prepare(self.model)
        shapes.infer(self.model)
        way = Zeros(
            model=self.model,
            config=self.config,
            samples=self.samples,
            seen=seeing.enough(self.macs(self.model)),
            room=self.room,
            progress=self.progress,
        )
        if not way.layers:
            raise OnnxOptError(
                "there is no weight to prune: no Conv, Gemm or MatMul with a constant",
                "nothing can be done about this model",
            )
        masked = None
        if self.config.mask is not None:
            masked = masks.load(self.config.mask, way.sizes(), self.identity)
        made = way.run(masked)
        if self.config.structure == "element" and way.shares and self.judge is not None:
            # Energies of layers compare badly: of two ways to spread zeros the better one stays.
            even = replace(way, config=replace(self.config, scope="layer"), chosen={}, parts=[],
                           shares={})  # fmt: skip
            other = even.run()
            if self.noise(other) < self.noise(made):
                way, made = even, other
        return Outcome(model=made, parts=tuple(way.parts), keep=way.chosen, ridge=self.config.ridge)

    def blocks(self) -> Outcome:
        """Leave out whole sub-networks, the least worth first, as measured."""
        assert self.samples is not None
        config = self.config
        budget = Budget(
            cost=config.target_macs
            or config.target_latency
            or (None if config.sparsity is None else 1 - config.sparsity),
            min_sqnr=config.min_sqnr,
        )
        points: list[Point] = list(
            remove_blocks(
                self.model,
                self.samples,
                self.noise_of,
                budget,
                cost=self.macs,
                protect=config.protect,
                max_memory=config.max_memory // 2,
                progress=self.progress,
            )
        )
        if not points:
            raise OnnxOptError(
                "no block can go: the model has none, or none within what was asked",
                "ask for less, or take out channels: --structure channel",
            )
        last = points[-1]
        return Outcome(
            model=last.model,
            parts=telling.blocks(last, self.macs(self.model)),
            front=telling.block_front(points, self.model),
            keep={},
        )

    def rank(self) -> Outcome:
        """Split layers in two through a factor of low rank, where that is cheaper."""
        assert self.samples is not None
        config = self.config
        found = factored(
            self.model,
            self.samples,
            self.layers_share(),
            protect=config.protect,
            noise=self.noise_of,
            room=self.room,
            progress=self.progress,
        )
        if not any(layer.rank is not None for layer in found.layers):
            raise OnnxOptError(
                "no layer would be cheaper in two", "take out channels: --structure channel"
            )
        return Outcome(model=found.model, parts=telling.ranks(found))

    def layers_share(self) -> float:
        """Return the share of their MACs that layers may keep, for what was asked of the model."""
        config = self.config
        share = config.target_macs or config.target_latency
        if share is None:
            return 1 - (config.sparsity or 0.0)
        whole = self.macs(self.model)
        layers = self.macs(self.model, factorable(self.model, config.protect))
        if not layers:
            return share
        left = share * whole - (whole - layers)
        if left <= 0:
            raise OnnxOptError(
                f"{share:g} of the MACs is less than what is no layer that could be split",
                "ask for more, or take out channels: --structure channel",
            )
        return left / layers

    def prove(self, soft: ir.Model, hard: ir.Model) -> None:
        """Hold the shrunk model against the masked one: unless they are equal nothing is made."""
        feeds = [] if self.judge is None else self.judge.feeds[:_PROVEN]
        feeds = feeds or self.made_up(_PROVEN)
        first, second = self.folder / "soft.onnx", self.folder / "hard.onnx"
        io.save(soft, first)
        io.save(hard, second)
        found = verify(first, second, feeds)
        if not found.passed:
            worst = next((each.name for each in found.outputs if not each.passed), "")
            raise OnnxOptError(
                f"taking out changed what is computed (output {worst!r}): nothing is written",
                "this is a fault of onnxopt: please report it, with the model",
            )
