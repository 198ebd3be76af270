"""How fast models are, and which is faster, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnxopt.render import rows, timings
from onnxopt.render.markdown.blocks import bullets, escape, folded, join, table, warnings
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference
from onnxopt.text import human_seconds

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
        _failed(report),
        warnings(str(each) for each in timings.cautions(report)),
        _latencies(report),
        escape(timings.unit(report.results)) if report.results else "",
        bullets(timings.best(report, each) for each in report.best),
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


def _failed(report: BenchmarkReport) -> str:
    names = timings.model_names(report)
    return bullets(
        f"❌ {timings.label(names, each)} on {rows.setting(each)}: {each.error}"
        for each in report.results
        if each.error is not None
    )


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
            return (*start, "failed", *[""] * (len(shown) - 1), each.error)
        return (*start, *(write(each) for write in shown.values()), timings.ran(each))

    if not report.results:
        return ""
    return table(("model", "setting", *shown, "ran"), map(cells, report.results), left=2, last=True)


def _environment(report: BenchmarkReport) -> str:
    made = bullets(f"{name}: {value}" for name, value in timings.flat(report.environment).items())
    took = f"Took {human_seconds(report.seconds)}." if report.seconds else ""
    return folded("Environment", join([made, took]).rstrip()) if made else took
