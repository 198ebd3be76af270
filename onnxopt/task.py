"""What `quantize` and `prune` have in common: samples, a metric, a clock."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from onnxopt import given
from onnxopt.benchmarking.measure import MeasureError, ab
from onnxopt.config import OptimizeConfig, QuantizeConfig
from onnxopt.errors import ProviderError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.gates import gates
from onnxopt.judging.metric import Scores
from onnxopt.judging.quality import Quality
from onnxopt.judging.samples import Samples
from onnxopt.preparing import INT8, prepared
from onnxopt.prove import Candidate
from onnxopt.prune_config import PruneConfig
from onnxopt.report import Caution, Difference, Gate, PruneReport, QuantizeReport, Score
from onnxopt.runtime.execution.providers import check_usable
from onnxopt.runtime.feeding.inputs import model_inputs
from onnxopt.runtime.machine.memory import peak_rss_bytes

if TYPE_CHECKING:
    from onnxopt.pipeline import Progress

_JUDGED, _JUDGED_AT_LEAST, _ROOM = 128, 32, 1 << 25
"""Held-out samples that every attempt is judged by: fewer where they take more bytes than that."""

_MEASURED, _LONGER, _PRECISION = 20.0, 80.0, 0.02
"""Seconds that a comparison of speed may take, those that it may take where the first ones left an
interval whose ends are farther apart than `_WIDE`, and the share at which it may stop earlier."""
_WIDE = 1.15

_RANDOM_SAMPLES = 32

_GIGABYTE, _TIMES_ITS_SIZE = 10**9, 5
"""Bytes that statistics may take: onnxruntime alone takes three times the weights of a model."""

Config = TypeVar("Config", QuantizeConfig, PruneConfig)
Report = TypeVar("Report", QuantizeReport, PruneReport)


class Task(Generic[Config]):
    """One model on its way to something smaller, judged by samples and measured.

    `teacher` is the model that it is judged by and timed against, and that the user's metric was
    asked of (`scores`), where that is not its source. `exact` tells what to leave out where it is
    optimized, `purpose` what an old model would have to be raised for.
    """

    purpose = INT8

    def __init__(
        self,
        source: Path,
        calibration: str | Path | Sequence[Mapping[str, Any]] | None,
        config: Config,
        folder: Path,
        progress: Progress | None,
        *,
        teacher: Path | None = None,
        scores: Scores | None = None,
        exact: OptimizeConfig | None = None,
    ) -> None:
        self.source = source
        self.teacher = source if teacher is None else teacher
        self.known_scores = scores
        self.exact = OptimizeConfig() if exact is None else exact
        self.calibration = calibration
        self.config: Config = replace(config, max_memory=config.max_memory or usual_memory(source))
        self.folder = folder
        self.progress = progress
        self.start = time.perf_counter()
        self.warnings: list[Caution] = []

    def tell(self, text: str, fraction: float | None) -> None:
        """Show what is being done."""
        if self.progress is not None:
            self.progress(text, fraction)

    def prepared(self) -> Candidate:
        """Return the source as it is to be changed; what it declares is kept for the result."""
        self.tell("preparing", None)
        found = prepared(
            self.source, self.config.target, self.folder, exact=self.exact, purpose=self.purpose
        )
        if self.teacher == self.source:
            self.teacher = self.source = found.source
        self.declared = found.candidate.declared
        return found.candidate

    def described(self) -> str:
        """Say where the samples are from."""
        if self.calibration is None:
            return "random"
        return str(self.calibration) if isinstance(self.calibration, (str, Path)) else "given"

    def samples(self, model: ir.Model) -> Samples:
        """Return what is given, checked against the inputs, or samples that are made up."""
        from onnxopt.runtime.feeding.data import load_data
        from onnxopt.runtime.feeding.feeds import checked

        path, feeds = given.samples_of(self.calibration)
        if path is not None:
            inputs = model_inputs(model)
            return Samples(lambda: load_data(path, inputs), self.config.samples)
        if feeds is None:
            made = self.made_up(model, _RANDOM_SAMPLES)
            self.warnings.append(
                Caution(
                    kind="random data",
                    message="choices and errors are of random numbers: they mean little",
                    advice="give real samples with --calibration",
                )
            )
            return Samples(lambda: made)
        fitting = checked(feeds, model)
        return Samples(lambda: fitting, self.config.samples)

    def made_up(self, model: ir.Model, count: int) -> list[dict[str, Any]]:
        """Return samples of random numbers, of sizes that the model runs with."""
        from onnxopt.runtime.feeding.feeds import make_feeds
        from onnxopt.runtime.sessions.engine import ONNXRUNTIME, open_engine

        runs = open_engine(self.teacher, only=ONNXRUNTIME).run
        return make_feeds(model, runs=runs, count=count, seed=self.config.seed)

    def held(self, samples: Samples) -> Iterator[Mapping[str, Any]]:
        """Yield the samples that every attempt is judged by, which stay in memory."""
        fit = _ROOM // max(samples.feed_bytes, 1)
        return samples.held(min(_JUDGED, max(_JUDGED_AT_LEAST, fit)))

    def scores(self) -> Scores | None:
        """Return the user's own metric, asked of the model that was given already."""
        if self.config.metric is None or self.known_scores is not None:
            return self.known_scores
        self.tell("scoring the model that was given", None)
        return Scores.of_float(self.config.metric, self.teacher)

    def measures(self) -> bool:
        """Tell whether speed is measured: asked for, and the target's provider runs here."""
        if not self.config.measure:
            return False
        try:
            check_usable(self.config.target.provider)
        except ProviderError as error:
            self.warnings.append(
                Caution(kind="not measured", message=error.message, advice=error.hint)
            )
            return False
        return True

    def measured(self, path: Path, feeds: Sequence[Mapping[str, Any]]) -> Difference | None:
        """Tell how much faster a result is than the model that was given."""
        if not self.measures():
            return None
        try:
            return self.ab(path, feeds[:1])
        except MeasureError as error:
            self.warnings.append(Caution(kind="not measured", message=str(error)))
            return None

    def gates(
        self, quality: Quality | None, score: Score | None, difference: Difference | None
    ) -> tuple[Gate, ...]:
        """Return the conditions that were asked for, and whether they hold."""
        return gates(
            quality,
            score,
            difference,
            min_sqnr=self.config.min_sqnr,
            max_slowdown=self.config.max_slowdown,
        )

    def written(
        self,
        report: Report,
        model: ir.Model,
        output: str | Path | None,
        status: Literal["quantized", "pruned"],
    ) -> Report:
        """Write the result, unless a gate failed and nobody wants it all the same."""
        self.declared.restore(model)
        failed = [gate.text for gate in report.gates if not gate.passed]
        reason = "; ".join(failed)
        if failed and not self.config.anyway:
            return self.finished(report, reason=reason, model=model)
        return self.finished(
            report,
            status=status,
            reason=reason,
            output=given.saved(model, output),
            written=output is not None,
            model=model,
        )

    def finished(self, report: Report, **changes: Any) -> Report:
        """Return a report with what is known at the end."""
        return replace(
            report,
            seconds=time.perf_counter() - self.start,
            peak_rss_bytes=peak_rss_bytes(),
            warnings=tuple(self.warnings),
            **changes,
        )

    def ab(self, path: Path, feeds: Sequence[Mapping[str, Any]]) -> Difference:
        """Time a result and the model that was given, in turns; longer where that tells little.

        Of a large model that loads slowly, or beside other programs, the usual time holds few
        sessions: then no difference may be seen where there is a large one.
        """
        self.tell("measuring", None)
        for seconds in (_MEASURED, _LONGER):
            found = ab(
                self.teacher,
                path,
                provider=self.config.target.provider,
                seconds=seconds,
                threads=self.config.threads,
                feeds=feeds,
                precision=_PRECISION,
                seed=self.config.seed,
            )
            if found.verdict != "no difference" or found.high <= _WIDE * found.low:
                break
        return found


def usual_memory(source: Path) -> int:
    """Return the bytes that statistics of a model may take where nobody says how many."""
    return max(_GIGABYTE, _TIMES_ITS_SIZE * io.file_bytes(source))
