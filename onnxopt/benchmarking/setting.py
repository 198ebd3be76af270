"""Measures all models in one setting: one provider, one batch size, one number of threads."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from onnxopt.benchmarking import environment
from onnxopt.benchmarking.feedfile import describe_feed, save_feed
from onnxopt.benchmarking.processes import Candidate, measure_alone
from onnxopt.benchmarking.stats import CONFIDENCE, Estimate, estimate, summarize
from onnxopt.benchmarking.turns import Turns, take_turns
from onnxopt.errors import DataError, OnnxOptError, ProviderError
from onnxopt.report import BenchmarkResult, Caution, Difference
from onnxopt.runtime.engine import open_engine
from onnxopt.runtime.feeds import check_feed, make_batch, model_inputs
from onnxopt.runtime.providers import check_usable, find_provider

if TYPE_CHECKING:
    from onnxopt.graph._onnx_ir import ir

Feed = Mapping[str, Any]
PathLike = Path | str

_ALONE = 3


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a row of the table is measured with."""

    provider: str
    batch: int | None
    threads: int


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model of a benchmark; `index` tells apart the same file given twice."""

    index: int
    path: str
    sha256: str
    model: ir.Model = field(repr=False)

    @property
    def key(self) -> str:
        """Return what names the model in a worker's events."""
        return str(self.index)


