"""Turns what was measured into the rows of a report, and says what speaks against them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from onnxopt.benchmarking.alone import Alone
from onnxopt.benchmarking.child.feeding import Fed
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.statistics.samples import Samples
from onnxopt.benchmarking.statistics.stats import interval as interval_of
from onnxopt.benchmarking.statistics.tails import percentiles
from onnxopt.benchmarking.surroundings import cautions
from onnxopt.report import BenchmarkResult, Best, Caution, Interval, Metric, Setting
from onnxopt.runtime.execution.providers import find_provider, short_name

_NOTHING = float("nan")
_LEVELS = {"p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One model of a benchmark; `index` tells apart the same file given twice.

    `files` are those that hold its weights beside it. A `control` is the first model once more, to
    be compared with itself.
    """

    index: int
    path: str
    sha256: str
    files: tuple[Path, ...] = ()
    control: bool = False


@dataclass(kw_only=True)
class Row:
    """All that is known of one model in one setting while it is being measured.

    `samples` is None until it has been measured, or where `error` says why it cannot be.
    `half_width` is half of the widest interval of its block, as a share of the ratio.
    """

    subject: Subject
    setting: Setting
    fed: Fed = field(default_factory=Fed)
    options: Mapping[str, str] = field(default_factory=dict)
    alone: Alone | None = None
    samples: Samples | None = None
    overloaded: int = 0
    half_width: float = _NOTHING
    notes: list[Caution] = field(default_factory=list)
    error: str = ""

    @property
    def key(self) -> str:
        """What names it in a worker's events."""
        return f"{self.subject.index} {self.setting}"

    @property
    def failure(self) -> str:
        """Why it could not be measured; empty where it was."""
        return self.error or self.fed.error or (self.alone.error if self.alone else "")

    def result(self, plan: Plan, *, final: bool) -> BenchmarkResult:
        """Return the row; what speaks against it is said of the `final` one only."""
        alone = self.alone or Alone()
        samples = self.samples if self.samples is not None and self.samples.runs else None
        found = _numbers(samples, self.setting) if samples else _Numbers()
        asked = find_provider(self.setting.provider).ort_name if alone.placement else ""
        return BenchmarkResult(
            model=self.subject.path,
            sha256=self.subject.sha256,
            control=self.subject.control,
            provider=self.setting.provider,
            placement=dict(alone.placement),
            executed=_executed(asked, self.setting.provider, alone.placement),
            fallback=alone.fallback,
            batch=self.setting.batch,
            threads=self.setting.threads,
            callers=self.setting.callers,
            rate=self.setting.rate,
            io=self.setting.io,
            load_ms=alone.load_ms,
            build_ms=alone.build_ms,
            first_run_ms=alone.first_run_ms,
            processes=() if samples is None else samples,
            median_ms=found.median_ms,
            p90_ms=found.tails.get("p90_ms", _NOTHING),
            p99_ms=found.tails.get("p99_ms", _NOTHING),
            p999_ms=found.tails.get("p999_ms", _NOTHING),
            throughput=found.throughput,
            intervals=found.intervals,
            sessions=samples.sessions if samples else 0,
            runs=samples.runs if samples else 0,
            peak_rss_bytes=alone.peak_rss_bytes,
            device_bytes=alone.device_bytes,
            joules_per_run=alone.joules_per_run,
            options=dict(self.options),
            feeds=dict(self.fed.described),
            warnings=tuple(self._cautions(plan, alone, found)) if final else (),
            error=self.failure or None,
        )

    def _cautions(self, plan: Plan, alone: Alone, found: _Numbers) -> Iterator[Caution]:
        yield from self.notes
        if self.failure or self.samples is None:
            return
        if alone.fallback:
            yield _fell_back(self.setting, alone)
        if self.overloaded:
            yield Caution(
                kind="overloaded",
                message=f"requests came faster than they were served in {self.overloaded} of "
                f"{self.samples.sessions} sessions: their latency grows as long as one waits",
                advice="lower --rate, or raise --callers or --threads",
            )
        levels = self.samples.levels
        for caution in (
            cautions.unsteady(levels, precision=plan.precision, max_time=plan.max_time),
            cautions.too_short(
                self.half_width,
                run_ns=found.median_ms * 1e6,
                precision=plan.precision,
                max_time=plan.max_time,
            ),
            cautions.slow_first_run(
                alone.first_run_ms,
                found.median_ms,
                provider=self.setting.provider,
                options=tuple(plan.provider_options.get(self.setting.provider, ())),
            ),
        ):
            if caution is not None:
                yield caution


