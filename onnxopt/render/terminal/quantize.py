"""What `quantize` did, proved and measured, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from onnxopt.render import quantized
from onnxopt.render.terminal.blocks import (
    BAD,
    CARE,
    FAINT,
    GOOD,
    LongTable,
    file_line,
    heading,
    line,
    notes,
    row,
    section,
    table,
)
from onnxopt.render.words import decibel, small
from onnxopt.report import Comparison, QuantizeReport, Region
from onnxopt.text import human_bytes, human_seconds

_SHOWN = 6
_VERDICT_STYLES = {"faster": GOOD, "slower": BAD}


def report(result: QuantizeReport, *, verbose: bool = False) -> RenderableType:
    """Show the tables first and the verdicts last, where the eye is when the work ends."""
    parts: list[RenderableType] = [line(file_line(result.input), "bold")]
    parts.append(line(f"int8 for {quantized.made_for(result)}", FAINT))
    if text := quantized.calibration(result):
        random = result.calibration is not None and result.calibration.random
        parts.append(line(text, BAD if random else FAINT))
    parts.append(line(""))
    parts += _regions(result, verbose=verbose)
    if result.repairs:
        parts.append(section("Repairs", _repairs(result)))
    if result.front:
        parts.append(section("Choices, from accurate to fast", _front(result)))
    if result.verification is not None and result.verification.outputs:
        parts.append(
            section(
                "Outputs on held-out samples",
                _outputs(result, result.verification, verbose=verbose),
            )
        )
    parts += _tensors(result, verbose=verbose)
    parts += _kernels(result, verbose=verbose)
    parts += notes(quantized.warnings(result))
    return Group(*parts, *_verdicts(result))


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
        body += [line(f"{each.name}: {each.reason}") for each in stayed[:_SHOWN]]
        body += _more(len(stayed))
    parts = [section(f"Regions: {quantized.sections(result.regions)}", *body)]
    if verbose:
        cells = [(*quantized.region_cells(each)[:5], _named(each)) for each in result.regions]
        header = ("op", "became", "float ms", "int8 ms", "alone", "region")
        parts += _long("Each region", LongTable(header, cells, numbers=5))
    return parts


def _long(title: str, made: LongTable) -> list[RenderableType]:
    """Put a heading over a table that indents itself and may be wider than the screen."""
    return [heading(title), made, line("")]


def _named(region: Region) -> str:
    return f"{region.name}: {region.reason}" if region.reason else region.name


def _repairs(result: QuantizeReport) -> RenderableType:
    made = table("", "SQNR", "time", "done", right=("SQNR", "time"))
    for each in result.repairs:
        style = {"kept": "", "unchanged": FAINT}.get(each.status, CARE)
        row(made, quantized.repair_cells(each), style)
    return made


def _front(result: QuantizeReport) -> RenderableType:
    rows = quantized.front_rows(result)
    measured = any(cells[3] for _, cells in rows)
    header = ["", "choice", "int8", "SQNR", *(["metric"] if measured else []), "speed"]
    made = table(*header, right=("int8", "SQNR", "metric"))
    for point, (name, int8, sqnr, metric, speed) in rows:
        mark = "→" if point.chosen else ""
        cells = (mark, name, int8, sqnr, *([metric] if measured else []), speed)
        row(made, cells, "bold" if point.chosen else "")
    return made


def _outputs(result: QuantizeReport, found: Comparison, *, verbose: bool) -> RenderableType:
    shown = found.outputs if verbose else found.outputs[:_SHOWN]
    told = {each.name: each for each in result.quality}
    classes = any(each.agreement is not None for each in result.quality)
    header = ["output", "SQNR", "95 % above", "cosine", "max abs", *(["same"] if classes else [])]
    made = table(*header, right=header[1:])
    for each in shown:
        more = told.get(each.name)
        cells = [each.name, decibel(each.sqnr_db)]
        cells.append(decibel(more.sqnr_p5_db) if more else "")
        cells += [f"{each.cosine:.5f}", small(each.max_abs)]
        if classes:
            share = more.agreement if more is not None else None
            cells.append("" if share is None else quantized.agreement(share))
        row(made, cells, "" if each.passed else BAD)
    parts: list[RenderableType] = [made]
    parts += [line(f"{each.name}: {each.reason}", BAD) for each in shown if each.reason]
    return Group(*parts, *_more(len(found.outputs), len(shown)))


def _tensors(result: QuantizeReport, *, verbose: bool) -> list[RenderableType]:
    if verbose and result.tensors:
        header = ("SQNR", "role", "type", "scale", "zero", "seen", "clipped", "tensor")
        cells = [(*quantized.tensor_cells(each), each.name) for each in result.tensors]
        return _long("Tensors", LongTable(header, cells, numbers=7))
    worst = quantized.worst_tensors(result, _SHOWN)
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


def _verdicts(result: QuantizeReport) -> list[RenderableType]:
    lines: list[RenderableType] = []
    if result.regions or result.verification is not None:
        passed = result.verification is not None and result.verification.passed
        lines.append(line(quantized.accuracy(result), GOOD if passed else CARE))
        if text := quantized.score(result):
            lines.append(line(text))
        verdict = result.difference.verdict if result.difference is not None else ""
        lines.append(line(quantized.speed(result), _VERDICT_STYLES.get(verdict, "")))
    lines += [line(f"failed: {text}", BAD) for text in quantized.failed_gates(result)]
    refused = result.status == "refused"
    lines.append(line(quantized.outcome(result), BAD if refused else "bold"))
    cost = f"took {human_seconds(result.seconds)}, "
    return [*lines, line(cost + f"peak memory {human_bytes(result.peak_rss_bytes)}", FAINT)]


def _more(count: int, shown: int = _SHOWN) -> Sequence[RenderableType]:
    return [line(f"and {count - shown} more (-v shows them)", FAINT)] if count > shown else []
