"""What a benchmark found: every sample, what was concluded from them, and what to doubt.

A measurement is one model in one `Setting`. Times are in ns where they are samples, in ms where
they are conclusions; a pair `(low, high)` is an interval at the report's level of confidence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from onnxopt.report.plain import plain

if TYPE_CHECKING:
    import pandas as pd

Verdict = Literal["faster", "slower", "no difference"]
Copies = Literal["copied", "bound"]
"""Whether inputs and outputs travel from and to numpy arrays in each run, or stay where the
provider computes (IO binding)."""
Metric = Literal["latency", "throughput"]
Interval = tuple[float, float]
Processes = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What one row of a benchmark is measured with.

    `callers` run the model at the same time on one session. With `rate`, requests arrive at random
    (Poisson) so many times a second and latency is counted from the arrival; without, each caller
    sends the next request as soon as the last is answered.
    """

    provider: str = "cpu"
    batch: int | None = None
    threads: int = 1
    callers: int = 1
    rate: float | None = None
    io: Copies = "copied"

    @property
    def metric(self) -> Metric:
        """What models are compared by: throughput where callers compete, else latency."""
        return "throughput" if self.callers > 1 and self.rate is None else "latency"


@dataclass(frozen=True, kw_only=True)
class Caution:
    """What speaks against trusting a number, and what to do: it knows the options in use.

    `kind` is for machines. Of benchmarks: unsteady, too short, throttled, busy, stolen, slow first
    run, fell back, overloaded, not compared, control, memory. Of quantizing: random data, few
    samples, constant, zero channel, bias overflow, not measured, not audited.
    """

    kind: str
    message: str
    advice: str = ""

    def __str__(self) -> str:
        return f"{self.message}; {self.advice}" if self.advice else self.message


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Speed of `candidate` against `baseline` in one setting.

    `ratio` is baseline time over candidate time (above 1: the candidate is faster), with the
    interval `low`..`high` at level `confidence`, which holds for all `comparisons` of the report
    together. A `control` compares a model with itself: its verdict should be 'no difference'.
    """

    baseline: str
    candidate: str
    provider: str
    ratio: float
    low: float
    high: float
    verdict: Verdict
    confidence: float = 0.95
    sessions: int = 0
    processes: int = 0
    comparisons: int = 1
    control: bool = False
    setting: Setting | None = None

    def times(self) -> str:
        """Say how many times faster or slower, with the interval: `1.20× slower (1.15–1.26)`."""
        ratio, low, high = self._as_told()
        equal = self.verdict == "no difference"
        size = self.verdict if equal else f"{ratio:.2f}× {self.verdict}"
        return f"{size} ({low:.2f}–{high:.2f})"

    def sentence(self) -> str:
        """Say it in one sentence, interval included."""
        ratio, low, high = self._as_told()
        equal = self.verdict == "no difference"
        size = f"no difference ({ratio:.2f}×)" if equal else f"{ratio:.2f}× {self.verdict}"
        return (
            f"{size}, {self.confidence * 100:g} % interval {low:.2f}–{high:.2f}, "
            f"{self.sessions} sessions in {self.processes} processes"
        )

    def _as_told(self) -> tuple[float, float, float]:
        """Return ratio and interval, above 1 where the candidate is slower, too."""
        if self.verdict == "slower":
            return 1 / self.ratio, 1 / self.high, 1 / self.low
        return self.ratio, self.low, self.high


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Every sample of one model in one setting, and what they say.

    `processes[p]["sessions"][s]` is one fresh session: `times_ns` are its steady runs, and where
    callers competed or requests arrived at a rate, `wall_ns` is how long they took together.
    `placement` maps the provider that really executed nodes to their number; `executed` is the
    short name of the provider asked for only if that took nodes. `intervals` maps the name of a
    number here (`median_ms`) to its interval. Load, first run and memory come from processes that
    hold this model alone; `build_ms` is what the first load took longer than later ones, where
    the provider keeps what it builds. What cannot be measured here is None. A `control` is the
    first model once more, measured to be compared with itself.
    """

    model: str
    sha256: str
    provider: str
    placement: dict[str, int]
    batch: int | None
    threads: int
    load_ms: float
    first_run_ms: float
    processes: Processes
    median_ms: float
    p90_ms: float
    p99_ms: float
    throughput: float
    peak_rss_bytes: int
    p999_ms: float = math.nan
    callers: int = 1
    rate: float | None = None
    io: Copies = "copied"
    executed: str = ""
    fallback: str = ""
    build_ms: float | None = None
    device_bytes: int | None = None
    joules_per_run: float | None = None
    sessions: int = 0
    runs: int = 0
    control: bool = False
    intervals: dict[str, Interval] = field(default_factory=dict)
    options: dict[str, str] = field(default_factory=dict)
    feeds: dict[str, str] = field(default_factory=dict)
    warnings: tuple[Caution, ...] = ()
    error: str | None = None

    @property
    def setting(self) -> Setting:
        """What the model was measured with."""
        return Setting(
            provider=self.provider,
            batch=self.batch,
            threads=self.threads,
            callers=self.callers,
            rate=self.rate,
            io=self.io,
        )