@dataclass(kw_only=True)
class _Numbers:
    median_ms: float = _NOTHING
    throughput: float = _NOTHING
    tails: dict[str, float] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)


def _numbers(samples: Samples, setting: Setting) -> _Numbers:
    """Conclude latency and throughput from samples."""
    found = _Numbers()
    levels = [level for process in samples.levels for level in process]
    low, high = interval_of(samples.levels)
    level, size = median(levels), (setting.batch or 1) * 1e9
    tails = percentiles(samples.histograms, (0.5, *_LEVELS.values()))
    for name, share in _LEVELS.items():
        value, under, over = tails[share]
        found.tails[name] = value / 1e6
        found.intervals[name] = (under / 1e6, over / 1e6)
    if setting.callers == 1 and setting.rate is None:
        found.median_ms = level / 1e6
        found.intervals["median_ms"] = _around(level / 1e6, low / 1e6, high / 1e6)
    else:
        value, under, over = tails[0.5]
        found.median_ms, found.intervals["median_ms"] = value / 1e6, (under / 1e6, over / 1e6)
    if setting.rate is not None:
        found.throughput = size * samples.runs / max(1, sum(map(sum, samples.walls)))
    else:
        found.throughput = size / level
        found.intervals["throughput"] = _around(
            size / level, size / high, size / low if low else math.inf
        )
    found.intervals = {
        name: bounds for name, bounds in found.intervals.items() if all(map(math.isfinite, bounds))
    }
    return found


def _around(value: float, low: float, high: float) -> Interval:
    """Return an interval that holds its value, which a median of skewed sessions may leave."""
    return min(value, low), max(value, high)


def _executed(asked: str, provider: str, placement: Mapping[str, int]) -> str:
    """Name the provider that a row stands for: the one asked for only if it took a node."""
    if not placement:
        return ""
    return provider if placement.get(asked) else short_name(next(iter(placement)))


def _fell_back(setting: Setting, alone: Alone) -> Caution:
    return Caution(
        kind="fell back",
        message=alone.fallback,
        advice=f"--strict makes this an error; see onnxopt inspect --provider {setting.provider}",
    )


def not_compared(first: str) -> Caution:
    """Say that a model has other inputs than the first, and is only measured."""
    return Caution(
        kind="not compared",
        message=f"its inputs are not those of {Path(first).name}: it got its own, and is not "
        "compared",
        advice="give feeds that fit both with --data",
    )


def best_of(results: Sequence[BenchmarkResult]) -> tuple[Best, ...]:
    """Return for each model with several settings the one of least latency and most throughput."""
    found: list[Best] = []
    for model in dict.fromkeys(result.model for result in results):
        mine = [
            result
            for result in results
            if result.model == model
            and result.error is None
            and not result.control
            and math.isfinite(result.median_ms)
        ]
        if len({result.setting for result in mine}) > 1:
            # At a rate, throughput is what was asked for.
            free = [result for result in mine if result.rate is None]
            found.append(_best(model, "latency", mine))
            found += [_best(model, "throughput", free)] if len(free) > 1 else []
    return tuple(found)


def _best(model: str, metric: Metric, results: Sequence[BenchmarkResult]) -> Best:
    name = "median_ms" if metric == "latency" else "throughput"
    sign = 1 if metric == "latency" else -1
    winner = min(results, key=lambda result: sign * float(getattr(result, name)))
    value = float(getattr(winner, name))
    worst = winner.intervals.get(name, (value, value))[1 if sign > 0 else 0]
    tied = [
        result.setting
        for result in results
        if result is not winner
        and sign * result.intervals.get(name, (getattr(result, name),) * 2)[0 if sign > 0 else 1]
        <= sign * worst
    ]
    return Best(model=model, metric=metric, value=value, setting=winner.setting, tied=tuple(tied))
