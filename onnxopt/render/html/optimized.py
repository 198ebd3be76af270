"""What stands on the page of `optimize`, as plain texts for the template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnxopt.render import rows
from onnxopt.render.html.judged import ROWS, WARNINGS, files, steps
from onnxopt.render.words import file_name
from onnxopt.report import OptimizeReport, OutputComparison
from onnxopt.text import human_bytes, human_seconds

_STYLES = {"faster": "good", "slower": "bad"}


def view(report: OptimizeReport) -> dict[str, Any]:
    """Return what the template shows, but for the pages of what followed."""
    changes = [
        *rows.totals(report.input, report.output),
        *rows.changed_operators(report.input, report.output),
    ]
    proven = report.verification
    took = f"took {human_seconds(report.seconds)}, {human_bytes(report.peak_rss_bytes)}"
    warnings = [*rows.drops(report), *rows.warnings(report)]
    return {
        "title": f"{file_name(report.input)}, optimized",
        "part": "",
        "facts": [f"for {report.target}{rows.then(report)}", took],
        "random": "",
        "heads": list(_heads(report)),
        "failed": [text] if (text := rows.optimize_failure(report)) else [],
        "cautions": [{"who": "", "caution": text} for text in warnings],
        "many_cautions": WARNINGS,
        "operators": changes,
        "unchanged": rows.unchanged_operators(report.input, report.output),
        "outputs": [_output(each) for each in (proven.outputs if proven is not None else ())],
        "steps": steps(rows.worth_showing(report.steps, verbose=False)),
        "files": files(report.input, report.output),
        "measured": rows.measured(report),
        "most": ROWS,
    }


def _heads(report: OptimizeReport) -> Iterator[dict[str, str]]:
    """Give what is read first: how fast, whether it is the same, how large."""
    sentence, good = rows.verdict(report.verification)
    if report.difference is not None:
        head, _, rest = report.difference.sentence().partition(", ")
        style = _STYLES.get(report.difference.verdict, "same")
        yield {"style": style, "head": head, "text": f"on {report.difference.provider}; {rest}"}
    elif not report.chain():
        yield {"style": "same", "head": "not measured", "text": rows.speed(report)}
    head, _, rest = sentence.partition(": ")
    failed = report.verification is not None and not report.verification.passed
    what = "what is exact: " if report.chain() else ""
    style = "good" if good else "bad" if failed else "same"
    yield {"style": style, "head": head, "text": what + rest}
    if report.written:
        before, after = (human_bytes(each.file_bytes) for each in (report.input, report.output))
        text = f"wrote {report.output.path}"
        yield {"style": "same", "head": f"{before} → {after}", "text": text}
    else:
        yield {"style": "bad", "head": "nothing written", "text": ""}


def _output(each: OutputComparison) -> dict[str, Any]:
    return {"name": each.name, "reason": each.reason, "cells": rows.output_cells(each)}
