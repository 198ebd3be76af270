"""Makes a model smaller: prepare, choose, refit, take out, prove, measure, write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt import given
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.metric import Scores
from onnxopt.judging.quality import Judge, Quality
from onnxopt.judging.samples import FEW
from onnxopt.prove import Prover
from onnxopt.prune_config import PruneConfig
from onnxopt.pruning import masks, telling
from onnxopt.pruning.contest import Contest, contest
from onnxopt.pruning.making import Maker
from onnxopt.quantizing.detect import is_quantized
from onnxopt.report import (
    Calibration,
    Caution,
    Difference,
    PruneReport,
)
from onnxopt.task import Task

if TYPE_CHECKING:
    from onnxopt.given import ModelLike
    from onnxopt.pipeline import Progress
    from onnxopt.report import Profile


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
        check_float(loaded)
        with given.room_beside(output) as folder:
            task = Pruning(source, calibration, config, folder, progress)
            return task.run(before, output)


def check_float(model: ir.Model) -> None:
    """Raise `OnnxOptError` for a model that is quantized already."""
    if found := is_quantized(model):
        raise OnnxOptError(
            f"the model is quantized already ({found}): its weights cannot be refitted",
            "prune the float model, then quantize it",
        )


class Pruning(Task[PruneConfig]):
    """One model on its way to fewer weights."""

    purpose = "pruning"

    def run(self, before: Profile, output: str | Path | None) -> PruneReport:
        """Choose, take out, judge, measure, write; return what was done."""
        candidate = self.prepared()
        self.model = candidate.model
        self.identity = before.sha256 or ""
        self.given = self.samples(self.model) if self.has_samples() else None
        self.judge = None
        if self.given is not None:
            self.judge = Judge(self.teacher, self.held(self.given))
        scores = self.scores()
        maker = Maker(
            model=self.model,
            config=self.config,
            samples=self.given,
            judge=self.judge,
            folder=self.folder,
            identity=self.identity,
            made_up=partial(self.made_up, self.model),
            progress=self.progress,
        )
        outcome = maker.outcome()
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
            learned=outcome.learned,
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
        report, result = self.judged(report, outcome.model, scores)
        if self.config.structure == "rank":
            report = self.contested(report, contest(maker, outcome.model))
        return self.written(report, result, output, "pruned")

    def has_samples(self) -> bool:
        """Tell whether there is anything to judge and refit by."""
        return self.calibration is not None or self.config.random_data

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

    def judged(
        self, report: PruneReport, model: ir.Model, scores: Scores | None
    ) -> tuple[PruneReport, ir.Model]:
        """Optimize the result, hold it against the model that was given, and measure it."""
        result, path = self.optimized(model, "result")
        quality: Quality | None = None if self.judge is None else self.judge.judge(path)
        score = None if scores is None else scores.report(path, self.config.max_drop)
        difference = self.timed(path) if self.config.shrinks else None
        report = replace(
            report,
            verification=None if quality is None else quality.comparison,
            quality=() if quality is None else quality.outputs,
            score=score,
            difference=difference,
            gates=self.gates(quality, score, difference),
        )
        return report, result

    def timed(self, path: Path) -> Difference | None:
        """Tell how much faster a result is than the model that was given, where that is asked."""
        feeds = self.made_up(self.model, 1) if self.judge is None else self.judge.feeds
        return self.measured(path, feeds)

    def contested(self, report: PruneReport, found: Contest) -> PruneReport:
        """Say whether low rank beats channels taken out; where it does not, a gate fails."""
        if found.channels is not None and report.difference is not None:
            _, path = self.optimized(found.channels.model, "channels")
            found = found.measured(report.difference, self.timed(path))
        gate = found.gate()
        gates = report.gates if gate is None else (*report.gates, gate)
        kept = self.config.anyway or all(each.passed for each in gates)
        return replace(report, gates=gates, attempts=found.attempts(kept=kept))

    def optimized(self, model: ir.Model, name: str) -> tuple[ir.Model, Path]:
        """Optimize a model exactly for the target; return it, and the file in the folder."""
        rough, path = self.folder / "rough.onnx", self.folder / f"{name}.onnx"
        io.save(model, rough)
        config = replace(self.exact, target=self.config.target, verify=False, measure=False)
        made = Prover(rough, config, beside=self.folder).make().model
        io.save(made, path)
        return made, path