@dataclass(frozen=True, kw_only=True)
class Best:
    """The best of the settings that a model was measured in, by latency or by throughput.

    `value` is in ms or in samples per second; `tied` are the settings whose interval reaches it.
    """

    model: str
    metric: Metric
    value: float
    setting: Setting
    tied: tuple[Setting, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ceiling:
    """What this machine can do at most, measured in the same run on the same provider.

    By a large float32 matrix product (GFLOP/s: two for each multiply-accumulate) and a large
    copy (GB/s: read and written); `cached_gbs` is that of a copy which fits the caches. NaN where
    it could not be measured.
    """

    provider: str
    threads: int
    gflops: float
    gbs: float
    cached_gbs: float = math.nan


@dataclass(frozen=True, kw_only=True)
class Hotspot:
    """Time of one node, or of all nodes of one operator, in one run.

    `share` is of the time of all nodes. `of_ceiling` is the time that the work needs at the
    ceiling over the time that it took; `bound` says which ceiling is the nearer one. None where
    the work is not known.
    """

    name: str
    op: str
    provider: str
    count: int
    ms: float
    share: float
    macs: int | None = None
    bytes: int | None = None
    gflops: float | None = None
    gbs: float | None = None
    of_ceiling: float | None = None
    bound: Literal["compute", "memory"] | None = None
    shapes: str = ""


@dataclass(frozen=True, kw_only=True)
class Hotspots:
    """Where the time of one model goes in one setting.

    `kernels_ms` is what all nodes take together in one run, `total_ms` the run itself as the same
    session measured it: profiling slows it down.
    """

    model: str
    setting: Setting
    runs: int
    total_ms: float
    kernels_ms: float
    nodes: tuple[Hotspot, ...]
    operators: tuple[Hotspot, ...]
    ceiling: Ceiling | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """All results of one benchmark, and what was concluded from them.

    `against` are the differences from an earlier report, whose file `baseline` names. `complete`
    is false while it is being measured, or where that was interrupted: it can be resumed.
    """

    SCHEMA: ClassVar[str] = "onnxopt.benchmark/1"

    environment: dict[str, Any]
    results: tuple[BenchmarkResult, ...]
    differences: tuple[Difference, ...]
    seconds: float = 0.0
    best: tuple[Best, ...] = ()
    hotspots: tuple[Hotspots, ...] = ()
    against: tuple[Difference, ...] = ()
    baseline: str | None = None
    warnings: tuple[Caution, ...] = ()
    plan: dict[str, Any] = field(default_factory=dict)
    complete: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md, with every sample in memory."""
        return {"schema": self.SCHEMA, **plain(self)}

    def to_frame(self) -> pd.DataFrame:
        """Return one row a result, without samples; needs pandas, else raises `OnnxOptError`."""
        try:
            import pandas as pd
        except ModuleNotFoundError:
            from onnxopt.errors import OnnxOptError

            raise OnnxOptError("pandas is not installed", "run: pip install pandas") from None
        return pd.DataFrame([_row(result) for result in self.results])

    def __bool__(self) -> bool:
        return all(result.error is None for result in self.results)


def _row(result: BenchmarkResult) -> dict[str, Any]:
    """Flatten a result: intervals become `median_ms_low` and `median_ms_high`."""
    found = plain(
        {
            name: value
            for name, value in vars(result).items()
            if name not in {"processes", "intervals", "feeds", "options", "warnings", "placement"}
        }
    )
    for name, (low, high) in result.intervals.items():
        found[f"{name}_low"], found[f"{name}_high"] = low, high
    return {
        **found,
        "placement": ", ".join(f"{name} {count}" for name, count in result.placement.items()),
        "warnings": "; ".join(map(str, result.warnings)),
    }
