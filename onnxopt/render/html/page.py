"""What stands on the page, as plain texts for the template."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from onnxopt.render import rows, timings
from onnxopt.render.command import command
from onnxopt.render.html import work
from onnxopt.render.html.plots import Plot, Plotter
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference
from onnxopt.text import human_bytes, human_seconds, plural

_MANY_VERDICTS, _MANY_CAUTIONS, _MANY_SETTINGS, _MANY_HOTSPOTS = 8, 6, 4, 2
_STYLES = {"faster": "good", "slower": "bad", "no difference": "same"}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One comparison: in words, and as places in per cent of a bar that all comparisons share."""

    style: str
    head: str
    rest: str
    who: str
    where: str
    low: float
    middle: float
    high: float
    one: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A number of the table, with its interval."""

    text: str
    interval: str = ""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """A row of the table of results: numbers, or why there are none."""

    model: str
    ran: str = ""
    style: str = ""
    cells: Sequence[Cell] = ()
    error: str = ""
    cautions: Sequence[str] = ()


@dataclass(frozen=True, kw_only=True)
class Group:
    """The rows of one setting, and their plots."""

    title: str
    ran: str
    rows: Sequence[TableRow]
    plots: Sequence[Plot]


def view(report: BenchmarkReport) -> dict[str, Any]:
    """Return what the template shows."""
    plotter = Plotter(report)
    columns = _columns(report)
    groups = _groups(report, plotter, columns)
    controls = [each for each in report.differences if each.control]
    plain = [each for each in report.differences if not each.control]
    scale = _Scale((*report.differences, *report.against))
    return {
        "title": _title(report, plotter.names),
        "facts": _facts(report),
        "complete": report.complete,
        "verdicts_list": [scale.verdict(report, each) for each in plain],
        "against": [scale.verdict(report, each) for each in report.against],
        "controls": [scale.verdict(report, each) for each in controls],
        "many_verdicts": _MANY_VERDICTS,
        "together": timings.together((*report.differences, *report.against)),
        "baseline": report.baseline or "an earlier report",
        "failed": timings.failures(report),
        "cautions": timings.cautions(report),
        "many_cautions": _MANY_CAUTIONS,
        "best": [timings.best(report, each) for each in report.best],
        "columns": _titles(report, plotter.names, columns),
        "groups": groups,
        "unit": timings.unit(report.results) if report.results else "",
        "panels": [group for group in groups if group.plots],
        "overview": plotter.overview(),
        "many_settings": _MANY_SETTINGS,
        "many_hotspots": _MANY_HOTSPOTS,
        "hotspots": [work.lay_out(plotter, each) for each in report.hotspots],
        "environment": timings.flat(report.environment),
        "plan": {name: _asked(value) for name, value in report.plan.items()},
        "models": {each.model: each.sha256 for each in report.results},
        "fed": _fed(report, plotter.names),
        "command": command(report),
    }


def _title(report: BenchmarkReport, names: Mapping[str, str]) -> str:
    models = [names[path] for path in dict.fromkeys(each.model for each in report.results)]
    if len(models) == 2 and len(report.differences) > 0:
        return f"{models[1]} against {models[0]}"
    return ", ".join(models) if 0 < len(models) < 4 else plural(len(models), "model")


def _facts(report: BenchmarkReport) -> list[str]:
    """Say on one line what the numbers hold for."""
    known = report.environment
    told = [str(known[name]) for name in ("processor", "system") if known.get(name)]
    told += [
        f"{name} {known[name]}"
        for name in ("onnxruntime", "onnxruntime-gpu", "onnxopt")
        if known.get(name)
    ]
    sessions = sum(each.sessions for each in report.results)
    runs = sum(each.runs for each in report.results)
    if sessions:
        told.append(f"{plural(runs, 'run')} in {plural(sessions, 'session')}")
    return [*told, f"took {human_seconds(report.seconds)}"] if report.seconds else told


class _Scale:
    """A logarithmic axis that holds every interval, and 1."""

    def __init__(self, differences: Sequence[Difference]) -> None:
        ends = [end for each in differences for end in (each.low, each.high, each.ratio)]
        ends = [math.log(end) for end in ends if 0 < end < math.inf]
        reach = max([0.05, *map(abs, ends)])
        self.low, self.high = (min([0.0, *ends]) - reach * 0.12, max([0.0, *ends]) + reach * 0.12)

    def place(self, ratio: float) -> float:
        """Return where a ratio stands, from 0 to 100."""
        if not 0 < ratio < math.inf:
            return 0.0 if ratio <= 0 else 100.0
        share = (math.log(ratio) - self.low) / (self.high - self.low)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def verdict(self, report: BenchmarkReport, each: Difference) -> Verdict:
        """Lay one comparison out."""
        told = timings.sentence(report, each)
        head, _, rest = told.what.partition(", ")
        return Verdict(
            style=_STYLES[each.verdict],
            head=head,
            rest=rest,
            who=told.who,
            where=told.where,
            low=self.place(each.low),
            middle=self.place(each.ratio),
            high=self.place(each.high),
            one=self.place(1.0),
        )


def _columns(report: BenchmarkReport) -> dict[str, Callable[[BenchmarkResult], Cell]]:
    """Return title to what writes its cells, without columns that nothing is known for."""

    def latency(key: str) -> Callable[[BenchmarkResult], Cell]:
        return lambda e: Cell(
            text=timings.latency(getattr(e, key)), interval=timings.interval(e, key)
        )

    def size(key: str) -> Callable[[BenchmarkResult], Cell]:
        return lambda e: Cell(text=human_bytes(getattr(e, key)) if getattr(e, key) else "")

    columns: dict[str, Callable[[BenchmarkResult], Cell]] = {
        "median ms": latency("median_ms"),
        "p90 ms": latency("p90_ms"),
        "p99 ms": latency("p99_ms"),
        "p99.9 ms": latency("p999_ms"),
        "per second": lambda e: Cell(
            text=timings.per_second(e.throughput), interval=timings.interval(e, "throughput")
        ),
        "load ms": latency("load_ms"),
        "engine ms": lambda e: Cell(text=timings.latency(e.build_ms or math.nan)),
        "first run ms": latency("first_run_ms"),
        "memory": size("peak_rss_bytes"),
        "device memory": size("device_bytes"),
        "energy a run": lambda e: Cell(text=timings.energy(e.joules_per_run)),
    }
    measured = [each for each in report.results if each.error is None]
    return {
        title: write
        for title, write in columns.items()
        if title == "median ms" or any(write(each).text for each in measured)
    }


def _titles(report: BenchmarkReport, names: Mapping[str, str], columns: Iterable[str]) -> list[str]:
    """Name the columns: what is compared stands behind the median."""
    first, *others = columns
    against = [f"against {names[report.differences[0].baseline]}"] if report.differences else []
    return [first, *against, *others]


def _groups(
    report: BenchmarkReport,
    plotter: Plotter,
    columns: Mapping[str, Callable[[BenchmarkResult], Cell]],
) -> list[Group]:
    grouped: dict[str, list[BenchmarkResult]] = {}
    for each in report.results:
        grouped.setdefault(rows.setting(each), []).append(each)
    found = []
    for title, results in grouped.items():
        ran = {timings.ran(each) for each in results if each.error is None}
        alike = ran.pop() if len(ran) == 1 else ""
        made = [
            _row(report, plotter, each, columns, alike) for each in results if each.error is None
        ]
        made += _failed_rows(plotter, results)
        found.append(Group(title=title, ran=alike, rows=made, plots=plotter.setting(results)))
    return found


def _failed_rows(plotter: Plotter, results: Sequence[BenchmarkResult]) -> list[TableRow]:
    """Say why models could not be run in this setting, each reason once."""
    alike: dict[str, list[str]] = {}
    for each in results:
        if each.error is not None:
            alike.setdefault(each.error, []).append(plotter.label(each))
    return [TableRow(model=", ".join(who), error=error) for error, who in alike.items()]


def _row(
    report: BenchmarkReport,
    plotter: Plotter,
    result: BenchmarkResult,
    columns: Mapping[str, Callable[[BenchmarkResult], Cell]],
    told: str,
) -> TableRow:
    """Lay one row out; who ran it is left out where its group has `told` so."""
    difference = next(
        (
            each
            for each in report.differences
            if each.candidate == result.model
            and each.setting == result.setting
            and each.control == result.control
        ),
        None,
    )
    first, *others = (write(result) for write in columns.values())
    return TableRow(
        model=plotter.label(result),
        ran="" if told else timings.ran(result),
        style=_STYLES[difference.verdict] if difference else "",
        cells=[first, *([_versus(difference)] if report.differences else []), *others],
        cautions=[str(each) for each in result.warnings],
    )


def _versus(difference: Difference | None) -> Cell:
    """Write a comparison: `1.52× faster`, and its interval."""
    if difference is None:
        return Cell(text="")
    text, _, interval = difference.times().rpartition(" (")
    return Cell(text=text, interval=interval.removesuffix(")"))


def _asked(value: Any) -> str:
    """Write the value of an option."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_asked(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(_asked, value)) or "none"
    words = {None: "not given", True: "yes", False: "no"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


def _fed(report: BenchmarkReport, names: Mapping[str, str]) -> list[dict[str, Any]]:
    """List inputs and provider options, rows with the same ones together."""
    alike: dict[tuple[Any, ...], list[str]] = {}
    for each in report.results:
        if each.feeds or each.options:
            key = (tuple(each.feeds.items()), tuple(each.options.items()))
            alike.setdefault(key, []).append(timings.row_name(names, each, report.results))
    whole = len(alike) == 1
    return [
        {
            "who": "all rows" if whole else timings.several(who),
            "feeds": dict(feeds),
            "options": dict(options),
        }
        for (feeds, options), who in alike.items()
    ]
