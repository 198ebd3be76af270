"""What stands alike on the pages of `quantize` and `prune`, as plain texts for the templates."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from onnxopt.render import judged, rows
from onnxopt.render.html import scatters
from onnxopt.render.html.figures import Look
from onnxopt.render.html.legend import Key
from onnxopt.render.html.plots import Plot
from onnxopt.render.html.scatters import Choice, Dot
from onnxopt.render.html.svg import drawing, inline
from onnxopt.render.judged import Judged
from onnxopt.render.words import decibel, printable
from onnxopt.report import Difference, Profile, Step
from onnxopt.text import human_bytes, human_seconds

ROWS, WARNINGS, _NUMBERED = 300, 6, 5


def shared(
    report: Judged,
    *,
    made: str,
    data: str,
    header: judged.Cells,
    front: Sequence[tuple[Any, judged.Cells]],
) -> dict[str, Any]:
    """Return what the templates show of either report; `made` says what the result is made for."""
    random = judged.is_random(report)
    took = f"took {human_seconds(report.seconds)}, {human_bytes(report.peak_rss_bytes)}"
    told = [] if random else [data]
    choices, cells = judged.filled(header, [each for _, each in front])
    found = judged.output_rows(report)
    outputs, texts = judged.filled(judged.OUTPUT_HEADER, [each for _, each in found])
    return {
        "part": "",
        "facts": [made, took, *filter(None, told)],
        "random": data if random else "",
        "cautions": [{"who": "", "caution": text} for text in judged.warnings(report)],
        "many_cautions": WARNINGS,
        "front_header": choices,
        "front": [
            {"chosen": point.chosen, "cells": each}
            for (point, _), each in zip(front, cells, strict=True)
        ],
        "output_header": outputs,
        "outputs": [
            {"reason": each.reason, "cells": text}
            for (each, _), text in zip(found, texts, strict=True)
        ],
        "steps": steps(report.steps),
        "files": files(report.input, report.output),
        "most": ROWS,
    }


def steps(done: Iterable[Step]) -> list[tuple[str, str, str]]:
    """Write name, what was done, and the time it took."""
    return [(each.name, rows.step_outcome(each), human_seconds(each.seconds)) for each in done]


def files(*profiles: Profile) -> dict[str, str]:
    """Name the files and their digests."""
    return {
        each.path or "in memory": f"sha256 {each.sha256}" if each.sha256 else "no file"
        for each in profiles
    }


def speed_and_error(report: Judged, speed: str, *, tried: bool) -> Iterator[dict[str, str]]:
    """Give the verdicts that are read first: how fast, how right, and the user's own metric."""
    if report.difference is not None:
        head, _, rest = report.difference.sentence().partition(", ")
        style = {"faster": "good", "slower": "bad"}.get(report.difference.verdict, "same")
        yield {"style": style, "head": head, "text": f"on {report.difference.provider}; {rest}"}
    elif tried:
        yield {"style": "same", "head": "not measured", "text": speed}
    found = report.verification
    if found is not None:
        known = [judged.number(each.sqnr_db) for each in found.outputs]
        head = decibel(min(known)) if known and min(known) > judged.NO_DECIBEL else "not known"
        style = "same" if found.passed else "bad"
        text = judged.accuracy(report).removeprefix("accuracy: ")
        yield {"style": style, "head": head, "text": text}
    if text := judged.score(report):
        yield {"style": "same", "head": text.partition(": ")[2].partition(",")[0], "text": text}


def size(report: Judged, text: str) -> dict[str, str]:
    """Give the verdict of how large the file became."""
    before, after = (human_bytes(each.file_bytes) for each in (report.input, report.output))
    return {"style": "same", "head": f"{before} → {after}", "text": text}


def front(
    choices: Sequence[tuple[str, Choice]],
    report: Judged,
    *,
    name: str = "front",
    title: str = "Error against time",
    caption: str,
    x: str,
    one: str,
) -> Iterator[Plot]:
    """Draw the choices there were, each told in words; `one` stands at 1 of the axis `x`."""
    shown = [(text, each) for text, each in choices if math.isfinite(each.x + each.y)]
    if not shown:
        return
    drawn = [each for _, each in shown]
    floor = next((gate.limit for gate in report.gates if gate.name == "min_sqnr"), None)
    caption += " Hollow: predicted." if any(not each.measured for each in drawn) else ""
    caption += " Dotted: the SQNR that was asked for." if floor is not None else ""
    told = "; ".join(f"{text}{', chosen' * each.chosen}" for text, each in shown)
    yield plot(name, title, caption, told, lambda: scatters.front(drawn, floor=floor, x=x, one=one))


def timed(
    sqnr_db: float, ratio: float | None, difference: Difference | None, *, chosen: bool
) -> Choice:
    """Place a choice by its time: `ratio` is its speed against the model, above 1 is faster."""
    low, high = math.nan, math.nan
    if difference is not None:
        low, high = (_inverse(end) for end in (difference.high, difference.low))
    return Choice(
        x=_inverse(ratio or math.nan),
        y=sqnr_db,
        low=low,
        high=high,
        measured=difference is not None,
        chosen=chosen,
    )


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio > 0 else math.nan


def along(
    items: Sequence[tuple[str, float | None, Look]],
    *,
    key: str,
    title: str,
    caption: str,
    y: str,
    x: str,
    legend: Mapping[Look, str],
    named: bool = True,
) -> Iterator[Plot]:
    """Draw an SQNR of each thing in the order of the graph; the worst are numbered, and `named`."""
    known = [
        (place, name, db, look)
        for place, (name, db, look) in enumerate(items, 1)
        if db is not None and math.isfinite(db)
    ]
    if not known:
        return
    worst = sorted(known, key=lambda item: item[2])[:_NUMBERED]
    rank = {place: str(number) for number, (place, *_) in enumerate(worst, 1)}
    dots = [Dot(x=place, y=db, look=look, note=rank.get(place, "")) for place, _, db, look in known]
    names = "; ".join(f"{number}: {name}" for number, (_, name, *_) in enumerate(worst, 1))
    yield plot(
        key,
        title,
        f"{caption} The worst are {names}." if named else caption,
        "; ".join(f"{name} {decibel(db)}" for _, name, db, _ in worst),
        lambda: scatters.along(dots, y=y, x=x),
        keys_of([look for *_, look in known], legend),
    )


def keys_of(looks: Sequence[Look], legend: Mapping[Look, str]) -> list[Key]:
    """Name the looks that are there, in the order of the legend."""
    return [
        Key(text=text, colour=look.colour, shape=look.shape)
        for look, text in legend.items()
        if look in looks
    ]


def plot(
    name: str,
    title: str,
    caption: str,
    told: str,
    draw: Callable[[], Figure],
    keys: Sequence[Key] = (),
) -> Plot:
    """Draw a figure as it stands in a page; `told` says it in words."""
    with drawing(name):
        svg = inline(draw(), name=name, title=title, description=printable(told))
    return Plot(title=title, caption=caption, svg=svg, keys=tuple(keys))
