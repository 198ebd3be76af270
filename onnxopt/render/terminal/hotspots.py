"""Where the time of a model goes, on a terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.console import Group, RenderableType
from rich.table import Table

from onnxopt.render import spots
from onnxopt.render.terminal.blocks import BAD, FAINT, heading, line, row, table
from onnxopt.report import Hotspot, Hotspots

_BAR, _NAME = 5, 24


def hotspots(found: Hotspots) -> RenderableType:
    """Show the hottest operators and nodes with what they reach of the ceiling; fits 80 columns."""
    if found.error is not None:
        return line(spots.headline(found), BAD)
    parts: list[RenderableType] = [line(spots.headline(found)), line("")]
    parts += _table("operators", found.operators, _operator)
    parts += _table("nodes", found.nodes, _node)
    if limit := spots.ceiling(found.ceiling):
        parts.append(line(limit, FAINT))
    return Group(*parts)


def _operator(spot: Hotspot) -> str:
    return spots.operator(spot) + (f" ×{spot.count}" if spot.count > 1 else "")


def _node(spot: Hotspot) -> str:
    """Name a node by its operator and the end of its name."""
    op = spots.operator(spot)
    return f"{op} {spots.shorten(spot.name, max(8, _NAME - 1 - len(op)))}"


def _table(
    title: str, found: Sequence[Hotspot], name: Callable[[Hotspot], str]
) -> list[RenderableType]:
    made: Table = table(
        *spots.NUMBERS[:2], "", *spots.NUMBERS[2:], "by", title, right=spots.NUMBERS
    )
    for spot in found[: spots.SHOWN]:
        ms, share, *reached = spots.numbers(spot)
        bar = spots.bar(spot.share, _BAR)
        row(made, (ms, share, bar, *reached, spot.bound or "", name(spot)))
    rest = spots.remaining(found)
    return [heading(f"Hottest {title}"), made, *([line(rest, FAINT)] if rest else []), line("")]
