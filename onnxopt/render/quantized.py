"""What the reports of `quantize` say, laid out by neither terminal nor Markdown nor HTML."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from onnxopt.render import judged
from onnxopt.render.words import count, counts_text, decibel, optional_db, time_text
from onnxopt.report import (
    FrontPoint,
    PairSums,
    QuantizedTensor,
    QuantizeReport,
    Region,
    Repair,
)
from onnxopt.text import human_seconds, plural

FRONT_HEADER = ("choice", "int8", "SQNR", "metric", "speed")


class OpRow(NamedTuple):
    """All regions of one operator: how many became what, and their times as they are now."""

    op: str
    int8: int
    kept: int
    before_ms: float
    after_ms: float


def made_for(report: QuantizeReport) -> str:
    """Say what the result is made for: `cpu, avx2 (found here), qdq`."""
    how = "given" if report.isa_given else "found here"
    parts = [report.target, *([f"{report.isa} ({how})"] if report.isa else []), report.format]
    return ", ".join(parts)


def calibration(report: QuantizeReport) -> str:
    """Say which data ranges are from, and how weights were rounded on them."""
    told = judged.calibration(report.calibration, "calibrated", doubt="ranges and errors")
    if not told or not report.rounding or judged.is_random(report):
        return told
    way = "to the nearest" if report.rounding == "nearest" else f"by {report.rounding}"
    return f"{told}; weights rounded {way}"


def speed(report: QuantizeReport) -> str:
    """Say in one sentence how fast the result is, or what is known instead."""
    chosen = report.chosen()
    known = chosen is not None and chosen.ratio is not None
    guess = f"{chosen.ratio:.2f}× by the times of its regions" if chosen and known else ""
    return judged.speed(report.difference, guess)


def outcome(report: QuantizeReport) -> str:
    """Say what became of the model, and of the file."""
    if report.status == "quantized" and report.written:
        return f"wrote {report.output.path} ({judged.size_change(report)})"
    if report.status == "quantized":
        return "quantized, nothing written"
    copied = f", copied to {report.output.path}" if report.written else ", nothing written"
    if report.status == "untouched":
        return f"left untouched: {report.reason}{copied}"
    return judged.refusal(report, "NOT QUANTIZED")


def operators(report: QuantizeReport) -> list[OpRow]:
    """Gather regions by operator, the most time in float first."""
    found: dict[str, OpRow] = {}
    for region in report.regions:
        before = region.float_ms or 0.0
        after = (region.int8_ms or 0.0) if region.became == "int8" else before
        row = found.get(region.op, OpRow(region.op, 0, 0, 0.0, 0.0))
        found[region.op] = OpRow(
            region.op,
            row.int8 + (region.became == "int8"),
            row.kept + (region.became == "float"),
            row.before_ms + before,
            row.after_ms + after,
        )
    return sorted(found.values(), key=lambda row: (-row.before_ms, -(row.int8 + row.kept), row.op))


def op_cells(row: OpRow) -> tuple[str, ...]:
    """Write a row of regions by operator."""
    times = (row.before_ms, row.after_ms)
    return (row.op, count(row.int8), count(row.kept), *(time_text(ms or None) for ms in times))


def region_cells(region: Region) -> tuple[str, ...]:
    """Write operator, what it became, times, sensitivity and why."""
    return (
        region.op,
        region.became,
        time_text(region.float_ms),
        time_text(region.int8_ms),
        optional_db(region.sqnr_db),
        region.reason,
    )


def left_in_float(report: QuantizeReport) -> list[Region]:
    """List the regions that stayed float, the costliest first."""
    stayed = [region for region in report.regions if region.became == "float"]
    return sorted(stayed, key=lambda region: -(region.float_ms or 0.0))


def worst_tensors(report: QuantizeReport, most: int) -> list[QuantizedTensor]:
    """List the tensors that lose most by being quantized, the worst first."""
    known = [each for each in report.tensors if each.sqnr_db is not None]
    return sorted(known, key=lambda each: judged.number(each.sqnr_db))[:most]


def tensor_cells(tensor: QuantizedTensor) -> tuple[str, ...]:
    """Write the error, role, type, scale, zero point, range seen, and what is clipped."""
    return (
        optional_db(tensor.sqnr_db),
        tensor.role,
        tensor.dtype,
        scale_text(tensor),
        "" if tensor.zero_point is None else str(tensor.zero_point),
        range_text(tensor.low, tensor.high),
        f"{tensor.clipped:.2%}" if tensor.clipped else "",
    )


def scale_text(tensor: QuantizedTensor) -> str:
    """Write the scale, or the least and the greatest of all channels."""
    low, high = tensor.scale
    if tensor.channels == 1 or low == high:
        return f"{low:.3g}"
    return f"{low:.2g}–{high:.2g} × {tensor.channels:,}"


def range_text(low: float, high: float) -> str:
    """Write `-1.2 … 6`."""
    return f"{low:.3g} … {high:.3g}"


def front_rows(report: QuantizeReport) -> list[tuple[FrontPoint, tuple[str, ...]]]:
    """Write each choice, as `FRONT_HEADER` names it."""
    return [
        (
            point,
            (
                point.name,
                f"{point.int8_regions} of {len(report.regions)}",
                decibel(point.sqnr_db),
                judged.point_metric(point.metric),
                point_speed(point),
            ),
        )
        for point in report.front
    ]


def point_speed(point: FrontPoint) -> str:
    """Write the speed of a choice against float, and say where it is only predicted."""
    return judged.point_speed(point.difference, point.predicted)


def repair_cells(repair: Repair) -> tuple[str, ...]:
    """Write name, error before and after, time, and what became of it."""
    what = counts_text(repair.done)
    fate = repair.status if repair.status != "kept" or not what else ""
    told = ", ".join(part for part in (what, fate) if part)
    if repair.reason:
        told = f"{told}: {repair.reason}"
    return (
        repair.name,
        f"{repair.sqnr_before_db:.1f} → {repair.sqnr_after_db:.1f} dB",
        human_seconds(repair.seconds),
        told,
    )


def saturation(report: QuantizeReport) -> list[str]:
    """Say whether anything could overflow without a word, and what was done about it."""
    found = report.saturation
    if found is None:
        return []
    probe = [f"tried on this onnxruntime: {found.probe}"] if found.probe else []
    if not found.adds_in_16_bits:
        return [f"{found.isa or report.target} adds in 32 bits: nothing can overflow", *probe]
    text = f"{found.isa} adds two products in 16 bits"
    if found.total is not None:
        text += f": {pair_text(found.total)}"
    return [text, *probe]


def pair_text(pairs: PairSums) -> str:
    """Write how many pairs could overflow, and what was done."""
    if not pairs.overflowing:
        return f"none of {plural(pairs.pairs, 'pair')} can overflow"
    mended = "all mended" if not pairs.remaining else f"{pairs.remaining:,} STILL CAN"
    return (
        f"{pairs.overflowing:,} of {plural(pairs.pairs, 'pair')} could overflow, {mended} "
        f"({pairs.rows_mended:,} of {plural(pairs.rows, 'channel')} changed)"
    )


def audit(report: QuantizeReport) -> list[str]:
    """Say what became of the Q/DQ pairs once loaded; faults come by themselves."""
    found = report.audit
    if found is None:
        return []
    if found.reason:
        return [f"not audited: {found.reason}"]
    total = found.fused + found.left_over
    text = f"{found.fused:,} of {plural(total, 'Q/DQ pair')} are part of int8 kernels"
    if found.kernels:
        text += f" ({counts_text(found.kernels)})"
    if found.left_over:
        text += f"; {found.left_over:,} run by themselves"
    return [f"loaded by {found.engine}: {text}"]


def faults(report: QuantizeReport) -> list[str]:
    """Name what costs time at every run for nothing."""
    entries = report.audit.entries if report.audit is not None else ()
    return [
        f"FAULT: {each.tensor} at {each.node}: {each.reason or 'left over'}"
        for each in entries
        if each.fault
    ]


def sections(regions: Sequence[Region]) -> str:
    """Count regions: `46 of 58 regions in int8`."""
    made = sum(region.became == "int8" for region in regions)
    return f"{made:,} of {plural(len(regions), 'region')} in int8"
