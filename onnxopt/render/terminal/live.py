"""What is known while a benchmark runs: one line for each row, drawn over the progress bar."""

from __future__ import annotations

import math
from pathlib import PurePath

from rich.console import RenderableType

from onnxopt.render import rows
from onnxopt.render.terminal.blocks import BAD, FAINT, row, table
from onnxopt.render.words import milliseconds
from onnxopt.report import BenchmarkReport, BenchmarkResult

_SHOWN = 12


def table_of(report: BenchmarkReport) -> RenderableType:
    """Show the latency of each row so far, with its interval."""
    numbers = ("median ms", "interval", "sessions")
    made = table("model", "setting", *numbers, right=numbers)
    for each in report.results[:_SHOWN]:
        row(made, _cells(each), BAD if each.error else "")
    for column in made.columns:  # a row of several lines would take the room of others
        column.no_wrap, column.overflow = True, "ellipsis"
    more = len(report.results) - _SHOWN
    if more > 0:
        row(made, (f"and {more} more", "", "", "", ""), FAINT)
    return made


def _cells(each: BenchmarkResult) -> tuple[str, ...]:
    low, high = each.intervals.get("median_ms", (math.nan, math.nan))
    return (
        PurePath(each.model).name + (" (again)" if each.control else ""),
        rows.setting(each),
        "failed" if each.error else milliseconds(each.median_ms),
        f"{milliseconds(low)}–{milliseconds(high)}" if high < math.inf else "",
        f"{each.sessions}",
    )
