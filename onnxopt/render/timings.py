"""What a benchmark's tables and sentences say, laid out by no renderer in particular."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from onnxopt.render import rows
from onnxopt.render.words import milliseconds
from onnxopt.report import BenchmarkReport, BenchmarkResult, Best, Caution, Difference, Hotspots
from onnxopt.text import human_bytes, plural

_ROWS_NAMED = 3


def short_names(paths: Iterable[str]) -> dict[str, str]:
    """Give each path the shortest of its ends that no other one has: `pr/model.onnx`."""
    parts = {path: PurePath(path).parts for path in paths}
    names = {path: PurePath(path).name or path or "model" for path in parts}
    for length in range(2, max(map(len, parts.values()), default=0) + 1):
        taken = list(names.values())
        for path in [path for path, name in names.items() if taken.count(name) > 1]:
            names[path] = str(PurePath(*parts[path][-length:]))
    taken = list(names.values())
    return {path: path if taken.count(name) > 1 else name for path, name in names.items()}


def model_names(report: BenchmarkReport) -> dict[str, str]:
    """Name every model of a report, those of the earlier one that it is held against included."""
    measured: tuple[BenchmarkResult | Best | Hotspots, ...] = (
        *report.results,
        *report.best,
        *report.hotspots,
    )
    paths = [each.model for each in measured]
    for difference in (*report.differences, *report.against):
        paths += [_model(report, difference.baseline), difference.candidate]
    return short_names(paths)


def _model(report: BenchmarkReport, baseline: str) -> str:
    """Return the model that a difference is from, which may be told with the earlier report."""
    return baseline.removesuffix(f" ({report.baseline})")


class Sentence(NamedTuple):
    """One difference in words: who, where, and what was found."""

    who: str
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.who} on {self.where}: {self.what}"


def sentence(report: BenchmarkReport, each: Difference) -> Sentence:
    """Say who was compared where; a control is a model against itself."""
    names = model_names(report)
    other = "itself" if each.control else names[_model(report, each.baseline)]
    return Sentence(
        f"{names[each.candidate]} against {other}", _where(report, each), each.sentence()
    )


def _where(report: BenchmarkReport, each: Difference) -> str:
    """Say where it really ran: never the provider that was asked for where that took no node."""
    models = {each.baseline, each.candidate}
    ran = [
        result
        for result in report.results
        if result.model in models
        and not result.control
        and result.error is None
        and (result.setting == each.setting or each.setting is None)
        and result.provider == each.provider
    ]
    said = dict.fromkeys(rows.setting(result) for result in ran)
    if each.setting is None:
        said = dict.fromkeys(rows.provider_text(result) for result in ran)
    return " and ".join(said) or (
        each.provider if each.setting is None else rows.setting(each.setting)
    )


def together(differences: Sequence[Difference]) -> str:
    """Say what the intervals hold for, where there are several."""
    many = max((each.comparisons for each in differences), default=1)
    if many < 2:
        return ""
    return f"The intervals hold for all {many} comparisons together."


class Cautioned(NamedTuple):
    """One caution, and who it is about: empty for the report as a whole."""

    who: str
    caution: Caution

    def __str__(self) -> str:
        return f"{self.who}: {self.caution}" if self.who else str(self.caution)


def cautions(report: BenchmarkReport) -> list[Cautioned]:
    """List what to doubt, each once, with the rows that it is about."""
    names = model_names(report)
    about: dict[Caution, list[str]] = {}
    for result in report.results:
        for each in result.warnings:
            about.setdefault(each, []).append(row_name(names, result, report.results))
    whole = [Cautioned("", each) for each in report.warnings]
    return [*whole, *(Cautioned(several(who), each) for each, who in about.items())]


def failures(report: BenchmarkReport) -> list[str]:
    """List why rows could not be measured, each reason once."""
    names = model_names(report)
    about: dict[str, list[str]] = {}
    for result in report.results:
        if result.error is not None:
            about.setdefault(result.error, []).append(
                f"{label(names, result)} on {rows.setting(result)}"
            )
    return [f"{several(who)}: {error}" for error, who in about.items()]


def row_name(
    names: Mapping[str, str], result: BenchmarkResult, results: Sequence[BenchmarkResult]
) -> str:
    """Name a row by its model, and by its setting where there are several."""
    several = len({each.setting for each in results}) > 1
    return label(names, result) + (f" on {rows.setting(result)}" if several else "")


def label(names: Mapping[str, str], result: BenchmarkResult) -> str:
    """Name the model of a row, told apart from its own control."""
    return f"{names[result.model]} (control)" if result.control else names[result.model]


def several(who: Sequence[str]) -> str:
    """Name rows, or the first of many."""
    if len(who) <= _ROWS_NAMED:
        return "; ".join(who)
    return f"{who[0]} and {plural(len(who) - 1, 'other row')}"


def best(report: BenchmarkReport, each: Best) -> str:
    """Say which setting suits a model best, and which are as good for all that is known."""
    name = model_names(report)[each.model]
    ran = {row.setting: row for row in report.results if row.model == each.model}
    where = [rows.setting(ran.get(one, one)) for one in (each.setting, *each.tied)]
    what = (
        f"lowest latency {milliseconds(each.value)} ms"
        if each.metric == "latency"
        else f"highest throughput {per_second(each.value)} per second"
    )
    tied = f" (tied with {'; '.join(where[1:])})" if each.tied else ""
    return f"{name}: {what} on {where[0]}{tied}"


def hot(report: BenchmarkReport, spots: Hotspots) -> str:
    """Say whose time it is that hot spots tell, by what executed it."""
    alike = [row for row in report.results if row.model == spots.model and row.error is None]
    executed = {row.setting: row for row in alike}
    where = rows.setting(executed.get(spots.setting, spots.setting))
    return f"{model_names(report)[spots.model]} on {where}"


def per_second(number: float) -> str:
    """Write a throughput; nothing where it is not known."""
    if not math.isfinite(number):
        return ""
    return f"{number:,.1f}" if number < 100 else f"{number:,.0f}"


def latency(number: float) -> str:
    """Write a latency in ms, without unit; nothing where it is not known."""
    return milliseconds(number) if math.isfinite(number) else ""


def interval(result: BenchmarkResult, key: str) -> str:
    """Write the interval of a number: `8.07–8.21`; nothing where there is none."""
    if key not in result.intervals:
        return ""
    write = per_second if key == "throughput" else latency
    return "–".join(map(write, result.intervals[key]))


def margin(result: BenchmarkResult, key: str = "median_ms") -> str:
    """Write how far the interval of a number goes, as a share of it: `1.2 %`."""
    value = getattr(result, key)
    if key not in result.intervals or not value:
        return ""
    low, high = result.intervals[key]
    reach = 100 * max(high - value, value - low) / value
    return f"{reach:.1f} %" if math.isfinite(reach) else "?"


def facts(result: BenchmarkResult) -> list[str]:
    """List what only a process with this model alone can tell: loading, energy."""
    said = [
        ("load", latency(result.load_ms), " ms"),
        ("building engines", latency(result.build_ms or math.nan), " ms"),
        ("first run", latency(result.first_run_ms), " ms"),
        ("on the device", human_bytes(result.device_bytes) if result.device_bytes else "", ""),
        ("energy", energy(result.joules_per_run), " a run"),
    ]
    return [f"{name} {text}{unit}" for name, text, unit in said if text]


def intervals(result: BenchmarkResult) -> dict[str, str]:
    """Write every interval that is known, by the title of its number."""
    titles = {
        "median_ms": "median",
        "p90_ms": "p90",
        "p99_ms": "p99",
        "p999_ms": "p99.9",
        "throughput": "per second",
    }
    return {title: interval(result, key) for key, title in titles.items() if interval(result, key)}


def energy(joules: float | None) -> str:
    """Write the energy of a run; nothing where the machine does not tell."""
    if joules is None or not math.isfinite(joules):
        return ""
    return f"{joules:.3g} J" if joules >= 0.1 else f"{joules * 1e3:.3g} mJ"


def ran(result: BenchmarkResult) -> str:
    """Say which provider took how many nodes, and why others did where that was not asked."""
    text = rows.placement_text(result.placement)
    return f"{text}; {result.fallback}" if result.fallback else text


def unit(results: Sequence[BenchmarkResult]) -> str:
    """Say whether times hold copies of inputs and outputs."""
    bound = {each.io for each in results}
    if bound == {"bound"}:
        return "Inputs and outputs stay where the provider computes: no copy is timed."
    if bound == {"copied"}:
        return "Times include copying inputs and outputs from and to numpy arrays."
    return "Times include copying inputs and outputs, except where it says 'without copies'."


def flat(things: Mapping[str, Any]) -> dict[str, str]:
    """Write the environment or the plan, without what has no short text."""
    told = {}
    for name, value in things.items():
        if isinstance(value, str):
            told[name] = value
        elif isinstance(value, int | float) and not isinstance(value, bool):
            told[name] = human_bytes(value) if name.endswith("_bytes") else str(value)
    return told
