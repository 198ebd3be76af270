"""Compares a benchmark with an earlier one, and refuses where nothing could be concluded.

The two sides did not take turns: what the machine was like on each day counts as the model's, and
the interval holds only what varies between processes of one day. Where the earlier model is still
there, measuring both side by side says more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from onnxopt.benchmarking import environment
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.resume import machine_differences, setting_of
from onnxopt.benchmarking.samples import restored
from onnxopt.benchmarking.stats import estimate_apart
from onnxopt.errors import OnnxOptError
from onnxopt.report import BenchmarkReport, BenchmarkResult, Difference

_ANYWAY = "measure both on one machine, or compare them anyway with --against-anyway"


def compare_with(
    report: BenchmarkReport, earlier: Mapping[str, Any], *, name: str, anyway: bool = False
) -> tuple[Difference, ...]:
    """Return the difference of each row of `report` from the same row of `earlier`, as baseline.

    Rows are the same where setting and file name are; a single model is the same whatever it is
    called. `name` is what the earlier report is called. Raises `OnnxOptError` where processor,
    versions, provider or feeds differ and `anyway` is not given, and where a row has no partner.
    """
    if not anyway:
        _check_machine(earlier, report.environment, name)
    rows = [row for row in report.results if row.error is None and not row.control]
    found = []
    for row in rows:
        partner = _partner(row, report, earlier, name)
        if not anyway:
            _check_alike(row, partner, name)
        throughput = row.setting.metric == "throughput"
        sides = [
            restored(p, per_request=throughput).levels
            for p in (partner["processes"], row.processes)
        ]
        result = estimate_apart(*sides, comparisons=len(rows))
        if result is not None:
            found.append(result.difference(f"{partner['model']} ({name})", row.model, row.setting))
    return tuple(found)


def check_baseline(earlier: Mapping[str, Any], plan: Plan, *, anyway: bool) -> None:
    """Raise `OnnxOptError`, before anything is measured, for what can be no baseline."""
    if not any(row.get("processes") for row in earlier["results"]):
        raise OnnxOptError(
            "the earlier report has no samples", "give a report of a benchmark that went well"
        )
    if not anyway:
        now = environment.snapshot(plan.providers).described
        _check_machine(earlier, now, "the earlier report")


def _check_machine(earlier: Mapping[str, Any], now: Mapping[str, Any], name: str) -> None:
    different = machine_differences(earlier, now)
    if different:
        raise OnnxOptError(f"{name} was measured with another {different[0]}", _ANYWAY)


def _partner(
    row: BenchmarkResult, report: BenchmarkReport, earlier: Mapping[str, Any], name: str
) -> Mapping[str, Any]:
    usable: list[Mapping[str, Any]] = [
        each for each in earlier["results"] if each["processes"] and not each.get("control", False)
    ]
    single = len({each["model"] for each in usable}) == 1 == len({r.model for r in report.results})
    file = PurePath(row.model).name
    models = [each for each in usable if single or PurePath(each["model"]).name == file]
    if not models:
        told = ", ".join(sorted({PurePath(each["model"]).name for each in usable}))
        raise OnnxOptError(f"{name} has no model {file}, only {told}", "name the models alike")
    for each in models:
        if setting_of(each) == row.setting:
            return each
    raise OnnxOptError(
        f"{name} has no row for {file} on {row.provider} with {row.threads} threads"
        f" and batch {row.batch}",
        "measure with the same options as the earlier report",
    )


def _check_alike(row: BenchmarkResult, partner: Mapping[str, Any], name: str) -> None:
    for what, then, now in (
        ("provider", partner["executed"], row.executed),
        ("inputs", partner["feeds"], row.feeds),
        ("provider options", partner["options"], row.options),
    ):
        if then != now:
            raise OnnxOptError(
                f"{name} was measured with other {what} ({then}, now {now})", _ANYWAY
            )
