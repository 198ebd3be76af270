"""Optimizes a model from end to end: exactly, proven and measured, then what else was asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxopt import inspection
from onnxopt.chain_config import ChainConfig
from onnxopt.config import OptimizeConfig
from onnxopt.given import ModelLike, folder_of, on_disk, profile_of, samples_of, saved
from onnxopt.graph import io
from onnxopt.pipeline import Progress
from onnxopt.prove import Proof, Prover
from onnxopt.report import OptimizeReport, Profile
from onnxopt.runtime.machine.memory import peak_rss_bytes

if TYPE_CHECKING:
    from onnxopt.chain import Calibration, Made


def optimize(
    model: ModelLike,
    output: str | Path | None,
    config: OptimizeConfig,
    *,
    data: str | Path | Sequence[Mapping[str, Any]] | None,
    asked: ChainConfig,
    calibration: Calibration,
    progress: Progress | None,
) -> OptimizeReport:
    """Optimize a model as `config` asks, go on as `asked`, and write what holds every gate."""
    start = time.perf_counter()
    with on_disk(model) as source:
        path, feeds = samples_of(data)
        prover = Prover(
            source,
            config,
            data=path,
            feeds=feeds,
            progress=progress,
            beside=folder_of(output),
        )
        original = prover.original().model
        if output is not None:
            io.check_output(output, io.source_of(original))
        before = profile_of(original, source, model)
        chain = None
        if asked:
            from onnxopt.chain import Chain

            chain = Chain(source, original, calibration, config, asked, progress)
            prover.config = chain.exact
        proof = prover.prove()
        report = _report(proof, config, before)
        if chain is None:
            report = _written(report, output)
        elif report:
            exact = proof.candidate.model
            report = _followed(report, chain.run(exact, tuple(proof.dropped), before, output))
        return replace(report, seconds=time.perf_counter() - start, peak_rss_bytes=peak_rss_bytes())


def _report(proof: Proof, config: OptimizeConfig, before: Profile) -> OptimizeReport:
    refused = proof.candidate.transformation.outcome.refused
    return OptimizeReport(
        input=before,
        output=proof.candidate.profile,
        target=config.target.name,
        steps=proof.steps(),
        verification=proof.verification,
        difference=proof.difference,
        measurements=proof.measurements,
        dropped=proof.dropped,
        refusals=tuple(reason for reasons in refused.values() for reason in reasons),
        warnings=(*proof.warnings, *inspection.remarks(proof.candidate.model)),
        seconds=0.0,
        peak_rss_bytes=0,
        written=False,
        model=proof.candidate.model,
    )


def _written(report: OptimizeReport, output: str | Path | None) -> OptimizeReport:
    """Write what was optimized, unless it is wrong."""
    right = report.verification is None or report.verification.passed
    if output is None or not right or report.model is None:
        return report
    return replace(report, output=saved(report.model, output), written=True)


def _followed(report: OptimizeReport, made: Made) -> OptimizeReport:
    """Tell of the steps that followed, and of what they came to if they held."""
    last = made.last
    report = replace(report, pruned=made.pruned, quantized=made.quantized)
    if last is None or not last:
        return report
    return replace(
        report,
        output=last.output,
        difference=last.difference or report.difference,
        written=last.written,
        model=last.model,
    )
