"""What became int8, what that costs and gains, as Markdown."""

from __future__ import annotations

from onnxopt.render import judged, quantized
from onnxopt.render.markdown.blocks import bullets, code, escape, folded, join, table
from onnxopt.render.markdown.judged import SHOWN, cut, front, outputs
from onnxopt.render.words import file_name
from onnxopt.report import QuantizeReport


def quantize(report: QuantizeReport) -> str:
    """Write the verdicts and the choices, and the details folded away."""
    good = {"quantized": "✅", "untouched": "⚪"}.get(report.status, "❌") if report else "❌"
    what = escape(quantized.made_for(report))
    parts = [
        f"### {good} {code(file_name(report.input))} in int8 for {what}",
        f"⚠️ {escape(quantized.calibration(report))}" if judged.is_random(report) else "",
        bullets(_verdicts(report)),
        bullets(f"❌ {text}" for text in (*judged.failed_gates(report), *_faults(report))),
        bullets(f"warning: {text}" for text in judged.warnings(report)),
        front(quantized.FRONT_HEADER, quantized.front_rows(report)),
        _operators(report),
        *_folded(report),
    ]
    return join(parts)


def _verdicts(report: QuantizeReport) -> list[str]:
    told = [quantized.outcome(report)]
    if report.regions or report.verification is not None:
        told += [judged.accuracy(report), judged.score(report), quantized.speed(report)]
    told += [quantized.calibration(report), *quantized.saturation(report), *quantized.audit(report)]
    return [text for text in told if text]


def _faults(report: QuantizeReport) -> list[str]:
    return quantized.faults(report)[:SHOWN]


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
        "Outputs on held-out samples": outputs(report),
        "Tensors that lose most": _tensors(report),
    }
    return [folded(title, body) for title, body in made.items() if body]


def _stayed(report: QuantizeReport) -> str:
    stayed = quantized.left_in_float(report)
    if not stayed:
        return ""
    rows = [(each.name, *quantized.region_cells(each)) for each in stayed[:SHOWN]]
    made = table(
        ("region", "op", "float ms", "int8 ms", "SQNR alone", "why"),
        ((title, op, *numbers, why) for title, op, _, *numbers, why in rows),
        left=2,
        last=True,
    )
    return cut(made, len(stayed))


def _repairs(report: QuantizeReport) -> str:
    if not report.repairs:
        return ""
    rows = map(quantized.repair_cells, report.repairs)
    return table(("repair", "SQNR", "time", "done"), rows, left=1, last=True)


def _tensors(report: QuantizeReport) -> str:
    worst = quantized.worst_tensors(report, SHOWN)
    if not worst:
        return ""
    header = ("tensor", "SQNR", "role", "type", "scale", "zero", "seen", "clipped")
    return table(header, ((each.name, *quantized.tensor_cells(each)) for each in worst), left=1)
