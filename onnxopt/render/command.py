"""The command line that measures the same again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from onnxopt.report import BenchmarkReport


def command(report: BenchmarkReport) -> list[str]:
    """Write the command line that measures the same again, one part an option.

    It goes by what the plan says was asked, and leaves out what is so by default.
    """
    models = dict.fromkeys(each.model for each in report.results)
    options = list(_options(report.plan))
    if report.baseline:
        options.append(("--against", report.baseline))
    return [shlex.join(words) for words in (("onnxopt", "benchmark", *models), *options)]


def _options(plan: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for provider in plan.get("providers", ()):
        yield ("--provider", provider)
    for provider, options in plan.get("provider_options", {}).items():
        for name, value in options.items():
            yield ("--provider-option", f"{provider}.{name}={value}")
    for option, name, usual in (
        ("--batch", "batches", []),
        ("--threads", "threads", []),
        ("--callers", "callers", [1]),
        ("--rate", "rates", []),
        ("--io", "io", ["copied"]),
    ):
        values = [value for value in plan.get(name, ()) if value is not None]
        if values and values != usual:
            yield (option, ",".join(map(_number, values)))
    if plan.get("data"):
        yield ("--data", plan["data"])
    for name, size in plan.get("fix", {}).items():
        yield ("--fix", f"{name}={size}")
    if "precision" in plan:
        yield ("--precision", f"{100 * plan['precision']:g}%")
    for option, name in (("--max-time", "max_time"), ("--timeout", "timeout")):
        if name in plan:
            yield (option, f"{plan[name]:g}s")
    yield from ((f"--{name}",) for name in ("aa", "strict", "profile") if plan.get(name))


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
