"""What became int8, what that costs and gains, as Markdown."""

from __future__ import annotations

from onnxopt.render import quantized
from onnxopt.render.markdown.blocks import bullets, code, escape, folded, join, name, table
from onnxopt.render.words import decibel, small
from onnxopt.report import QuantizeReport

_SHOWN = 20


def quantize(report: QuantizeReport) -> str:
    """Write the verdicts and the choices, and the details folded away."""
    good = {"quantized": "✅", "untouched": "⚪"}.get(report.status, "❌") if report else "❌"
    random = report.calibration is not None and report.calibration.random
    parts = [
        f"### {good} {code(name(report.input))} in int8 for {escape(quantized.made_for(report))}",
        f"⚠️ {escape(quantized.calibration(report))}" if random else "",
        bullets(_verdicts(report)),
        bullets(f"❌ {text}" for text in (*quantized.failed_gates(report), *_faults(report))),
        bullets(f"warning: {text}" for text in quantized.warnings(report)),
        _front(report),
        _operators(report),
        *_folded(report),
    ]
    return join(parts)


def _verdicts(report: QuantizeReport) -> list[str]:
    told = [quantized.outcome(report)]
    if report.regions or report.verification is not None:
        told += [quantized.accuracy(report), quantized.score(report), quantized.speed(report)]
    told += [quantized.calibration(report), *quantized.saturation(report), *quantized.audit(report)]
    return [text for text in told if text]


def _faults(report: QuantizeReport) -> list[str]:
    return quantized.faults(report)[:_SHOWN]


def _front(report: QuantizeReport) -> str:
    rows = quantized.front_rows(report)
    if not rows:
        return ""
    measured = any(cells[3] for _, cells in rows)
    header = ["choice", "int8", "SQNR", *(["metric"] if measured else []), "speed"]
    body = []
    for point, (title, int8, sqnr, metric, speed) in rows:
        shown = f"→ {title}" if point.chosen else title
        body.append((shown, int8, sqnr, *([metric] if measured else []), speed))
    return table(header, body, left=1)


def _operators(report: QuantizeReport) -> str:
    if not report.regions:
        return ""
    cells = map(quantized.op_cells, quantized.operators(report))
    header = (quantized.sections(report.regions), "int8", "float", "ms before", "ms now")
    return table(header, cells, left=1)


def _folded(report: QuantizeReport) -> list[str]:
    made = {
        "What stayed float, and why": _stayed(report),
        "Repairs": _repairs(report),
        "Outputs on held-out samples": _outputs(report),
        "Tensors that lose most": _tensors(report),
    }
    return [folded(title, body) for title, body in made.items() if body]


def _stayed(report: QuantizeReport) -> str:
    stayed = quantized.left_in_float(report)
    if not stayed:
        return ""
    rows = [(each.name, *quantized.region_cells(each)) for each in stayed[:_SHOWN]]
    made = table(
        ("region", "op", "float ms", "int8 ms", "SQNR alone", "why"),
        ((title, op, *numbers, why) for title, op, _, *numbers, why in rows),
        left=2,
        last=True,
    )
    more = len(stayed) - _SHOWN
    return f"{made}\n\nand {more} more" if more > 0 else made


def _repairs(report: QuantizeReport) -> str:
    if not report.repairs:
        return ""
    rows = map(quantized.repair_cells, report.repairs)
    return table(("repair", "SQNR", "time", "done"), rows, left=1, last=True)


def _outputs(report: QuantizeReport) -> str:
    found = report.verification
    if found is None or not found.outputs:
        return ""
    told = {each.name: each for each in report.quality}
    rows = []
    for each in found.outputs[:_SHOWN]:
        more = told.get(each.name)
        share = more.agreement if more is not None else None
        rows.append(
            (
                each.name,
                decibel(each.sqnr_db),
                decibel(more.sqnr_p5_db) if more else "",
                f"{each.cosine:.5f}",
                small(each.max_abs),
                "" if share is None else quantized.agreement(share),
                "" if each.passed else f"fails {each.reason}".rstrip(),
            )
        )
    header = ("output", "SQNR", "95 % above", "cosine", "max abs", "same class", "")
    return table(header, rows, left=1, last=True)


def _tensors(report: QuantizeReport) -> str:
    worst = quantized.worst_tensors(report, _SHOWN)
    if not worst:
        return ""
    header = ("tensor", "SQNR", "role", "type", "scale", "zero", "seen", "clipped")
    return table(header, ((each.name, *quantized.tensor_cells(each)) for each in worst), left=1)
