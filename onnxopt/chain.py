"""Goes on where exact optimization ends: prunes a model and makes it int8, in one go.

Each step does what its verb does by itself, to what the step before it made; but what it makes is
judged by, timed against, and shown beside the model that was given. A step that misses a gate ends
the chain, and nothing is written.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxopt import given
from onnxopt.chain_config import ChainConfig
from onnxopt.config import OptimizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.metric import Scores
from onnxopt.pipeline import Progress
from onnxopt.prune_task import Pruning, check_float
from onnxopt.quantization import Quantizing, untouched
from onnxopt.quantizing.detect import is_quantized
from onnxopt.report import Caution, Profile, PruneReport, QuantizeReport
from onnxopt.runtime.feeding.data import load_data
from onnxopt.runtime.feeding.feeds import checked
from onnxopt.runtime.feeding.inputs import model_inputs

Calibration = str | Path | Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What the steps came to; None where one was not asked for, or not reached."""

    pruned: PruneReport | None = None
    quantized: QuantizeReport | None = None

    @property
    def last(self) -> PruneReport | QuantizeReport | None:
        """The report of the step that was reached last."""
        return self.quantized or self.pruned


class Chain:
    """The steps that one model goes through after exact optimization."""

    def __init__(
        self,
        source: Path,
        model: ir.Model,
        calibration: Calibration,
        config: OptimizeConfig,
        asked: ChainConfig,
        progress: Progress | None,
    ) -> None:
        """Take the model that was given, as a file and as it was loaded, with its sizes fixed.

        Raises `OnnxOptError` for what would be refused later, after much work.
        """
        self.source = source
        self.config = config
        self.progress = progress
        self.pruning, self.quantizing = asked.pruning(config), asked.quantizing(config)
        if self.pruning is not None:
            check_float(model)
        self.quantized_already = is_quantized(model)
        path, feeds = given.samples_of(calibration)
        self.calibration: Calibration = feeds if path is None else path
        if path is not None:
            next(iter(load_data(path, model_inputs(model))))
        elif feeds is not None:
            checked(feeds, model)
        self.scores: Scores | None = None
        if asked.metric is not None:
            if progress is not None:
                progress("scoring the model that was given", None)
            self.scores = Scores.of_float(asked.metric, source)

    @property
    def exact(self) -> OptimizeConfig:
        """How the model is to be optimized for what follows, where anything will.

        Speed is measured once there is something that can be kept or not.
        """
        if self.quantized_already:
            return self.config
        return replace(self.config, target=self.config.target.plain(), measure=False)

    def run(
        self, model: ir.Model, dropped: Sequence[str], before: Profile, output: str | Path | None
    ) -> Made:
        """Take the optimized model through the steps, and write what comes out.

        `dropped` names rules that turned out to be wrong, `before` describes the model as given.
        """
        skip = (*self.config.skip, *dropped)
        if self.quantizing is not None and self.quantized_already:
            after = given.saved(model, output)
            report = untouched(self.quantized_already, model, before, after, self.quantizing)
            return Made(quantized=replace(report, written=output is not None))
        self.rest = replace(self.config, fix={}, skip=skip, trace=False)
        with given.room_beside(output) as self.folder:
            path = self.save(model, "optimized")
            pruned = None
            if self.pruning is not None:
                pruned = self.prune(path, before, None if self.quantizing else output)
                if not pruned or self.quantizing is None:
                    return Made(pruned=pruned)
                assert pruned.model is not None
                path = self.save(pruned.model, "pruned")
                after = replace(pruned.output, file_bytes=io.file_bytes(path))
                pruned = replace(pruned, output=after)
            return Made(pruned=pruned, quantized=self.quantize(path, before, pruned, output))

    def save(self, model: ir.Model, name: str) -> Path:
        """Write a model to the folder; return its path."""
        path = self.folder / f"{name}.onnx"
        io.save(model, path)
        return path

    def prune(self, path: Path, before: Profile, output: str | Path | None) -> PruneReport:
        """Prune the optimized model."""
        assert self.pruning is not None
        task = Pruning(
            path, self.calibration, self.pruning, self.room("prune"), self.progress,
            teacher=self.source, scores=self.scores, exact=self.rest,
        )  # fmt: skip
        try:
            return task.run(before, output)
        except OnnxOptError as error:
            if "--" in error.hint:
                error.hint += " (an option of onnxopt prune)"
            raise

    def quantize(
        self,
        path: Path,
        before: Profile,
        pruned: PruneReport | None,
        output: str | Path | None,
    ) -> QuantizeReport:
        """Make the optimized or pruned model int8."""
        assert self.quantizing is not None
        task = Quantizing(
            path, self.calibration, self.quantizing, self.room("quantize"), self.progress,
            teacher=self.source, scores=self.scores, exact=self.rest,
        )  # fmt: skip
        found = task.run(before, output)
        return found if pruned is None else replace(found, warnings=told_of(found, pruned))

    def room(self, name: str) -> Path:
        """Return a folder for the files of one step."""
        folder = self.folder / name
        folder.mkdir()
        return folder


def told_of(report: QuantizeReport, pruned: PruneReport) -> tuple[Caution, ...]:
    """Return the warnings, of which one has to know that the float model was pruned."""
    alone = pruned.difference
    return tuple(
        each
        if each.kind != "little gained" or alone is None
        else replace(
            each,
            message=f"not by int8: pruning alone makes the model {alone.times()}",
            advice="leave --quantize out",
        )
        for each in report.warnings
    )
