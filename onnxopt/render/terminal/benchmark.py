"""Latencies and their differences, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath

from rich.console import Group, RenderableType

from onnxopt.render import rows
from onnxopt.render.terminal.blocks import BAD, FAINT, GOOD, line, notes, row, section, table
from onnxopt.render.words import milliseconds
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference
from onnxopt.text import human_bytes, human_seconds

_VERDICT_STYLES = {"faster": GOOD, "slower": BAD}


def report(result: BenchmarkReport, *, verbose: bool = False) -> RenderableType:
    """Show one table per setting, where the nodes really ran, then the differences."""
    parts: list[RenderableType] = [_environment(result, verbose=verbose), line("")]
    for title, group in _by_setting(result.results).items():
        parts.append(section(f"{title}, in ms", _latencies(group), *_placements(group)))
    for each in result.results:
        if each.error is not None:
            parts.append(line(f"{each.model} on {rows.setting(each)}: {each.error}", BAD))
        parts += notes([f"{PurePath(each.model).name}: {caution}" for caution in each.warnings])
    parts += [_difference(each) for each in result.differences]
    parts.append(line(f"took {human_seconds(result.seconds)}", FAINT))
    return Group(*parts)


def _by_setting(results: Sequence[BenchmarkResult]) -> dict[str, list[BenchmarkResult]]:
    grouped: dict[str, list[BenchmarkResult]] = {}
    for each in results:
        grouped.setdefault(rows.setting(each), []).append(each)
    return grouped


def _latencies(results: Sequence[BenchmarkResult]) -> RenderableType:
    numbers = ("median", "p90", "p99", "per s", "load", "first", "memory")
    made = table("model", *numbers, right=numbers)
    for each in results:
        if each.error is None:
            row(made, latency_cells(each))
        else:
            row(made, (PurePath(each.model).name, "failed", *[""] * 6), BAD)
    return made


def latency_cells(each: BenchmarkResult) -> tuple[str, ...]:
    """Write one result's numbers."""
    return (
        PurePath(each.model).name,
        milliseconds(each.median_ms),
        milliseconds(each.p90_ms),
        milliseconds(each.p99_ms),
        f"{each.throughput:,.1f}" if each.throughput < 100 else f"{each.throughput:,.0f}",
        milliseconds(each.load_ms),
        milliseconds(each.first_run_ms),
        human_bytes(each.peak_rss_bytes),
    )


def _placements(results: Sequence[BenchmarkResult]) -> list[RenderableType]:
    ran = {
        PurePath(each.model).name: rows.placement_text(each.placement)
        for each in results
        if each.error is None
    }
    return [line(f"{name} ran: {text}", FAINT) for name, text in ran.items()]


def _difference(each: Difference) -> RenderableType:
    names = f"{PurePath(each.candidate).name} against {PurePath(each.baseline).name}"
    sentence = f"{names} on {each.provider}: {each.sentence()}"
    return line(sentence, _VERDICT_STYLES.get(each.verdict, ""))


def _environment(result: BenchmarkReport, *, verbose: bool) -> RenderableType:
    items = [
        f"{name} {value}"
        for name, value in result.environment.items()
        if isinstance(value, str | int | float) and not isinstance(value, bool)
    ]
    return line("\n".join(items) if verbose else ", ".join(items), FAINT)
