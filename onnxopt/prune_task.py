"""Makes a model smaller: prepare, choose, refit, take out, prove, measure, write."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt import given
from onnxopt.arrays import Array
from onnxopt.config import OptimizeConfig, PruneConfig
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.profile import known_macs, profile
from onnxopt.judging.gates import gates
from onnxopt.judging.metric import Scores
from onnxopt.judging.quality import Judge, Quality
from onnxopt.judging.samples import FEW
from onnxopt.passes import concrete, shapes
from onnxopt.preparing import prepared
from onnxopt.prove import Prover
from onnxopt.pruning import masks, refitting, telling
from onnxopt.pruning.blocks.worth import Budget, Point, count_macs, remove_blocks
from onnxopt.pruning.budget.latency import Latency, latency_of
from onnxopt.pruning.budget.work import work_of
from onnxopt.pruning.channels import Channels, frozen, nothing, sizes
from onnxopt.pruning.factored import factorable
from onnxopt.pruning.factoring import factored
from onnxopt.pruning.groups.cutting import remove
from onnxopt.pruning.groups.finding import find_groups
from onnxopt.pruning.zeros import Zeros
from onnxopt.quantizing.detect import is_quantized
from onnxopt.report import (
    Calibration,
    Caution,
    FrozenPart,
    PrunedPart,
    PrunePoint,
    PruneReport,
)
from onnxopt.runtime.comparing.compare import verify
from onnxopt.runtime.feeding.feeds import make_feeds
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.runtime.machine.memory import peak_rss_bytes
from onnxopt.task import JUDGED, Task

if TYPE_CHECKING:
    from onnxopt.given import ModelLike
    from onnxopt.pipeline import Progress
    from onnxopt.report import Profile

_PROVEN = 3
"""Feeds on which the shrunk model is held against the masked one."""
_SHOWN = 6
"""Points of the front whose error is measured, besides the chosen one."""


def prune(
    model: ModelLike,
    calibration: str | Path | Sequence[Mapping[str, Any]] | None,
    output: str | Path | None,
    config: PruneConfig,
    *,
    progress: Progress | None = None,
) -> PruneReport:
    """Prune a model as `config` asks, and write it to `output` where that is wanted."""
    with given.on_disk(model) as source:
        loaded = io.load(source)
        if output is not None:
            io.check_output(output, io.source_of(loaded))
        before = given.profile_of(loaded, source, model)
        found = is_quantized(loaded)
        if found:
            raise OnnxOptError(
                f"the model is quantized already ({found}): its weights cannot be refitted",
                "prune the float model, then quantize it",
            )
        beside = None if output is None else Path(output).absolute().parent
        with tempfile.TemporaryDirectory(prefix=".onnxopt-", dir=beside) as folder:
            task = Pruning(source, calibration, config, Path(folder), progress)
            return task.run(before, output)


@dataclass(kw_only=True)
class Outcome:
    """What was made: a model, or None where only masks were asked for, and what to tell of it."""

    model: ir.Model | None
    parts: tuple[PrunedPart, ...]
    frozen: tuple[FrozenPart, ...] = ()
    front: tuple[PrunePoint, ...] = ()
    keep: Mapping[str, Array] = field(default_factory=dict)
    ridge: float | None = None


class Pruning(Task[PruneConfig]):
    """One model on its way to fewer weights."""

    def run(self, before: Profile, output: str | Path | None) -> PruneReport:
        """Choose, take out, judge, measure, write; return what was done."""
        self.tell("preparing", None)
        candidate = prepared(self.source, self.folder)
        self.model = candidate.model
        self.identity = before.sha256 or ""
        self.given = self.samples(self.model) if self.has_samples() else None
        self.judge = None
        if self.given is not None:
            self.judge = Judge(self.source, self.given.held(JUDGED))
        scores = self.scores()
        outcome = self.outcome()
        report = PruneReport(
            input=before,
            output=before,
            target=self.config.target.name,
            structure=self.config.structure,
            status="refused",
            reason="",
            written=False,
            seconds=0.0,
            peak_rss_bytes=0,
            importance=self.config.importance,
            solver=self.config.solver if self.given is not None and self.config.refit else "",
            ridge=outcome.ridge,
            calibration=self.calibration_of(),
            steps=tuple(candidate.transformation.steps),
            parts=outcome.parts,
            frozen=outcome.frozen,
            front=outcome.front,
            sparsity=telling.sparsity(outcome.parts),
        )
        if self.config.mask_out is not None:
            masks.save(self.config.mask_out, outcome.keep, self.identity)
            return self.finished(report, status="masked", masks=self.config.mask_out)
        assert outcome.model is not None
        return self.written(self.judged(report, outcome.model, scores), output)

    def has_samples(self) -> bool:
        """Tell whether there is anything to judge and refit by."""
        return self.calibration is not None or self.config.random_data

    def outcome(self) -> Outcome:
        """Take out what the structure is about."""
        ways = {
            "channel": self.channels,
            "block": self.blocks,
            "rank": self.rank,
            "element": self.zeros,
            "2:4": self.zeros,
        }
        return ways[self.config.structure]()

    def noise(self, model: ir.Model) -> float:
        """Return the noise of a model's outputs over their energy."""
        assert self.judge is not None
        return self.judge.judge(io.to_proto(model).SerializeToString()).noise

    def noise_of(self, path: Path) -> float:
        """Return the same of a model in a file."""
        assert self.judge is not None
        return self.judge.judge(path).noise

    def channels(self) -> Outcome:
        """Take channels out, and with them what makes and reads them."""
        config = self.config
        self.tell("finding channels", None)
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
            samples=self.given,
            folder=self.folder,
            noise=None if self.judge is None else self.noise,
            room=config.max_memory // 2,
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
                _SHOWN,
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
            feed = make_feeds(self.model, count=1, seed=self.config.seed)[0]
        return {name: tuple(getattr(array, "shape", ())) for name, array in feed.items()}

    def zeros(self) -> Outcome:
        """Set weights to zero."""
        refitting.prepare(self.model)
        shapes.infer(self.model)
        way = Zeros(
            model=self.model,
            config=self.config,
            samples=self.given,
            room=self.config.max_memory // 2,
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
        return Outcome(model=made, parts=tuple(way.parts), keep=way.chosen, ridge=self.config.ridge)

    def blocks(self) -> Outcome:
        """Leave out whole sub-networks, the least worth first, as measured."""
        assert self.given is not None
        config = self.config
        budget = Budget(
            cost=config.target_macs
            or config.target_latency
            or (None if config.sparsity is None else 1 - config.sparsity),
            min_sqnr=config.min_sqnr,
        )
        points: list[Point] = []
        for point in remove_blocks(
            self.model,
            self.given,
            self.noise_of,
            budget,
            protect=config.protect,
            max_memory=config.max_memory // 2,
            progress=self.progress,
        ):
            points.append(point)
            self.tell(f"{len(point.removed)} out", None)
        if not points:
            raise OnnxOptError(
                "no block can go: the model has none, or none within what was asked",
                "ask for less, or take out channels: --structure channel",
            )
        last = points[-1]
        whole = count_macs(self.model)
        return Outcome(
            model=last.model,
            parts=telling.blocks(last, whole),
            front=telling.block_front(points, self.model),
            keep={},
        )

    def rank(self) -> Outcome:
        """Split layers in two through a factor of low rank, where that is cheaper."""
        assert self.given is not None
        config = self.config
        found = factored(
            self.model,
            self.given,
            self.layers_share(),
            protect=config.protect,
            noise=self.noise_of,
            room=config.max_memory // 2,
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
        whole = count_macs(self.model)
        layers = sum(known_macs(node) or 0 for node in factorable(self.model).values())
        left = share * whole - (whole - layers)
        if left <= 0:
            raise OnnxOptError(
                f"{share:g} of the MACs is less than what is no layer that could be split",
                "ask for more, or take out channels: --structure channel",
            )
        return left / layers

    def prove(self, soft: ir.Model, hard: ir.Model) -> None:
        """Hold the shrunk model against the masked one: unless they are equal nothing is made."""
        self.tell("proving", None)
        feeds = [] if self.judge is None else self.judge.feeds[:_PROVEN]
        feeds = feeds or make_feeds(self.model, count=_PROVEN, seed=self.config.seed)
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

    def calibration_of(self) -> Calibration | None:
        """Return what the report says of the samples."""
        if self.given is None:
            return None
        held = self.given.held_count
        if self.given.count < FEW:
            self.warnings.append(
                Caution(
                    kind="few samples",
                    message=f"{self.given.count} samples are few to refit by",
                    advice=f"give {FEW} at least, better 100",
                )
            )
        return Calibration(
            source=self.described(), samples=self.given.count - held, held_out=held, method="refit"
        )

    def judged(self, report: PruneReport, model: ir.Model, scores: Scores | None) -> PruneReport:
        """Optimize the result, hold it against the model that was given, and measure it."""
        path = self.optimized(model)
        quality: Quality | None = None if self.judge is None else self.judge.judge(path)
        score = None if scores is None else scores.report(path, self.config.max_drop)
        difference = None
        if self.config.shrinks:
            feeds = make_feeds(self.model, count=1) if self.judge is None else self.judge.feeds
            difference = self.measured(path, feeds)
        return replace(
            report,
            verification=None if quality is None else quality.comparison,
            quality=() if quality is None else quality.outputs,
            score=score,
            difference=difference,
            gates=gates(
                quality,
                score,
                difference,
                min_sqnr=self.config.min_sqnr,
                max_slowdown=self.config.max_slowdown,
            ),
        )

    def optimized(self, model: ir.Model) -> Path:
        """Write the result, optimized exactly for the target, to the folder; return its path."""
        rough, path = self.folder / "rough.onnx", self.folder / "result.onnx"
        io.save(model, rough)
        config = OptimizeConfig(target=self.config.target, verify=False, measure=False)
        self.result = Prover(rough, config, beside=self.folder).make().model
        io.save(self.result, path)
        return path

    def written(self, report: PruneReport, output: str | Path | None) -> PruneReport:
        """Write the result, unless a gate failed and nobody wants it all the same."""
        failed = [gate.text for gate in report.gates if not gate.passed]
        reason = "; ".join(failed)
        if failed and not self.config.anyway:
            return self.finished(report, reason=reason, model=self.result)
        after = profile(self.result)
        if output is not None:
            io.save(self.result, output)
            size = sum(part.stat().st_size for part in io.files_of(output))
            after = replace(after, path=str(output), sha256=io.sha256_of(output), file_bytes=size)
        return self.finished(
            report,
            status="pruned",
            reason=reason,
            output=after,
            written=output is not None,
            model=self.result,
        )

    def finished(self, report: PruneReport, **changes: Any) -> PruneReport:
        """Return a report with what is known at the end."""
        return replace(
            report,
            seconds=time.perf_counter() - self.start,
            peak_rss_bytes=peak_rss_bytes(),
            warnings=tuple(self.warnings),
            **changes,
        )
