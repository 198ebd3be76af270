"""Latencies and their differences, on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType

from onnxopt.render import rows, timings
from onnxopt.render.terminal.blocks import (
    BAD,
    CARE,
    FAINT,
    GOOD,
    heading,
    line,
    row,
    section,
    table,
)
from onnxopt.render.terminal.hotspots import hotspots
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference
from onnxopt.text import human_bytes, human_seconds

_VERDICT_STYLES = {"faster": GOOD, "slower": BAD}


def report(result: BenchmarkReport, *, verbose: bool = False) -> RenderableType:
    """Show one table per setting, where the nodes really ran, then the differences."""
    names = timings.model_names(result)
    parts: list[RenderableType] = [_environment(result, verbose=verbose), line("")]
    for title, group in _by_setting(result.results).items():
        told = [] if group[0].error is not None else _told(group, names, verbose=verbose)
        parts.append(section(title, _latencies(group, names), *told))
    for each in result.hotspots:
        parts += [
            heading(f"Where the time goes: {timings.hot(result, each)}"),
            hotspots(each),
            line(""),
        ]
    parts += [line(timings.best(result, each)) for each in result.best]
    parts += [line(f"warning: {each}", CARE) for each in timings.cautions(result)]
    if result.against:
        parts.append(line(f"against {result.baseline or 'an earlier report'}:"))
        parts += [_difference(result, each) for each in result.against]
    differences = sorted(result.differences, key=lambda each: not each.control)
    parts += [_difference(result, each) for each in differences]
    if together := timings.together((*result.differences, *result.against)):
        parts.append(line(together, FAINT))
    if not result.complete:
        parts.append(line("not finished: --resume goes on with what --json kept", CARE))
    parts.append(line(f"took {human_seconds(result.seconds)}", FAINT))
    return Group(*parts)


def _by_setting(results: Sequence[BenchmarkResult]) -> dict[str, list[BenchmarkResult]]:
    """Group rows by what executed them: what fell back stands under its own heading."""
    grouped: dict[str, list[BenchmarkResult]] = {}
    for each in results:
        state = "failed" if each.error is not None else "in ms"
        grouped.setdefault(f"{rows.setting(each)}, {state}", []).append(each)
    return grouped


def _latencies(results: Sequence[BenchmarkResult], names: Mapping[str, str]) -> RenderableType:
    if results[0].error is not None:
        return Group(
            *(line(f"{timings.label(names, each)}: {each.error}", BAD) for each in results)
        )
    numbers = ("median", "±", "p90", "p99", "p99.9", "per s", "memory")
    written = [latency_cells(each, timings.label(names, each)) for each in results]
    # A column that nothing is known for only takes the room of names.
    shown = [0, *(index + 1 for index in range(len(numbers)) if any(r[index + 1] for r in written))]
    header = ("model", *numbers)
    made = table(*(header[index] for index in shown), right=numbers)
    for cells in written:
        row(made, [cells[index] for index in shown])
    return made


def latency_cells(each: BenchmarkResult, name: str) -> tuple[str, ...]:
    """Write one result's numbers."""
    memory = human_bytes(each.peak_rss_bytes) if each.peak_rss_bytes else ""
    return (
        name,
        timings.latency(each.median_ms),
        timings.margin(each),
        timings.latency(each.p90_ms),
        timings.latency(each.p99_ms),
        timings.latency(each.p999_ms),
        timings.per_second(each.throughput),
        memory,
    )


def _told(
    results: Sequence[BenchmarkResult], names: Mapping[str, str], *, verbose: bool
) -> list[RenderableType]:
    """Say of each model who ran it, and what only a process of its own can tell."""
    lines: list[RenderableType] = []
    for each in results:
        about = [timings.ran(each), *timings.facts(each)]
        if verbose:
            about += [f"{title} {text}" for title, text in timings.intervals(each).items()]
        lines.append(line(f"{timings.label(names, each)}: {'; '.join(about)}", FAINT))
    return lines


def _difference(report: BenchmarkReport, each: Difference) -> RenderableType:
    return line(str(timings.sentence(report, each)), _VERDICT_STYLES.get(each.verdict, ""))


def _environment(result: BenchmarkReport, *, verbose: bool) -> RenderableType:
    items = [f"{name} {value}" for name, value in timings.flat(result.environment).items()]
    return line("\n".join(items) if verbose else ", ".join(items), FAINT)
