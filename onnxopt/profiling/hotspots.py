"""Profiles a model in a process of its own, and holds each node against the ceiling."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from onnxopt.benchmarking.processes import listen
from onnxopt.errors import OnnxOptError
from onnxopt.graph.work import macs
from onnxopt.profiling.roofline import Work, reached, total
from onnxopt.report import Ceiling, Hotspot, Hotspots, Setting

CHILD = "onnxopt.profiling.child"
_SECONDS = 2.0

Row = Mapping[str, Any]


def profile(
    path: str,
    feed_file: str,
    setting: Setting,
    *,
    options: Mapping[str, str],
    timeout: float,
    ceiling: Ceiling | None = None,
) -> Hotspots:
    """Find where the time of a model goes; what fails, and why, is said in `error`.

    `feed_file` is a file of `save_feed`, `ceiling` what `profiling.ceilings` measured with the
    same provider and threads. Takes about three seconds and two loads of the model; whatever
    needs more than `timeout` seconds is stopped. The model runs by one caller at a time.
    """
    plan = {"ceiling": False, "path": path, "feed": feed_file, "seconds": _SECONDS}
    found = run_child(plan, setting, options, timeout)
    empty = Hotspots(
        model=path, setting=setting, runs=0, total_ms=math.nan, kernels_ms=math.nan,
        nodes=(), operators=(), ceiling=ceiling,
    )  # fmt: skip
    if found["event"] != "profiled":
        return replace(empty, error=found["message"])
    rows = _with_einsums(path, found["nodes"])
    kernels = sum(row["ms"] for row in rows)
    return replace(
        empty,
        runs=found["runs"],
        total_ms=found["total_ms"],
        kernels_ms=kernels,
        nodes=_hottest(([row] for row in rows), kernels, ceiling),
        operators=_hottest(_by_operator(rows), kernels, ceiling),
    )


def run_child(
    plan: Mapping[str, Any], setting: Setting, options: Mapping[str, str], timeout: float
) -> dict[str, Any]:
    """Return what the child tells last: `profiled` with what it found, or `failed`."""
    found: dict[str, Any] = {"event": "failed", "message": "the process told nothing"}
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        whole = {**plan, "setting": asdict(setting), "options": dict(options), "folder": folder}
        for event in listen(CHILD, whole, timeout):
            found = event
    return found


def _by_operator(rows: Sequence[Row]) -> Iterable[list[Row]]:
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["op"], row["provider"]), []).append(row)
    return groups.values()


def _hottest(
    groups: Iterable[Sequence[Row]], kernels: float, ceiling: Ceiling | None
) -> tuple[Hotspot, ...]:
    spots = [_spot(group, kernels, ceiling) for group in groups]
    return tuple(sorted(spots, key=lambda spot: -spot.ms))


def _spot(rows: Sequence[Row], kernels: float, ceiling: Ceiling | None) -> Hotspot:
    first = rows[0]
    work = [
        Work(ms=row["ms"], macs=row["macs"], bytes=row["bytes"], calls=row["calls"]) for row in rows
    ]
    ms = sum(each.ms for each in work)
    speed = reached(work, ceiling)
    return Hotspot(
        name=first["name"] if len(rows) == 1 else first["op"],
        op=first["op"],
        provider=first["provider"],
        count=len(rows),
        ms=ms,
        share=ms / kernels if kernels else 0.0,
        macs=total(each.macs for each in work),
        bytes=total(each.bytes for each in work),
        gflops=speed.gflops,
        gbs=speed.gbs,
        of_ceiling=speed.of_ceiling,
        bound=speed.bound,
        shapes=_shapes(first["inputs"]) if len(rows) == 1 else "",
    )


def _shapes(inputs: Sequence[Sequence[int]]) -> str:
    return ", ".join("×".join(map(str, shape)) or "1" for shape in inputs)


def _with_einsums(path: str, rows: Sequence[Row]) -> list[Row]:
    """Count the MACs of each Einsum, whose equation stands in the model and not in a trace."""
    if not any(row["op"] == "Einsum" and row["macs"] is None for row in rows):
        return list(rows)
    equations = _equations(path)
    return [
        {**row, "macs": _einsum(row, equations.get(row["name"], ""))}
        if row["op"] == "Einsum"
        else row
        for row in rows
    ]


def _einsum(row: Row, equation: str) -> int | None:
    count = macs("Einsum", [tuple(shape) for shape in row["inputs"]], (), equation)
    return None if count is None else round(count * row["calls"])


def _equations(path: str) -> dict[str, str]:
    """Return the equation of each named Einsum of a model."""
    from onnxopt.graph import facts, io

    try:
        model = io.load(path)
    except OnnxOptError:
        return {}
    return {
        node.name or "": node.attributes.get_string("equation", "") or ""
        for graph, _ in facts.scopes(model)
        for node in graph
        if node.op_type == "Einsum"
    }
