"""Measures models: `benchmark` for a table of many, `ab` for one question about two."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxopt.benchmarking import environment
from onnxopt.benchmarking.feedfile import save_feed
from onnxopt.benchmarking.processes import Candidate
from onnxopt.benchmarking.setting import Setting, SettingRun, Subject, describe_difference
from onnxopt.benchmarking.stats import estimate
from onnxopt.benchmarking.turns import Turns, take_turns
from onnxopt.errors import ProviderError
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference
from onnxopt.runtime.engine import open_engine
from onnxopt.runtime.feeds import make_batch
from onnxopt.runtime.isa import processor, usable_cores
from onnxopt.runtime.providers import check_usable

Progress = Callable[[str, float | None], None]
Feed = Mapping[str, Any]
PathLike = Path | str

_TIMEOUT = 120.0
_SECONDS_PER_PROCESS = 1.6
_ENOUGH_PROCESSES = 6


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
    processes: int | None = None,
    precision: float = 0.01,
    seed: int = 0,
) -> Difference:
    """Tell whether `candidate` is faster than `reference`, in about `seconds`.

    Both run on the first of `feeds` or, without, on one that is made for the reference (of sizes
    that people use, those of `fix`, or from `data`). Stops early when half the interval is below
    `precision`. Raises `MeasureError` when one of them cannot be measured, and
    `ProviderError` when the provider does not work.
    """
    check_usable(provider)
    many = processes or max(5, min(12, int(seconds / _SECONDS_PER_PROCESS)))
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        file = Path(folder) / "feed.npz"
        save_feed(file, feeds[0] if feeds else feed_for(reference, fix=fix, data=data))
        sides = [
            Candidate(
                key=key,
                path=str(path),
                feed=str(file),
                provider=provider,
                threads=threads or usable_cores(),
            )
            for key, path in (("reference", reference), ("candidate", candidate))
        ]
        turns = take_turns(
            sides,
            seconds=seconds,
            processes=many,
            seed=seed,
            timeout=_TIMEOUT,
            enough=lambda turns: _is_precise(turns, precision),
        )
    for side in sides:
        if side.key in turns.failed:
            raise MeasureError(
                f"{side.path} {turns.failed[side.key]}", "leave it out: --no-measure"
            )
    found = estimate(turns.times["reference"], turns.times["candidate"])
    if found is None:
        raise MeasureError("no session could be measured", "give more time")
    return describe_difference(str(reference), str(candidate), provider, found)


def _is_precise(turns: Turns, precision: float) -> bool:
    reference, candidate = turns.times["reference"], turns.times["candidate"]
    if len(reference) < _ENOUGH_PROCESSES or turns.failed:
        return bool(turns.failed)
    found = estimate(reference, candidate)
    return found is not None and found.half_width < precision


def feed_for(
    path: PathLike, *, fix: Mapping[str, int] | None = None, data: PathLike | None = None
) -> dict[str, Any]:
    """Return what `ab` measures with where no feeds are given: it takes running the model."""
    from onnxopt.graph import io

    return make_batch(io.load(path), runs=open_engine(path).run, fix=fix, data=data)


def benchmark(
    models: Sequence[PathLike],
    *,
    providers: Sequence[str] = ("cpu",),
    batches: Sequence[int | None] = (None,),
    threads: Sequence[int | None] = (None,),
    data: PathLike | None = None,
    seconds: float = 30.0,
    processes: int = 5,
    seed: int = 0,
    timeout: float = _TIMEOUT,
    progress: Progress | None = None,
) -> BenchmarkReport:
    """Measure every model on every provider, batch and number of threads.

    `seconds` is the time for one setting, all its models together. Models whose inputs are the
    same get the same feed and are compared with the first. A model or provider that fails gives
    a row with `error`; the rest goes on, and a process that is silent for `timeout` seconds is
    stopped. Raises `ModelError` for a file that is no model.
    """
    begun = time.perf_counter()
    found = environment.describe()
    warning = environment.busy_warning(processor().cores, environment.load())
    subjects = [_read(index, str(path)) for index, path in enumerate(models)]
    settings = [
        Setting(provider=provider, batch=batch, threads=count or usable_cores())
        for provider in providers
        for batch in batches
        for count in threads
    ]
    results: list[BenchmarkResult] = []
    differences: list[Difference] = []
    for number, setting in enumerate(settings):
        run = SettingRun(setting, subjects, data, seed, timeout)
        run.tell = _report_to(progress, setting, number / len(settings), 1 / len(settings))
        run.measure(seconds, processes)
        results += [run.row(subject, warning) for subject in subjects]
        differences += run.differences()
    return BenchmarkReport(
        environment=found,
        results=tuple(results),
        differences=tuple(differences),
        seconds=time.perf_counter() - begun,
    )


def _read(index: int, path: str) -> Subject:
    from onnxopt.graph import io

    model = io.load(path)
    with Path(path).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return Subject(index=index, path=path, sha256=digest, model=model)


def _report_to(
    progress: Progress | None, setting: Setting, start: float, share: float
) -> Callable[[str, float], None]:
    def tell(what: str, fraction: float) -> None:
        if progress is not None:
            progress(f"{what} on {setting.provider}", start + share * fraction)

    return tell
