"""What `quantize` and `prune` write alike in Markdown: choices and outputs."""

from __future__ import annotations

from collections.abc import Sequence

from onnxopt.render import judged
from onnxopt.render.judged import Judged
from onnxopt.render.markdown.blocks import table
from onnxopt.report import FrontPoint, PrunePoint

SHOWN = 20


def front(
    header: Sequence[str], rows: Sequence[tuple[FrontPoint | PrunePoint, judged.Cells]]
) -> str:
    """Write the choices there were, the chosen one marked."""
    if not rows:
        return ""
    shown, cells = judged.filled(header, [each for _, each in rows])
    body = [
        (f"→ {each[0]}" if point.chosen else each[0], *each[1:])
        for (point, _), each in zip(rows, cells, strict=True)
    ]
    return table(shown, body, left=1)


def outputs(report: Judged) -> str:
    """Write how far each output is from the model's, on held-out samples."""
    rows = judged.output_rows(report)
    if not rows:
        return ""
    told = [
        (*cells, "" if each.passed else f"fails {each.reason}".rstrip())
        for each, cells in rows[:SHOWN]
    ]
    header, body = judged.filled((*judged.OUTPUT_HEADER, ""), told)
    return table(header, body, left=1, last=not header[-1])


def cut(made: str, count: int) -> str:
    """Say under a table of the first `SHOWN` of `count` how many there are more."""
    return f"{made}\n\nand {count - SHOWN:,} more" if count > SHOWN else made
