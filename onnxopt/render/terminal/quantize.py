"""What `quantize` did, proved and measured, on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from onnxopt.render import judged, quantized
from onnxopt.render.terminal.blocks import (
    BAD,
    CARE,
    FAINT,
    LongTable,
    line,
    long_section,
    more,
    notes,
    row,
    section,
    table,
)
from onnxopt.render.terminal.judged import SHOWN, front, opening, outputs, verdicts
from onnxopt.report import QuantizeReport, Region


def report(result: QuantizeReport, *, verbose: bool = False, title: str = "") -> RenderableType:
    """Show the tables first and the verdicts last, where the eye is when the work ends."""
    what = f"int8 for {quantized.made_for(result)}"
    parts = opening(result, what, quantized.calibration(result), title=title)
    parts += _regions(result, verbose=verbose)
    if result.repairs:
        parts.append(section("Repairs", _repairs(result)))
    parts += front(quantized.FRONT_HEADER, quantized.front_rows(result))
    parts += outputs(result, verbose=verbose)
    parts += _tensors(result, verbose=verbose)
    parts += _kernels(result, verbose=verbose)
    parts += notes(judged.warnings(result))
    ends = verdicts(
        result,
        speed=quantized.speed(result),
        outcome=quantized.outcome(result),
        tried=bool(result.regions),
    )
    return Group(*parts, *ends)


def _regions(result: QuantizeReport, *, verbose: bool) -> list[RenderableType]:
    if not result.regions:
        return []
    made = table(
        "", "int8", "float", "ms before", "ms now", right=("int8", "float", "ms before", "ms now")
    )
    for each in quantized.operators(result):
        row(made, quantized.op_cells(each))
    body: list[RenderableType] = [made]
    stayed = quantized.left_in_float(result)
    if stayed and not verbose:
        body += [line(""), line("stayed float", FAINT)]
        body += [line(f"{each.name}: {each.reason}") for each in stayed[:SHOWN]]
        body += more(len(stayed), SHOWN)
    parts = [section(f"Regions: {quantized.sections(result.regions)}", *body)]
    if verbose:
        cells = [(*quantized.region_cells(each)[:5], _named(each)) for each in result.regions]
        header = ("op", "became", "float ms", "int8 ms", "alone", "region")
        parts += long_section("Each region", LongTable(header, cells, numbers=5))
    return parts


def _named(region: Region) -> str:
    return f"{region.name}: {region.reason}" if region.reason else region.name


def _repairs(result: QuantizeReport) -> RenderableType:
    made = table("", "SQNR", "time", "done", right=("SQNR", "time"))
    for each in result.repairs:
        style = {"kept": "", "unchanged": FAINT}.get(each.status, CARE)
        row(made, quantized.repair_cells(each), style)
    return made


def _tensors(result: QuantizeReport, *, verbose: bool) -> list[RenderableType]:
    if verbose and result.tensors:
        header = ("SQNR", "role", "type", "scale", "zero", "seen", "clipped", "tensor")
        cells = [(*quantized.tensor_cells(each), each.name) for each in result.tensors]
        return long_section("Tensors", LongTable(header, cells, numbers=7))
    worst = quantized.worst_tensors(result, SHOWN)
    if not worst:
        return []
    made = table("SQNR", "role", "seen", "tensor", right=("SQNR",))
    for each in worst:
        sqnr, role, _, _, _, seen, _ = quantized.tensor_cells(each)
        row(made, (sqnr, role, seen, each.name))
    return [section("Tensors that lose most", made)]


def _kernels(result: QuantizeReport, *, verbose: bool) -> list[RenderableType]:
    told = [line(text) for text in (*quantized.saturation(result), *quantized.audit(result))]
    total = result.saturation.total if result.saturation is not None else None
    if total is not None and total.remaining:
        told[0].style = BAD
    told += [line(text, BAD) for text in quantized.faults(result)]
    if verbose and result.audit is not None:
        told += [
            line(f"{each.tensor}: {each.kernel or each.reason or 'left over'}", FAINT)
            for each in result.audit.entries
            if not each.fault
        ]
    return [section("Kernels", *told)] if told else []
