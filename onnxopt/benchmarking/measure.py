"""Measures models: `benchmark` for a table of many, `ab` for one question about two."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from onnxopt.benchmarking.against import check_alike, check_baseline, compare_with
from onnxopt.benchmarking.child.feedfile import save_feed
from onnxopt.benchmarking.contest import Block, Contest
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.processes import Candidate
from onnxopt.benchmarking.resume import earlier_samples, read
from onnxopt.benchmarking.rows import Subject
from onnxopt.benchmarking.statistics.samples import Samples
from onnxopt.benchmarking.statistics.stats import estimate
from onnxopt.benchmarking.table import Progress, Table, Watch
from onnxopt.errors import OnnxOptError, OutputError, ProviderError
from onnxopt.report import BenchmarkReport, Difference, Setting
from onnxopt.runtime.execution.providers import check_usable
from onnxopt.runtime.feeding.data import check_kind
from onnxopt.runtime.feeding.feeds import make_batch
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.runtime.sessions.engine import open_engine

Feed = Mapping[str, Any]
PathLike = Path | str
Report = Path | str | Mapping[str, Any]

_TIMEOUT = 120.0
_SIDES = ("reference", "candidate")


class MeasureError(ProviderError):
    """A model could not be measured: it crashed its process, hung, or would not run."""


def ab(
    reference: PathLike,
    candidate: PathLike,
    *,
    provider: str = "cpu",
    seconds: float = 20.0,
    threads: int | None = None,
    feeds: Sequence[Feed] | None = None,
    fix: Mapping[str, int] | None = None,
    data: PathLike | None = None,
    precision: float = 0.01,
    seed: int = 0,
) -> Difference:
    """Tell whether `candidate` is faster than `reference`, in at most about `seconds`.

    Both run on the first of `feeds` or, without, on one that is made for the reference (of sizes
    that people use, those of `fix`, or from `data`). Stops early when half the interval is below
    `precision`. Raises `MeasureError` when one of them cannot be measured, and
    `ProviderError` when the provider does not work.
    """
    check_usable(provider)
    setting = Setting(provider=provider, threads=threads or usable_cores())
    paths = dict(zip(_SIDES, (str(reference), str(candidate)), strict=True))
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        file = Path(folder) / "feed.npz"
        save_feed(file, feeds[0] if feeds else feed_for(reference, fix=fix, data=data))
        block = Block(
            candidates=[
                Candidate(key=key, path=path, feed=str(file), setting=setting)
                for key, path in paths.items()
            ],
            samples={key: Samples() for key in paths},
        )
        contest = Contest(
            blocks=[block], precision=precision, max_time=seconds, seed=seed, timeout=_TIMEOUT
        )
        contest.run()
    for key, why in contest.failed.items():
        raise MeasureError(f"{paths[key]} {why}", "leave it out: --no-measure")
    found = estimate(*(block.samples[key].levels for key in _SIDES))
    if found is None:
        raise MeasureError("no session could be measured", "give more time")
    return found.difference(paths["reference"], paths["candidate"], setting)


def feed_for(
    path: PathLike, *, fix: Mapping[str, int] | None = None, data: PathLike | None = None
) -> dict[str, Any]:
    """Return what `ab` measures with where no feeds are given: it takes running the model."""
    from onnxopt.graph import io

    return make_batch(io.load(path), runs=open_engine(path).run, fix=fix, data=data)


def benchmark(
    models: PathLike | Sequence[PathLike],
    plan: Plan,
    *,
    against: Report | None = None,
    anyway: bool = False,
    resume: Report | None = None,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> BenchmarkReport:
    """Measure every model in every setting of `plan`.

    Models whose inputs are the same get the same feed and are compared with the first. A model or
    provider that fails gives a row with `error`; the rest goes on. `watch` gets what is known
    after each process. `resume` is an earlier, interrupted report of the same, whose samples
    count; `against` one to compare with, `anyway` also where that says little. Raises
    `ModelError` for a file that is no model.
    """
    if plan.data is not None:
        check_kind(plan.data)
    _check_room()
    subjects = _subjects(models, plan)
    earlier = None if resume is None else earlier_samples(read(resume), subjects, plan)
    name = "the earlier report" if isinstance(against, Mapping) else Path(str(against)).name
    baseline = None if against is None else read(against)
    if baseline is not None:
        check_baseline(baseline, [each.path for each in subjects], plan, anyway=anyway)

    def loaded(report: BenchmarkReport) -> None:
        if baseline is not None and not anyway:
            check_alike(report, baseline, name=name)

    table = Table(subjects, plan, progress=progress, watch=watch, loaded=loaded, earlier=earlier)
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        table.measure(Path(folder))
    report = table.report()
    if baseline is None:
        return report
    found, cautions = compare_with(report, baseline, name=name, anyway=anyway)
    return replace(report, against=found, baseline=name, warnings=(*report.warnings, *cautions))


def _check_room() -> None:
    try:
        tempfile.gettempdir()
    except OSError as error:
        raise OutputError(
            "there is no folder for temporary files", "set TMPDIR to one that can be written"
        ) from error


def _subjects(models: PathLike | Sequence[PathLike], plan: Plan) -> list[Subject]:
    """Read the models, and add the first once more where it is to be compared with itself."""
    paths = [models] if isinstance(models, (str, Path)) else list(models)
    if not paths:
        raise OnnxOptError("there is no model to measure", "give one or more paths")
    _check_fix(paths, plan.fix)
    subjects = [_read(index, str(path)) for index, path in enumerate(paths)]
    if plan.aa:
        subjects.append(replace(subjects[0], index=len(subjects), control=True))
    return subjects


def _check_fix(paths: Sequence[PathLike], sizes: Mapping[str, int]) -> None:
    """Raise `OnnxOptError` for a dimension that none of the models has."""
    from onnxopt.graph import io
    from onnxopt.passes import dims

    models = [io.load(path) for path in paths] if sizes else []
    for where, size in sizes.items():
        faults = []
        for model in models:
            try:
                dims.fix(model, {where: size})
            except OnnxOptError as error:
                faults.append(error)
        if len(faults) == len(models):
            raise faults[0]


def _read(index: int, path: str) -> Subject:
    from onnxopt.graph import io

    io.load(path)
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    files = tuple(file for file in io.files_of(path) if file != Path(path))
    return Subject(index=index, path=path, sha256=digest, files=files)