class SettingRun:
    """The measurement of all models in one setting.

    After `measure`, `row` and `differences` tell what was found.
    """

    def __init__(
        self,
        setting: Setting,
        subjects: Sequence[Subject],
        data: PathLike | None,
        seed: int,
        timeout: float,
    ) -> None:
        self.setting = setting
        self.subjects = subjects
        self.data = data
        self.seed = seed
        self.timeout = timeout
        self.tell: Callable[[str, float], None] = lambda _what, _fraction: None
        self.feeds: dict[str, Feed] = {}
        self.alone: dict[str, list[dict[str, Any]]] = {}
        self.errors: dict[str, str] = {}
        self.notes: dict[str, list[str]] = {subject.key: [] for subject in subjects}
        self.comparable: set[str] = set()
        self.turns = Turns()
        self.stolen = 0.0

    def measure(self, seconds: float, processes: int) -> None:
        """Run everything in about `seconds`, in so many fresh processes."""
        begun = time.perf_counter()
        try:
            check_usable(self.setting.provider)
        except ProviderError as error:
            self.errors = {subject.key: str(error) for subject in self.subjects}
            return
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
            candidates = list(self._candidates(Path(folder)))
            for number, candidate in enumerate(candidates):
                self.tell("loading", number / len(candidates) * 0.1)
                self._measure_alone(candidate)
            ticks = environment.processor_ticks()
            left = max(seconds / 2, seconds - (time.perf_counter() - begun))
            self.turns = take_turns(
                [each for each in candidates if each.key not in self.errors],
                seconds=left,
                processes=processes,
                seed=self.seed,
                timeout=self.timeout,
                progress=lambda fraction: self.tell("measuring", 0.1 + 0.9 * fraction),
            )
            self.stolen = environment.stolen_share(ticks, environment.processor_ticks())
        self.errors.update(self.turns.failed)

    def _candidates(self, folder: Path) -> Iterator[Candidate]:
        for subject in self.subjects:
            try:
                feed = self._feed(subject)
            except OnnxOptError as error:
                self.errors[subject.key] = str(error)
                continue
            self.feeds[subject.key] = feed
            file = folder / f"{subject.key}.npz"
            save_feed(file, feed)
            yield Candidate(
                key=subject.key,
                path=subject.path,
                feed=str(file),
                provider=self.setting.provider,
                threads=self.setting.threads,
            )

    def _feed(self, subject: Subject) -> Feed:
        """Return the first model's feed where it fits this one, else one of its own."""
        first = self.feeds.get(self.subjects[0].key)
        if first is not None:
            with contextlib.suppress(DataError):
                check_feed(first, model_inputs(subject.model), "the first model's feed")
                self.comparable.add(subject.key)
                return first
            name = Path(self.subjects[0].path).name
            self.notes[subject.key].append(
                f"its inputs are not those of {name}: it got its own, and is not compared"
            )
        engine = open_engine(subject.path)
        return make_batch(
            subject.model, self.setting.batch, runs=engine.run, seed=self.seed, data=self.data
        )

    def _measure_alone(self, candidate: Candidate) -> None:
        seen = self.alone.setdefault(candidate.key, [])
        for _ in range(_ALONE):
            for event in measure_alone(candidate, timeout=self.timeout):
                if event["event"] == "failed":
                    self.errors[candidate.key] = event["message"]
                    return
                seen.append(event)

    def row(self, subject: Subject, warning: str) -> BenchmarkResult:
        """Return what was found of one model."""
        times = self.turns.times.get(subject.key, [])
        alone, feed = self.alone.get(subject.key, []), self.feeds.get(subject.key, {})
        summary = summarize(times)
        placed = alone[0]["placement"] if alone else {}
        batch = self.setting.batch
        return BenchmarkResult(
            model=subject.path,
            sha256=subject.sha256,
            provider=self.setting.provider,
            placement=placed,
            batch=batch,
            threads=self.setting.threads,
            load_ms=_median_of(alone, "load_ns") / 1e6,
            first_run_ms=_median_of(alone, "first_ns") / 1e6,
            processes=tuple({"sessions": [{"times_ns": s} for s in process]} for process in times),
            median_ms=summary.median_ms,
            p90_ms=summary.p90_ms,
            p99_ms=summary.p99_ms,
            throughput=(batch or 1) * 1000 / summary.median_ms,
            peak_rss_bytes=int(max((event["peak_rss_bytes"] for event in alone), default=0)),
            feeds=describe_feed(feed),
            warnings=tuple(
                Caution(kind="note", message=text)
                for text in (*self._warnings(subject, placed, times), warning)
                if text
            ),
            error=self.errors.get(subject.key),
        )

    def _warnings(
        self, subject: Subject, placed: Mapping[str, int], times: Sequence[Sequence[Any]]
    ) -> Iterator[str]:
        yield from self.notes[subject.key]
        if subject.key in self.errors:
            return
        if self.setting.provider != "cpu":
            yield _fallback(self.setting.provider, placed)
        if sum(map(len, times)) < 2 * len(times):
            yield "too few sessions to be sure: give more --seconds"
        yield environment.stolen_warning(self.stolen)

    def differences(self) -> list[Difference]:
        """Compare every model that got the first one's feed with the first one."""
        baseline = self.subjects[0]
        found = []
        for subject in self.subjects[1:]:
            if subject.key not in self.comparable or {subject.key, baseline.key} & set(self.errors):
                continue
            one, two = self.turns.times[baseline.key], self.turns.times[subject.key]
            result = estimate(one, two)
            if result is not None:
                provider = self.setting.provider
                found.append(describe_difference(baseline.path, subject.path, provider, result))
        return found


def _fallback(provider: str, placed: Mapping[str, int]) -> str:
    """Say when nodes ran elsewhere than was asked."""
    ort_name = find_provider(provider).ort_name
    total, took = sum(placed.values()), placed.get(ort_name, 0)
    if not placed or took == total:
        return ""
    others = " and ".join(name for name in placed if name != ort_name)
    if took == 0:
        return f"{provider} took no node: all {total} ran on {others}"
    return f"{provider} took {took} of {total} nodes: the others ran on {others}"


def _median_of(events: Sequence[Mapping[str, Any]], name: str) -> float:
    return float(median([event[name] for event in events])) if events else float("nan")


def describe_difference(
    baseline: str, candidate: str, provider: str, found: Estimate
) -> Difference:
    """Turn an estimate into what reports carry."""
    return Difference(
        baseline=baseline,
        candidate=candidate,
        provider=provider,
        ratio=found.ratio,
        low=found.low,
        high=found.high,
        verdict=found.verdict,
        confidence=CONFIDENCE,
        sessions=found.sessions,
        processes=found.processes,
    )
