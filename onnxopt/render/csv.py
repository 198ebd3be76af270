"""Reports as CSV: a row for each result of a benchmark, region of int8, or pruned part."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from onnxopt.render.words import printable
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference, PruneReport, QuantizeReport

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

_PAIRS = ("rows", "pairs", "overflowing", "remaining", "rows_mended")
REGION_COLUMNS = (
    "name", "op", "became", "reason", "float_ms", "int8_ms", "sqnr_db", "macs", "nodes", *_PAIRS,
)  # fmt: skip
"""The columns of `quantize`, likewise."""

PART_COLUMNS = (
    "name", "unit", "before", "after", "reason", "lost_db", "macs_before", "macs_after",
    "ms_before", "ms_after", "nodes",
)  # fmt: skip
"""The columns of `prune`, likewise."""


def benchmark(report: BenchmarkReport) -> str:
    """Write a header and one line a result; what is not known is empty."""
    return _lines(COLUMNS, (_row(report, result) for result in report.results))


def quantize(report: QuantizeReport) -> str:
    """Write a header and one line a region; what is not known is empty."""
    rows = (
        {
            **{name: getattr(region, name) for name in REGION_COLUMNS if name not in _PAIRS},
            **{name: getattr(region.pair_sums, name, None) for name in _PAIRS},
            "nodes": " ".join(region.nodes),
        }
        for region in report.regions
    )
    return _lines(REGION_COLUMNS, rows)


def prune(report: PruneReport) -> str:
    """Write a header and one line for each group, weight, block or layer; unknown is empty."""
    rows = (
        {name: getattr(part, name) for name in PART_COLUMNS} | {"nodes": " ".join(part.nodes)}
        for part in report.parts
    )
    return _lines(PART_COLUMNS, rows)


def _lines(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
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
