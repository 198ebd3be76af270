"""What `quantize` and `prune` show alike on a terminal: choices, outputs, verdicts."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import RenderableType

from onnxopt.render import judged
from onnxopt.render.judged import Judged
from onnxopt.render.terminal.blocks import (
    BAD,
    CARE,
    FAINT,
    GOOD,
    file_line,
    line,
    more,
    row,
    section,
    table,
)
from onnxopt.report import FrontPoint, PrunePoint
from onnxopt.text import human_bytes, human_seconds

SHOWN = 6
_VERDICT_STYLES = {"faster": GOOD, "slower": BAD}


def opening(result: Judged, what: str, data: str, *, title: str = "") -> list[RenderableType]:
    """Say which model it is, or `title`, what was made of it, and from which data."""
    first = line(title or file_line(result.input), "bold")
    parts: list[RenderableType] = [first, line(what, FAINT)]
    if data:
        parts.append(line(data, BAD if judged.is_random(result) else FAINT))
    return [*parts, line("")]


def front(
    header: Sequence[str], rows: Sequence[tuple[FrontPoint | PrunePoint, judged.Cells]]
) -> list[RenderableType]:
    """Show the choices there were, the chosen one marked."""
    if not rows:
        return []
    shown, cells = judged.filled(header, [each for _, each in rows])
    made = table("", *shown, right=[name for name in shown[1:] if name != "speed"])
    for (point, _), each in zip(rows, cells, strict=True):
        row(made, ("→" if point.chosen else "", *each), "bold" if point.chosen else "")
    return [section("Choices, from accurate to fast", made)]


def outputs(result: Judged, *, verbose: bool) -> list[RenderableType]:
    """Show how far each output is from the model's, on held-out samples."""
    rows = judged.output_rows(result)
    if not rows:
        return []
    shown = rows if verbose else rows[:SHOWN]
    header, cells = judged.filled(judged.OUTPUT_HEADER, [each for _, each in shown])
    made = table(*header, right=header[1:])
    for (each, _), texts in zip(shown, cells, strict=True):
        row(made, texts, "" if each.passed else BAD)
    parts: list[RenderableType] = [made]
    parts += [line(f"{each.name}: {each.reason}", BAD) for each, _ in shown if each.reason]
    return [section("Outputs on held-out samples", *parts, *more(len(rows), len(shown)))]


def verdicts(
    result: Judged, *, speed: str, outcome: str, tried: bool, besides: Sequence[str] = ()
) -> list[RenderableType]:
    """End with how right and how fast the result is, what failed, and what became of it.

    Where nothing was `tried`, there is nothing to say of errors and speed.
    """
    lines: list[RenderableType] = []
    if tried or result.verification is not None:
        passed = result.verification is not None and result.verification.passed
        lines.append(line(judged.accuracy(result), GOOD if passed else CARE))
        lines += [line(text) for text in (judged.score(result), *besides) if text]
        verdict = result.difference.verdict if result.difference is not None else ""
        lines.append(line(speed, _VERDICT_STYLES.get(verdict, "")))
    lines += [line(f"failed: {text}", BAD) for text in judged.failed_gates(result)]
    lines.append(line(outcome, BAD if result.status == "refused" else "bold"))
    cost = f"took {human_seconds(result.seconds)}, "
    return [*lines, line(cost + f"peak memory {human_bytes(result.peak_rss_bytes)}", FAINT)]
