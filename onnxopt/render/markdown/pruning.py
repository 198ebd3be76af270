"""What was taken out of a model, what that costs and gains, as Markdown."""

from __future__ import annotations

from onnxopt.render import judged, pruned
from onnxopt.render.markdown.blocks import bullets, code, escape, folded, join, table
from onnxopt.render.markdown.judged import SHOWN, cut, front, outputs
from onnxopt.render.words import file_name
from onnxopt.report import PruneReport


def prune(report: PruneReport) -> str:
    """Write the verdicts and the choices, and the details folded away."""
    good = {"pruned": "✅", "masked": "⚪"}.get(report.status, "❌") if report else "❌"
    what = escape(pruned.made_for(report))
    gains = pruned.gains(report)
    parts = [
        f"### {good} {code(file_name(report.input))} pruned: {what}",
        f"⚠️ {escape(pruned.calibration(report))}" if judged.is_random(report) else "",
        bullets(_verdicts(report)),
        bullets(f"❌ {text}" for text in judged.failed_gates(report)),
        bullets(f"warning: {text}" for text in judged.warnings(report)),
        f"> {escape(gains)}" if gains else "",
        front(pruned.FRONT_HEADER, pruned.front_rows(report)),
        _attempts(report),
        *_folded(report),
    ]
    return join(parts)


def _verdicts(report: PruneReport) -> list[str]:
    told = [pruned.outcome(report)]
    if report.status == "pruned" or report.verification is not None:
        told += [judged.accuracy(report), judged.score(report)]
        told += [pruned.size(report), pruned.speed(report)]
    return [text for text in (*told, pruned.calibration(report)) if text]


def _attempts(report: PruneReport) -> str:
    if not report.attempts:
        return ""
    rows = pruned.attempt_rows(report)
    return table(*judged.filled(pruned.ATTEMPT_HEADER, rows), left=1, last=True)


def _folded(report: PruneReport) -> list[str]:
    made = {
        escape(pruned.summary(report)): _parts(report),
        "What cannot go, and why": _frozen(report),
        "Size": _sizes(report),
        "Outputs on held-out samples": outputs(report),
    }
    return [folded(title, body) for title, body in made.items() if body]


def _parts(report: PruneReport) -> str:
    if not report.parts:
        return ""
    header, rows = judged.filled(pruned.part_header(report), pruned.part_rows(report)[:SHOWN])
    return cut(table(header, rows, left=1, last=header[-1] == "why"), len(report.parts))


def _sizes(report: PruneReport) -> str:
    if report.status != "pruned":
        return ""
    return table(("", "before", "after", "change"), pruned.sizes(report), left=1)


def _frozen(report: PruneReport) -> str:
    reasons = pruned.frozen(report)
    return cut(bullets(pruned.frozen_text(*each) for each in reasons[:SHOWN]), len(reasons))
