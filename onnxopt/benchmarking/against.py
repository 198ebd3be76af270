"""Compares a benchmark with an earlier one, and refuses where nothing could be concluded.

The two sides did not take turns: what the machine was like on each day counts as the model's, and
the interval holds only what varies between processes of one day. Where the earlier model is still
there, measuring both side by side says more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.resume import machine_differences, setting_of
from onnxopt.benchmarking.statistics.samples import restored
from onnxopt.benchmarking.statistics.stats import estimate_apart
from onnxopt.benchmarking.surroundings import environment
from onnxopt.errors import OnnxOptError
from onnxopt.report import BenchmarkReport, BenchmarkResult, Caution, Difference, Setting

_ANYWAY = "measure both on one machine, or compare them anyway with --against-anyway"
# TensorRT's engines lie in a folder of their own for each model.
_PLACES = "_cache_path"

Row = Mapping[str, Any]


def compare_with(
    report: BenchmarkReport, earlier: Mapping[str, Any], *, name: str, anyway: bool = False
) -> tuple[tuple[Difference, ...], tuple[Caution, ...]]:
    """Return the difference of each row of `report` from the same row of `earlier`, as baseline.

    Rows are the same where setting and file name are; a single model is the same whatever it is
    called. `name` is what the earlier report is called. Of a row that could not be measured then
    a caution is told. Raises `OnnxOptError` where processor, versions, provider or feeds differ
    and `anyway` is not given, and where a row has no partner.
    """
    if not anyway:
        check_alike(report, earlier, name=name)
    pairs = list(_paired(report, earlier, name=name, anyway=anyway))
    measured = [(row, partner) for row, partner in pairs if partner["error"] is None]
    found = []
    for row, partner in measured:
        throughput = row.setting.metric == "throughput"
        sides = [
            restored(processes, per_request=throughput).levels
            for processes in (partner["processes"], row.processes)
        ]
        result = estimate_apart(*sides, comparisons=len(measured))
        if result is not None:
            found.append(result.difference(f"{partner['model']} ({name})", row.model, row.setting))
    return tuple(found), tuple(
        Caution(
            kind="not compared",
            message=f"{PurePath(row.model).name} could not be measured in {name}"
            f" ({_told(row.setting)}): {partner['error']}",
        )
        for row, partner in pairs
        if partner["error"] is not None
    )


def check_baseline(
    earlier: Mapping[str, Any], models: Sequence[str], plan: Plan, *, anyway: bool
) -> None:
    """Raise `OnnxOptError`, before anything is done, for what can be no baseline of `models`."""
    name = "the earlier report"
    if not any(row.get("processes") for row in earlier["results"]):
        raise OnnxOptError(f"{name} has no samples", "give a report of a benchmark that went well")
    if not anyway:
        _check_machine(earlier, environment.snapshot(plan.providers).described, name)
    for model in models:
        for setting in plan.settings():
            _partner(model, setting, earlier, models=models, name=name, anyway=anyway)


def check_alike(report: BenchmarkReport, earlier: Mapping[str, Any], *, name: str) -> None:
    """Raise `OnnxOptError` where machine, provider, inputs or options are not those of `earlier`.

    Needs no samples: models need only have been loaded.
    """
    _check_machine(earlier, report.environment, name)
    for row, partner in _paired(report, earlier, name=name, anyway=False):
        for what, then, now in (
            ("provider", partner["executed"], row.executed),
            ("inputs", partner["feeds"], row.feeds),
            ("provider options", _apart(partner["options"]), _apart(row.options)),
        ):
            if then != now and partner["error"] is None:
                raise OnnxOptError(
                    f"{name} was measured with other {what} ({then}, now {now})", _ANYWAY
                )


def _apart(options: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in options.items() if not key.endswith(_PLACES)}


def _check_machine(earlier: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    different = machine_differences(earlier, now)
    if different:
        raise OnnxOptError(f"{name} was measured with another {different[0]}", _ANYWAY)


def _paired(
    report: BenchmarkReport, earlier: Mapping[str, Any], *, name: str, anyway: bool
) -> Iterator[tuple[BenchmarkResult, Row]]:
    """Yield the rows that were measured, each with the same of the earlier report."""
    models = [row.model for row in report.results]
    for row in report.results:
        if row.error is None and not row.control:
            yield (
                row,
                _partner(row.model, row.setting, earlier, models=models, name=name, anyway=anyway),
            )


def _partner(
    model: str,
    setting: Setting,
    earlier: Mapping[str, Any],
    *,
    models: Sequence[str],
    name: str,
    anyway: bool,
) -> Row:
    rows: list[Row] = [row for row in earlier["results"] if not row.get("control", False)]
    path = _namesake(model, [row["model"] for row in rows], models, name)
    mine = {setting_of(row): row for row in rows if row["model"] == path}
    if setting in mine:
        return mine[setting]
    near = [
        row
        for its, row in mine.items()
        if replace(its, provider=setting.provider, threads=setting.threads) == setting
    ]
    if anyway and len(near) == 1:
        return near[0]
    raise OnnxOptError(
        f"{name} has no row of {PurePath(model).name} with {_told(setting)}",
        "measure with the same options as the earlier report",
    )


def _namesake(model: str, theirs: Sequence[str], ours: Sequence[str], name: str) -> str:
    """Return what a model is called in the earlier report."""
    known, file = dict.fromkeys(theirs), PurePath(model).name
    if model in known or len(known) == 1 == len(set(ours)):
        return model if model in known else theirs[0]
    alike = [each for each in known if PurePath(each).name == file]
    if not alike:
        told = ", ".join(sorted({PurePath(each).name for each in known}))
        raise OnnxOptError(f"{name} has no model {file}, only {told}", "name the models alike")
    if len(alike) > 1:
        raise OnnxOptError(
            f"{name} has several models called {file}", f"call it as there: {alike[0]}"
        )
    return alike[0]


def _told(setting: Setting) -> str:
    """Say a setting, the usual left out."""
    usual = vars(replace(Setting(), threads=0, provider=""))
    return ", ".join(
        f"{name} {value}" for name, value in vars(setting).items() if value != usual[name]
    )
