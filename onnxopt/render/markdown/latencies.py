"""How fast models are, and which is faster, as Markdown."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from onnxopt.render import rows, timings
from onnxopt.render.markdown.blocks import bullets, escape, folded, join, table, warnings
from onnxopt.render.markdown.hotspots import hotspots
from onnxopt.render.words import printable
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference
from onnxopt.text import human_seconds

_WARNINGS = 6
_MARKS = {"faster": "🟢", "slower": "🔴", "no difference": "⚪"}


def benchmark(report: BenchmarkReport) -> str:
    """Write who is faster, what to doubt, the latencies, and where it ran."""
    count = len(report.against)
    against = f"{escape(report.baseline or 'an earlier report')}" if count else ""
    parts = [
        "" if report.complete else "⚠️ not finished: `--resume` goes on",
        _differences(report, report.differences),
        f"Against {against}:" if against else "",
        _differences(report, report.against),
        timings.together((*report.differences, *report.against)),
        bullets(f"❌ {text}" for text in timings.failures(report)),
        *_warnings(report),
        _latencies(report),
        escape(timings.unit(report.results)) if report.results else "",
        bullets(timings.best(report, each) for each in report.best),
        *(
            folded(_summary(f"Where the time goes: {timings.hot(report, each)}"), hotspots(each))
            for each in report.hotspots
        ),
        _environment(report),
    ]
    return join(parts)


def _differences(report: BenchmarkReport, differences: Sequence[Difference]) -> str:
    """Write one sentence a comparison, controls last."""
    ordered = sorted(differences, key=lambda each: each.control)
    return "\n".join(
        f"- {_MARKS[each.verdict]} {escape(str(timings.sentence(report, each)))}"
        for each in ordered
    )


def _warnings(report: BenchmarkReport) -> list[str]:
    """Write what is about the whole, and what is about rows folded away where that is much."""
    told = timings.cautions(report)
    whole = [str(each) for each in told if not each.who]
    some = [str(each) for each in told if each.who]
    if len(some) <= _WARNINGS:
        return [warnings([*whole, *some])]
    return [warnings(whole), folded(f"{len(some)} warnings about rows", warnings(some))]


def _summary(text: str) -> str:
    """Write a title for the heading of a fold, which is HTML."""
    return html.escape(printable(text))


def _latencies(report: BenchmarkReport) -> str:
    names = timings.model_names(report)
    measured = [each for each in report.results if each.error is None]
    columns: dict[str, Callable[[BenchmarkResult], str]] = {
        "median ms": lambda each: timings.latency(each.median_ms),
        "95 %": lambda each: timings.interval(each, "median_ms"),
        "p90": lambda each: timings.latency(each.p90_ms),
        "p99": lambda each: timings.latency(each.p99_ms),
        "p99.9": lambda each: timings.latency(each.p999_ms),
        "per second": lambda each: timings.per_second(each.throughput),
    }
    shown = {
        title: write
        for title, write in columns.items()
        if title not in {"95 %", "p99.9"} or any(map(write, measured))
    }

    def cells(each: BenchmarkResult) -> Sequence[str]:
        start = (timings.label(names, each), rows.setting(each))
        if each.error is not None:
            return (*start, "failed", *[""] * len(shown))
        return (*start, *(write(each) for write in shown.values()), timings.ran(each))

    if not report.results:
        return ""
    return table(("model", "setting", *shown, "ran"), map(cells, report.results), left=2, last=True)


def _environment(report: BenchmarkReport) -> str:
    made = bullets(f"{name}: {value}" for name, value in timings.flat(report.environment).items())
    took = f"Took {human_seconds(report.seconds)}." if report.seconds else ""
    return folded("Environment", join([made, took]).rstrip()) if made else took
