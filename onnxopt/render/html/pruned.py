"""What stands on the page of `prune`, as plain texts for the template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from onnxopt.render import judged, pruned
from onnxopt.render.html import scatters
from onnxopt.render.html.figures import Look
from onnxopt.render.html.judged import along, front, plot, shared, size, speed_and_error, timed
from onnxopt.render.html.plots import Plot
from onnxopt.render.html.scatters import Choice, Dot
from onnxopt.render.words import decibel, file_name
from onnxopt.report import PrunedPart, PruneReport

_LOOK = Look(colour=0, shape=0)
_CAPTION = "Up is more exact, to the left is {}; the dashed line is the model as it was."


def view(report: PruneReport) -> dict[str, Any]:
    """Return what the template shows."""
    found = shared(
        report,
        made=pruned.made_for(report),
        data=pruned.calibration(report),
        header=pruned.FRONT_HEADER,
        front=pruned.front_rows(report),
    )
    header, rows = judged.filled(pruned.part_header(report), pruned.part_rows(report))
    attempts, ways = judged.filled(pruned.ATTEMPT_HEADER, pruned.attempt_rows(report))
    return found | {
        "title": f"{file_name(report.input)}, pruned",
        "heads": list(_heads(report)),
        "failed": judged.failed_gates(report),
        "gains": pruned.gains(report),
        "front_plots": [*_front_by_work(report), *_front_by_time(report)],
        "attempt_header": attempts,
        "attempts": [
            {"chosen": each.kept, "cells": cells}
            for each, cells in zip(report.attempts, ways, strict=True)
        ],
        "summary": pruned.summary(report),
        "part_plots": [*_widths(report), *_errors(report), *_times(report)],
        "part_header": header,
        "parts": [
            {"cells": cells, "left": 100 * pruned.left(each), "nodes": _nodes(each)}
            for each, cells in zip(report.parts, rows, strict=True)
        ],
        "frozen": pruned.frozen(report),
        "sizes": pruned.sizes(report) if report.status == "pruned" else [],
    }  # fmt: skip


def _heads(report: PruneReport) -> Iterator[dict[str, str]]:
    """Give what is read first: what became of it, how fast, how right, how large."""
    outcome = pruned.outcome(report)
    if report.status == "refused":
        yield {"style": "bad", "head": "not pruned", "text": outcome.partition(": ")[2]}
    elif report.status == "masked":
        yield {"style": "same", "head": "masks only", "text": outcome}
    yield from speed_and_error(report, pruned.speed(report), tried=report.status == "pruned")
    if report.status == "pruned":
        share, _, rest = pruned.size(report).removeprefix("size: ").partition(", ")
        yield {"style": "same", "head": share, "text": rest}
        yield size(report, outcome)


def _front_by_work(report: PruneReport) -> Iterator[Plot]:
    choices = [
        (
            f"{p.name}: {decibel(p.sqnr_db)}, {100 * p.macs:.1f} % of the MACs",
            Choice(x=p.macs, y=p.sqnr_db, measured=True, chosen=p.chosen),
        )
        for p in report.front
        if p.sqnr_db is not None
    ]
    return front(
        choices,
        report,
        name="work",
        title="Error against work",
        caption=_CAPTION.format("less to compute"),
        x="multiply-accumulates against the model",
        one="model",
    )


def _front_by_time(report: PruneReport) -> Iterator[Plot]:
    choices = []
    for p in report.front:
        ratio = pruned.predicted_ratio(p) if p.difference is None else p.difference.ratio
        if p.sqnr_db is not None and ratio is not None:
            told = f"{p.name}: {decibel(p.sqnr_db)}, {judged.point_speed(p.difference, ratio)}"
            choices.append((told, timed(p.sqnr_db, ratio, p.difference, chosen=p.chosen)))
    return front(
        choices,
        report,
        name="pace",
        caption=_CAPTION.format("faster"),
        x="time against the model",
        one="model",
    )


def _widths(report: PruneReport) -> Iterator[Plot]:
    """Draw what each layer had and has, in the order of the graph; blocks by their work."""
    units = list(dict.fromkeys(part.unit for part in report.parts))
    for number, unit in enumerate(units):
        parts = [part for part in report.parts if part.unit == unit]
        pairs = [(float(part.before), float(part.after)) for part in parts]
        y = unit
        if unit == "elements":
            y, pairs = "% of the weights", [(100.0, 100 * pruned.left(part)) for part in parts]
        elif unit == "blocks":
            y = "multiply-accumulates"
            pairs = [(float(p.macs_before or 0), float(p.macs_after or 0)) for p in parts]
        if not any(before for before, _ in pairs):
            continue
        what = "layer" if unit != "blocks" else "block"
        yield plot(
            f"widths{number}",
            f"What is left of each {what}",
            f"Blue is left, grey is {'zero' if pruned.gains(report) else 'gone'}.",
            "; ".join(f"{p.name}: {p.before:,} → {p.after:,}" for p in parts),
            lambda pairs=pairs, y=y, what=what: scatters.bars(  # type: ignore[misc]
                pairs, y=y, x=f"{what}, in graph order"
            ),
        )


def _errors(report: PruneReport) -> Iterator[Plot]:
    return along(
        [(part.name, part.lost_db, _LOOK) for part in report.parts],
        key="lost",
        title="What each layer lost",
        caption="Of what reads it, after the refit, on held-out samples: lower is worse.",
        y="SQNR, dB",
        x="layer, in graph order",
        legend={},
    )


def _times(report: PruneReport) -> Iterator[Plot]:
    dots = [
        Dot(x=part.ms_before, y=part.ms_after, look=_LOOK)
        for part in report.parts
        if part.ms_before and part.ms_after
    ]
    if dots:
        yield plot(
            "layers",
            "Time of each layer",
            "Below the dashed line it is faster than it was.",
            f"{sum(dot.y < dot.x for dot in dots)} of {len(dots)} layers are faster",
            lambda: scatters.against(dots, x="before, ms", y="now, ms"),
        )


def _nodes(part: PrunedPart) -> str:
    shown = ", ".join(part.nodes[:3])
    more = len(part.nodes) - 3
    return f"{shown} and {more} more" if more > 0 else shown
