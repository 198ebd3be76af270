"""What `prune` did, proved and measured, on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType

from onnxopt.render import judged, pruned
from onnxopt.render.terminal.blocks import (
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
from onnxopt.report import PrunedPart, PruneReport

_PARTS, _BAR = 16, 8


def report(result: PruneReport, *, verbose: bool = False, title: str = "") -> RenderableType:
    """Show the tables first and the verdicts last, where the eye is when the work ends."""
    parts = opening(result, pruned.made_for(result), pruned.calibration(result), title=title)
    parts += _parts(result, verbose=verbose)
    parts += _frozen(result, verbose=verbose)
    parts += _attempts(result)
    parts += front(pruned.FRONT_HEADER, pruned.front_rows(result))
    parts += outputs(result, verbose=verbose)
    parts += _sizes(result)
    parts += notes(judged.warnings(result))
    if text := pruned.gains(result):
        parts.append(line(f"note: {text}", CARE))
    ends = verdicts(
        result,
        speed=pruned.speed(result),
        outcome=pruned.outcome(result),
        tried=result.status == "pruned",
        besides=[pruned.size(result)],
    )
    return Group(*parts, *ends)


def _parts(result: PruneReport, *, verbose: bool) -> list[RenderableType]:
    if not result.parts:
        return []
    title = pruned.summary(result)
    if verbose:
        name, *header, _ = pruned.part_header(result)
        cells = [
            (*numbers, _because(name, why)) for name, *numbers, why in pruned.part_rows(result)
        ]
        shown, rows = judged.filled((*header, name), cells)
        return long_section(title, LongTable(shown, rows, numbers=len(shown) - 1))
    cut, whole = pruned.changed(result), pruned.whole(result)
    most = pruned.largest(cut, _PARTS)
    body = [_table(result, most), *more(len(cut), len(most))] if cut else []
    if whole:
        body += [line(""), line("stayed whole", FAINT)]
        body += [line(_because(each.name, each.reason)) for each in whole[:SHOWN]]
        body += more(len(whole), SHOWN)
    return [section(title, *body)]


def _table(result: PruneReport, parts: Sequence[PrunedPart]) -> RenderableType:
    """Show what is left of each part as a bar, too."""
    cells = []
    for each in parts:
        name, units, _, sqnr, macs, _, _ = pruned.part_cells(each, result)
        full = round(_BAR * pruned.left(each))
        cells.append((name, units, "█" * full + "░" * (_BAR - full), sqnr, macs))
    layer, units, _, sqnr, macs, _, _ = pruned.part_header(result)
    header, rows = judged.filled((layer, units, "", sqnr, macs), cells)
    made = table(*header, right=[name for name in header[1:] if name])
    for texts in rows:
        row(made, texts)
    return made


def _frozen(result: PruneReport, *, verbose: bool) -> list[RenderableType]:
    if not result.frozen:
        return []
    if verbose:
        told = [line(pruned.frozen_text(each.reason, [each])) for each in result.frozen]
        return [section("What cannot go", *told)]
    reasons = pruned.frozen(result)
    told = [line(pruned.frozen_text(*each)) for each in reasons[:SHOWN]]
    return [section("What cannot go", *told, *more(len(reasons), SHOWN))]


def _attempts(result: PruneReport) -> list[RenderableType]:
    if not result.attempts:
        return []
    header, rows = judged.filled(pruned.ATTEMPT_HEADER, pruned.attempt_rows(result))
    made = table(*header, right=header[1:3])
    for each, cells in zip(result.attempts, rows, strict=True):
        row(made, cells, "bold" if each.kept else "")
    return [section("What was tried", made)]


def _sizes(result: PruneReport) -> list[RenderableType]:
    if result.status != "pruned":
        return []
    made = table("", "before", "after", "change", right=("before", "after", "change"))
    for each in pruned.sizes(result):
        row(made, each)
    return [section("Size", made)]


def _because(name: str, reason: str) -> str:
    return f"{name}: {reason}" if reason else name
