"""What a run found: plain data that every renderer, the JSON files and the Python API share.

Units are in the names: `seconds`, `_ms`, `_ns`, `_bytes`, `_db`. `to_dict()` returns what
`docs/reports.md` documents; a float without a finite value becomes null, because JSON has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import onnx_ir as ir

StepStatus = Literal["kept", "rolled back", "refused", "unchanged"]
Verdict = Literal["faster", "slower", "no difference"]
Decision = Literal["kept", "left out", "left out in part"]

ORIGINAL, RESULT = "original", "result"
"""What comparisons of speed call the model that was given and the one that was made of it."""


def plain(thing: Any) -> Any:
    """Turn report data into what `json.dumps` takes: dicts, lists, strings, finite numbers."""
    if is_dataclass(thing) and not isinstance(thing, type):
        return {f.name: plain(getattr(thing, f.name)) for f in fields(thing) if _is_public(f)}
    if isinstance(thing, dict):
        return {str(key): plain(value) for key, value in thing.items()}
    if isinstance(thing, (list, tuple)):
        return [plain(item) for item in thing]
    if isinstance(thing, float) and not math.isfinite(thing):
        return None
    return thing


def _is_public(f: Any) -> bool:
    return not f.name.startswith("_") and f.metadata.get("json", True)


@dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """A graph input or output: a dimension is a size, a name, or None where nothing is known."""

    name: str
    type: str
    shape: tuple[int | str | None, ...] | None


@dataclass(frozen=True, kw_only=True)
class Profile:
    """What is in a model and what it costs.

    `nodes` counts every node, those of nested graphs and functions and Constant nodes included.
    `macs` are multiply-accumulates of one run with every unknown dimension taken as 1; None where
    nothing could be told.
    """

    path: str | None
    sha256: str | None
    file_bytes: int
    nodes: int
    ops: dict[str, int]
    parameters: int
    parameter_bytes: int
    macs: int | None
    opset: dict[str, int]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    dynamic_dims: tuple[str, ...]
    macs_per_op: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One transaction of the pipeline: what was done (name to count) and what became of it."""

    name: str
    done: dict[str, int]
    nodes_before: int
    nodes_after: int
    seconds: float
    status: StepStatus = "kept"
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class OutputComparison:
    """How far one output is from its reference, over all feeds.

    `max_rel` is the largest |a-b|/|a| over elements that are not negligible (|a| above a
    thousandth of the largest). `sqnr_db` is 10·log10(Σa²/Σ(a-b)²), infinite when equal.
    `tolerance` is the absolute difference that was allowed at the largest element.
    """

    name: str
    max_abs: float
    max_rel: float
    sqnr_db: float
    cosine: float
    worst_index: tuple[int, ...]
    tolerance: float
    passed: bool
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Whether two models compute the same.

    `noise_floor` is the largest absolute difference that the reference shows against itself, with
    onnxruntime's own graph optimizations on and off. `verified` is False when neither runtime
    could run the model: then nothing was proven, and `reason` says why.
    """

    passed: bool
    verified: bool
    noise_floor: float
    outputs: tuple[OutputComparison, ...]
    feeds: int
    engine: str = "onnxruntime"
    reason: str = ""

    @classmethod
    def unverified(cls, reason: str) -> Comparison:
        """Say, in words that cannot be missed, that nothing was run and why."""
        return cls(
            passed=True,
            verified=False,
            noise_floor=0.0,
            outputs=(),
            feeds=0,
            engine="none",
            reason=f"NOT VERIFIED: {reason}",
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        found: dict[str, Any] = plain(self)
        return found


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Speed of `candidate` against `baseline`.

    `ratio` is baseline time over candidate time (above 1: the candidate is faster), with the
    interval `low`..`high` at level `confidence`.
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
class Measurement:
    """One question that was put to the clock, and what became of that which it was about.

    `what` is `RESULT` where the whole was held against the original; else a group of rules, a
    rule or a pass, and the result was held against the result without it. `predicted` is the
    ratio that the cost model (MACs and bytes moved) had promised; None where it was not asked.
    """

    what: str
    units: tuple[str, ...]
    difference: Difference
    decision: Decision
    predicted: float | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkResult:
    """Every sample of one model on one provider, with the batch and threads it ran with.

    `processes[p]["sessions"][s]["times_ns"]` are the steady runs of one fresh session. `placement`
    maps the provider that really executed nodes to their number.
    """

    model: str
    sha256: str
    provider: str
    placement: dict[str, int]
    batch: int | None
    threads: int
    load_ms: float
    first_run_ms: float
    processes: tuple[dict[str, Any], ...]
    median_ms: float
    p90_ms: float
    p99_ms: float
    throughput: float
    peak_rss_bytes: int
    feeds: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkReport:
    """All results of one benchmark, and what was concluded from them."""

    environment: dict[str, Any]
    results: tuple[BenchmarkResult, ...]
    differences: tuple[Difference, ...]
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": "onnxopt.benchmark/1", **plain(self)}

    def __bool__(self) -> bool:
        return all(result.error is None for result in self.results)


@dataclass(frozen=True, kw_only=True)
class OptimizeReport:
    """What `optimize` did, proved and measured; true when every gate held."""

    input: Profile
    output: Profile
    target: str
    steps: tuple[Step, ...]
    verification: Comparison | None
    difference: Difference | None
    dropped: dict[str, str]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    seconds: float
    peak_rss_bytes: int
    written: bool
    measurements: tuple[Measurement, ...] = ()
    model: ir.Model | None = field(default=None, repr=False, metadata={"json": False})

    def __bool__(self) -> bool:
        slower = self.difference is not None and self.difference.verdict == "slower"
        wrong = self.verification is not None and not self.verification.passed
        return not (slower or wrong)

    def done(self) -> dict[str, int]:
        """Sum what the kept steps did: rule or pass to count."""
        total: dict[str, int] = {}
        for step in self.steps:
            if step.status == "kept":
                for name, count in step.done.items():
                    total[name] = total.get(name, 0) + count
        return total

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": "onnxopt.optimize/1", **plain(self)}


@dataclass(frozen=True, kw_only=True)
class CompareReport:
    """What `compare` found about two models."""

    reference: Profile
    candidate: Profile
    verification: Comparison
    seconds: float

    def __bool__(self) -> bool:
        return self.verification.passed and self.verification.verified

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": "onnxopt.compare/1", **plain(self)}


@dataclass(frozen=True, kw_only=True)
class NodeInfo:
    """One node as `inspect` shows it."""

    name: str
    op: str
    domain: str
    graph: str
    outputs: tuple[TensorSpec, ...]
    macs: int | None
    parameters: int
    rule: str | None = None
    provider: str | None = None


@dataclass(frozen=True, kw_only=True)
class InspectReport:
    """What is in a model, what each node costs, and which provider would take it.

    `placement` maps a requested provider to {provider that took the node: count}, or to an error
    in words where no session could be made.
    """

    profile: Profile
    nodes: tuple[NodeInfo, ...]
    placement: dict[str, dict[str, int] | str]
    warnings: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form, documented in docs/reports.md."""
        return {"schema": "onnxopt.inspect/1", **plain(self)}
