"""Goes on with a benchmark that was interrupted: its samples count if nothing has changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.rows import Subject
from onnxopt.benchmarking.statistics.samples import Samples, Store, restored
from onnxopt.benchmarking.surroundings import environment
from onnxopt.errors import OnnxOptError
from onnxopt.report import Setting

SCHEMA = "onnxopt.benchmark/1"
_MACHINE = ("processor", "architecture", "usable_cores", "system")
_SOFTWARE = ("onnxruntime", "onnxruntime-gpu", "python", "numpy")
_DEVICE = ("gpu", "gpu_driver", "cuda", "cudnn", "tensorrt")
_MAY_CHANGE = {"precision", "max_time", "timeout", "profile", "strict"}
_MADE = "it is made with: onnxopt benchmark MODEL --json FILE"
_HINT = "leave out --resume to begin anew"

_PARTS = {"plan": Mapping, "environment": Mapping, "results": Sequence}
_ROW = {
    "model": str,
    "sha256": str,
    "provider": str,
    "batch": int | None,
    "threads": int,
    "callers": int | None,
    "rate": int | float | None,
    "io": str | None,
    "executed": str,
    "feeds": Mapping,
    "options": Mapping,
    "error": str | None,
    "processes": Sequence,
}
_LONGEST_NS = 1 << 62

Key = tuple[str, bool, Setting]
"""Sha256 of a model, whether it is the control, and its setting."""


def earlier_samples(
    report: Mapping[str, Any], subjects: Sequence[Subject], plan: Plan
) -> dict[Key, list[Samples]]:
    """Return the samples of an earlier report, several of a key where a file was given twice.

    Raises `OnnxOptError` where another model, option or machine makes them another measurement:
    only how precise and how long may change.
    """
    found = {name: value for name, value in plan.to_dict().items() if name not in _MAY_CHANGE}
    for name, value in found.items():
        then = report["plan"].get(name)
        if then != value:
            raise OnnxOptError(
                f"the report to resume was made with other {name.replace('_', ' ')}"
                f" ({_told(then)}, now {_told(value)})",
                _HINT,
            )
    different = machine_differences(report, environment.snapshot(plan.providers).described)
    if different:
        raise OnnxOptError(f"the report to resume was made with another {different[0]}", _HINT)
    _check_models(report, subjects)
    made: dict[Key, list[Samples]] = {}
    store = Store()
    for row in report["results"]:
        if row["processes"]:
            setting = setting_of(row)
            throughput = setting.metric == "throughput"
            samples = restored(row["processes"], per_request=throughput, store=store)
            key = row["sha256"], row.get("control", False), setting
            made.setdefault(key, []).append(samples)
    return made


def _check_models(report: Mapping[str, Any], subjects: Sequence[Subject]) -> None:
    """Raise `OnnxOptError` where other models were measured, or they have changed since."""
    known = {subject.sha256 for subject in subjects}
    for row in report["results"]:
        if row["sha256"] not in known:
            raise OnnxOptError(
                f"{row['model']} has changed since it was measured, or is none of the models now",
                _HINT,
            )
    measured = {row["sha256"] for row in report["results"]}
    for subject in subjects:
        if subject.sha256 not in measured:
            raise OnnxOptError(f"{subject.path} is not in the report to resume", _HINT)


def _told(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def read(report: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """Return a report of `benchmark` from its file; raise `OnnxOptError` for anything else."""
    if isinstance(report, Mapping):
        found: Any = report
        name = "the report"
    else:
        name = str(report)
        try:
            found = json.loads(Path(report).read_text(encoding="utf-8"))
        except OSError as error:
            raise OnnxOptError(f"cannot read {name}: {error.strerror}", _MADE) from error
        except (ValueError, RecursionError) as error:
            raise OnnxOptError(f"{name} is no JSON", _MADE) from error
    if not isinstance(found, Mapping) or found.get("schema") != SCHEMA:
        raise OnnxOptError(f"{name} is no report of onnxopt benchmark", _MADE)
    if not (_has(found, _PARTS) and all(map(_is_row, found["results"]))):
        raise OnnxOptError(f"{name} is damaged: not all of it is as onnxopt wrote it", _MADE)
    return dict(found)


def _has(thing: Any, kinds: Mapping[str, Any]) -> bool:
    return isinstance(thing, Mapping) and all(
        isinstance(thing.get(name), kind) for name, kind in kinds.items()
    )


def _is_row(row: Any) -> bool:
    return _has(row, _ROW) and all(
        _has(process, {"sessions": Sequence}) and all(map(_is_session, process["sessions"]))
        for process in row["processes"]
    )


def _is_session(session: Any) -> bool:
    return _has(session, {"times_ns": Sequence, "wall_ns": int | None}) and all(
        isinstance(time, int) and 0 <= time <= _LONGEST_NS for time in session["times_ns"]
    )


def setting_of(row: Mapping[str, Any]) -> Setting:
    """Return the setting of a row of a report that was read from JSON."""
    return Setting(**{name: row[name] for name in vars(Setting()) if name in row})


def machine_differences(report: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Name what differs between the machine and software of a report and those of today."""
    then = report.get("environment") or {}
    names = (*_MACHINE, *_SOFTWARE, *_DEVICE)
    return [
        f"{name.replace('_', ' ')} ({then.get(name)}, now {now.get(name)})"
        for name in names
        if then.get(name) != now.get(name)
    ]
