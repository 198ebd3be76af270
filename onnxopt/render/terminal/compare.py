"""Whether two models compute the same, on a terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType

from onnxopt.render import rows
from onnxopt.render.terminal.blocks import BAD, GOOD, file_line, line, outputs_table, section
from onnxopt.report import CompareReport


def report(result: CompareReport, *, verbose: bool = False) -> RenderableType:
    """Show both files, each output, then the verdict."""
    parts: list[RenderableType] = [
        line(f"reference  {file_line(result.reference)}"),
        line(f"candidate  {file_line(result.candidate)}"),
        line(""),
    ]
    if result.verification.outputs:
        ordered = rows.failing_first(result.verification.outputs)
        parts.append(section("Outputs", outputs_table(ordered, verbose=verbose)))
    sentence, good = rows.verdict(result.verification)
    parts.append(line(sentence, GOOD if good else BAD))
    return Group(*parts)
