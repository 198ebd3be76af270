"""Makes a model int8 from end to end: prepare, calibrate, repair, choose, write, audit."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt import given
from onnxopt.config import QuantizeConfig
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.metric import Scores
from onnxopt.judging.quality import Judge, decibel
from onnxopt.judging.samples import FEW
from onnxopt.quantizing import telling
from onnxopt.quantizing.audit import audit
from onnxopt.quantizing.calibration.statistics import Statistics
from onnxopt.quantizing.choosing import Chooser
from onnxopt.quantizing.detect import is_quantized
from onnxopt.quantizing.making import Made, Maker
from onnxopt.quantizing.placement.islands import without_islands
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.placement.table import placement_for
from onnxopt.quantizing.regions.front import ENOUGH_DB, Wishes
from onnxopt.quantizing.repair.reorder import reordered
from onnxopt.quantizing.repairing import Repaired, repaired
from onnxopt.report import Calibration, Difference, Profile, QuantizeReport
from onnxopt.runtime.machine.memory import peak_rss_bytes
from onnxopt.runtime.machine.multiply import kernels_for
from onnxopt.task import Task

if TYPE_CHECKING:
    from onnxopt.given import ModelLike
    from onnxopt.pipeline import Progress


def quantize(
    model: ModelLike,
    calibration: str | Path | Sequence[Mapping[str, Any]] | None,
    output: str | Path | None,
    config: QuantizeConfig,
    *,
    progress: Progress | None = None,
) -> QuantizeReport:
    """Quantize a model as `config` asks, and write it to `output` where that is wanted."""
    start = time.perf_counter()
    with given.on_disk(model) as source:
        loaded = io.load(source)
        if output is not None:
            io.check_output(output, io.source_of(loaded))
        before = given.profile_of(loaded, source, model)
        found = is_quantized(loaded)
        if found:
            return _handed_on(found, source, loaded, before, output, config, start)
        with given.room_beside(output) as folder:
            task = Quantizing(source, calibration, config, folder, progress)
            return task.run(before, output)


def _handed_on(
    found: str,
    source: Path,
    model: ir.Model,
    before: Profile,
    output: str | Path | None,
    config: QuantizeConfig,
    start: float,
) -> QuantizeReport:
    """Hand on a model that is quantized already, as it is."""
    after = before
    if output is not None:
        if len(io.files_of(source)) == 1:
            shutil.copyfile(source, output)
        else:
            io.save(model, output)
        after = replace(before, path=str(output), sha256=io.sha256_of(output))
    report = untouched(found, model, before, after, config)
    return replace(report, written=output is not None, seconds=time.perf_counter() - start)


def untouched(
    found: str, model: ir.Model, before: Profile, after: Profile, config: QuantizeConfig
) -> QuantizeReport:
    """Return the report of a model that is quantized already."""
    return QuantizeReport(
        input=before,
        output=after,
        target=config.target.name,
        status="untouched",
        reason=f"the model is quantized already: {found}",
        written=False,
        seconds=0.0,
        peak_rss_bytes=peak_rss_bytes(),
        format=config.format,
        model=model,
    )


class Quantizing(Task[QuantizeConfig]):
    """One model on its way to int8."""

    def run(self, before: Profile, output: str | Path | None) -> QuantizeReport:
        """Quantize, judge, measure, write; return what was done."""
        candidate = self.prepared()
        placement = self.place(candidate.model)
        report = QuantizeReport(
            input=before,
            output=before,
            target=self.config.target.name,
            status="refused",
            reason="",
            written=False,
            seconds=0.0,
            peak_rss_bytes=0,
            isa_given=self.config.isa != "auto",
            format=self.config.format,
            steps=tuple(candidate.transformation.steps),
        )
        if not placement.units:
            return self.finished(report, reason=telling.nothing_to_do(placement))
        maker = self.maker(candidate.model, before.sha256 or "")
        held = self.held(maker.samples)
        judge = Judge(self.teacher, held, exact=self.config.repairs("saturation"))
        fixed = repaired(candidate.model, placement, self.place, maker, self.own(judge))
        if self.config.save_statistics is not None:
            maker.statistics[maker.identity].save(Path(self.config.save_statistics))
        if self.config.repairs("saturation") and maker.pairs_neighbours:
            # The ranges of whole tensors stay what they are: only the order of channels changes.
            reordered(fixed.model)
            fixed.placement = self.place(fixed.model)
        scores = self.scores()
        chosen = self.chooser(maker, judge, fixed, scores).run()
        report = replace(
            report,
            isa=maker.kernels.isa,
            rounding=maker.rounding,
            calibration=self.calibration_of(maker),
            repairs=tuple(fixed.tried),
            front=chosen.points,
            regions=telling.regions(chosen, placement, candidate.model),
        )
        if chosen.made is None and not self.config.anyway:
            return self.finished(report, reason=chosen.reason)
        made = chosen.made or maker.make(
            fixed.model, fixed.placement, self.statistics(maker, fixed)
        )
        report = self.judged(report, made, maker, judge, scores)
        self.warnings += telling.little(report)
        return self.written(report, made.model, output, "quantized")

    def own(self, judge: Judge) -> Judge:
        """Return what judges by the source: what it has lost itself would hide what int8 does."""
        if self.teacher == self.source:
            return judge
        return Judge(self.source, judge.feeds, exact=judge.exact)

    def floor(self, judge: Judge) -> float | None:
        """Return the least SQNR; what the source has lost already is not asked of int8.

        None: what else was asked for decides, and `ENOUGH_DB` where nothing was.
        """
        asked = self.config.min_sqnr
        chosen_so = asked is not None or self.config.metric is not None or self.config.fastest
        if chosen_so or self.teacher == self.source:
            return asked
        return decibel(judge.judge(self.source).noise + 10 ** (-ENOUGH_DB / 10))

    def chooser(
        self, maker: Maker, judge: Judge, fixed: Repaired, scores: Scores | None
    ) -> Chooser:
        """Return what chooses among regions, as the options ask."""
        feeds = judge.feeds[:1]

        def measured(path: Path) -> Difference:
            return self.ab(path, feeds)

        def scored(made: Made) -> float:
            assert scores is not None
            return scores.of(maker.save(made))

        return Chooser(
            model=fixed.model,
            placement=fixed.placement,
            statistics=self.statistics(maker, fixed),
            maker=maker,
            judge=judge,
            source=self.source,
            wishes=Wishes(
                min_sqnr=self.floor(judge),
                max_slowdown=self.config.max_slowdown,
                fastest=self.config.fastest,
                float_score=None if scores is None else scores.float_score,
                max_drop=self.config.max_drop,
            ),
            measure=measured if self.measures() else None,
            score=None if scores is None else scored,
            threads=self.config.threads,
        )

    def maker(self, model: ir.Model, identity: str) -> Maker:
        """Return what makes int8 models of the samples that were given."""
        maker = Maker(
            samples=self.samples(model),
            config=self.config,
            kernels=kernels_for(self.isa()),
            folder=self.folder,
            progress=self.tell,
            identity=identity,
        )
        if self.config.statistics is not None:
            earlier = Statistics.load(Path(self.config.statistics))
            earlier.check_model(identity)
            maker.statistics[identity] = earlier
        return maker

    def statistics(self, maker: Maker, fixed: Repaired) -> Statistics:
        """Return the statistics of a repaired model; say what is doubtful about them."""
        found = maker.calibrate(fixed.model, fixed.placement, fixed.identity)
        self.warnings += telling.cautions(maker.samples.count, FEW, found.constant())
        return found

    def calibration_of(self, maker: Maker) -> Calibration:
        """Return what the report says of the samples."""
        samples = maker.samples
        return Calibration(
            source=self.described(),
            samples=samples.count - samples.held_count,
            held_out=samples.held_count,
            method=maker.method,
            seconds=maker.seconds,
            statistics=self.config.save_statistics,
        )

    def judged(
        self,
        report: QuantizeReport,
        made: Made,
        maker: Maker,
        judge: Judge,
        scores: Scores | None,
    ) -> QuantizeReport:
        """Hold the int8 model against the float one: errors, speed, what was asked for."""
        path = maker.save(made)
        quality = judge.judge(path)
        score = None if scores is None else scores.report(path, self.config.max_drop)
        difference = self.measured(path, judge.feeds)
        return replace(
            report,
            verification=quality.comparison,
            quality=quality.outputs,
            score=score,
            difference=difference,
            gates=self.gates(quality, score, difference),
            tensors=telling.tensors(made),
            saturation=telling.saturation(maker.kernels, made),
            audit=audit(path, self.config.target.name),
        )

    def isa(self) -> str:
        """Return the instruction set to decide for, of `kernels_for`."""
        if self.config.isa != "auto":
            return self.config.isa
        return "avx2" if self.config.target.name == "portable" else "native"

    def place(self, model: ir.Model) -> Placement:
        """Return the units that the target could run and the user allows."""
        placement = placement_for(self.config.target.name, model)
        allowed = {unit.name for unit in placement.units if self.config.allows(unit.name, unit.op)}
        return without_islands(placement.only(allowed))
