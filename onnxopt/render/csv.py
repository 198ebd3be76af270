"""A benchmark as CSV: one row a result, without samples."""

from __future__ import annotations

import csv
import io
import math
from typing import Any

from onnxopt.render.words import printable
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference

_NUMBERS = ("median_ms", "p90_ms", "p99_ms", "p999_ms", "throughput")
COLUMNS = (
    "model",
    "sha256",
    "provider",
    "executed",
    "batch",
    "threads",
    "callers",
    "rate",
    "io",
    "control",
    "error",
    *(f"{name}{end}" for name in _NUMBERS for end in ("", "_low", "_high")),
    "load_ms",
    "build_ms",
    "first_run_ms",
    "peak_rss_bytes",
    "device_bytes",
    "joules_per_run",
    "sessions",
    "runs",
    "baseline",
    "ratio",
    "ratio_low",
    "ratio_high",
    "verdict",
    "placement",
    "fallback",
    "warnings",
)
"""The columns, always all of them, in this order; documented in docs/reports.md."""


def benchmark(report: BenchmarkReport) -> str:
    """Write a header and one line a result; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in report.results:
        writer.writerow({name: _cell(value) for name, value in _row(report, result).items()})
    return out.getvalue()


def _row(report: BenchmarkReport, result: BenchmarkResult) -> dict[str, Any]:
    found: dict[str, Any] = {name: value for name, value in vars(result).items() if name in COLUMNS}
    if result.error is not None:
        found |= dict.fromkeys((*_NUMBERS, "load_ms", "first_run_ms", "peak_rss_bytes"))
    for name, (low, high) in result.intervals.items():
        if result.error is None and name in _NUMBERS:
            found[f"{name}_low"], found[f"{name}_high"] = low, high
    difference = _difference(report, result)
    if difference is not None:
        found |= {
            "baseline": difference.baseline,
            "ratio": difference.ratio,
            "ratio_low": difference.low,
            "ratio_high": difference.high,
            "verdict": difference.verdict,
        }
    placement = ", ".join(f"{name} {count}" for name, count in result.placement.items())
    return found | {"placement": placement, "warnings": "; ".join(map(str, result.warnings))}


def _difference(report: BenchmarkReport, result: BenchmarkResult) -> Difference | None:
    """Find the comparison of this row with another one: of the same run, else an earlier one."""
    for each in (*report.differences, *report.against):
        if each.candidate == result.model and each.setting == result.setting and not each.control:
            return each
    return None


def _cell(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return printable(value) if isinstance(value, str) else value
