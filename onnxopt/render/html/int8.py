"""What stands on the page of `quantize`, as plain texts for the template."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from onnxopt.render import judged, quantized
from onnxopt.render.html import scatters
from onnxopt.render.html.figures import Look
from onnxopt.render.html.judged import (
    along,
    front,
    keys_of,
    plot,
    shared,
    size,
    speed_and_error,
    timed,
)
from onnxopt.render.html.plots import Plot
from onnxopt.render.html.scatters import Dot
from onnxopt.render.words import decibel, file_name
from onnxopt.report import QuantizedTensor, QuantizeReport, Region

_WORST = 12
_INT8, _FLOAT = Look(colour=0, shape=0), Look(colour=1, shape=1)
_BECAME = {_INT8: "became int8", _FLOAT: "stayed float"}
_ROLES = {
    "activation": Look(colour=0, shape=0),
    "weight": Look(colour=2, shape=2),
    "bias": Look(colour=3, shape=3),
}


def view(report: QuantizeReport) -> dict[str, Any]:
    """Return what the template shows."""
    found = shared(
        report,
        made=quantized.made_for(report),
        data=quantized.calibration(report),
        header=quantized.FRONT_HEADER,
        front=quantized.front_rows(report),
    )
    return found | {
        "title": f"{file_name(report.input)} in int8",
        "heads": list(_heads(report)),
        "failed": [*judged.failed_gates(report), *quantized.faults(report)],
        "front_plots": list(_front(report)),
        "operators": [quantized.op_cells(each) for each in quantized.operators(report)],
        "region_plots": [*_errors(report), *_times(report)],
        "sections": quantized.sections(report.regions),
        "stayed": _region_rows(quantized.left_in_float(report)),
        "regions": _region_rows(report.regions),
        "repairs": [quantized.repair_cells(each) for each in report.repairs],
        "tensor_plots": list(_tensor_errors(report)),
        "worst": _tensor_rows(quantized.worst_tensors(report, _WORST)),
        "tensors": _tensor_rows(report.tensors),
        "kernels": [*quantized.saturation(report), *quantized.audit(report)],
        "overflows": _overflows(report),
        "left_over": _left_over(report),
    }


def _heads(report: QuantizeReport) -> Iterator[dict[str, str]]:
    """Give what is read first: what became of it, how fast, how right, how large."""
    if report.status != "quantized":
        refused = report.status == "refused"
        head = "not quantized" if refused else "left untouched"
        text = quantized.outcome(report).partition(": ")[2]
        yield {"style": "bad" if refused else "same", "head": head, "text": text}
    yield from speed_and_error(report, quantized.speed(report), tried=bool(report.regions))
    if report.status == "quantized":
        yield size(report, quantized.outcome(report))


def _front(report: QuantizeReport) -> Iterator[Plot]:
    choices = [
        (
            f"{p.name}: {decibel(p.sqnr_db)}, {quantized.point_speed(p)}",
            timed(p.sqnr_db, p.ratio, p.difference, chosen=p.chosen),
        )
        for p in report.front
    ]
    caption = "Up is more exact, to the left is faster; the dashed line is the float model."
    return front(choices, report, caption=caption, x="time against float", one="float")


def _errors(report: QuantizeReport) -> Iterator[Plot]:
    """Draw what each region alone does to the outputs."""
    return along(
        [(each.name, each.sqnr_db, _look(each)) for each in report.regions],
        key="errors",
        title="What each region alone does to the outputs",
        caption="Nothing but this region in int8: lower is worse.",
        y="SQNR of the outputs, dB",
        x="region, in graph order",
        legend=_BECAME,
    )


def _times(report: QuantizeReport) -> Iterator[Plot]:
    known = [each for each in report.regions if each.float_ms and each.int8_ms]
    if not known:
        return
    dots = [Dot(x=r.float_ms or 0.0, y=r.int8_ms or 0.0, look=_look(r)) for r in known]
    yield plot(
        "times", "Time of each region",
        "Below the dashed line int8 is faster, conversions at its borders included.",
        f"{sum(dot.y < dot.x for dot in dots)} of {len(dots)} regions are faster in int8",
        lambda: scatters.against(dots, x="float, ms", y="int8, ms"),
        keys_of([dot.look for dot in dots], _BECAME),
    )  # fmt: skip


def _tensor_errors(report: QuantizeReport) -> Iterator[Plot]:
    return along(
        [(each.name, each.sqnr_db, _ROLES[each.role]) for each in report.tensors],
        key="tensors",
        title="What rounding does to each tensor",
        caption="Of the tensor itself, lower is worse; numbers are its place in the table.",
        y="SQNR of the tensor, dB",
        x="tensor, in graph order",
        legend={look: role for role, look in _ROLES.items()},
        named=False,
    )


def _look(region: Region) -> Look:
    return _INT8 if region.became == "int8" else _FLOAT


def _region_rows(regions: Sequence[Region]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "cells": quantized.region_cells(each)[1:5], "reason": each.reason,
         "op": each.op, "more": max(0, len(each.nodes) - 1)}
        for each in regions
    ]  # fmt: skip


def _tensor_rows(tensors: Sequence[QuantizedTensor]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "cells": quantized.tensor_cells(each), "method": each.method,
         "shared": len(each.shared_with)}
        for each in tensors
    ]  # fmt: skip


def _overflows(report: QuantizeReport) -> list[tuple[str, str]]:
    found = [(each.name, each.pair_sums) for each in report.regions if each.pair_sums is not None]
    told = [(name, pairs) for name, pairs in found if pairs.overflowing]
    ordered = sorted(told, key=lambda item: (-item[1].remaining, -item[1].overflowing))
    return [(name, quantized.pair_text(pairs)) for name, pairs in ordered]


def _left_over(report: QuantizeReport) -> list[tuple[str, str]]:
    entries = report.audit.entries if report.audit is not None else ()
    return [(each.tensor, each.reason or "no reason known") for each in entries if not each.kernel]
