"""What stands on the page of `quantize`, as plain texts for the template."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePath
from typing import Any

from matplotlib.figure import Figure

from onnxopt.render import quantized, rows
from onnxopt.render.html import scatters
from onnxopt.render.html.figures import Look
from onnxopt.render.html.legend import Key
from onnxopt.render.html.plots import Plot
from onnxopt.render.html.scatters import Choice, Dot
from onnxopt.render.html.svg import drawing, inline
from onnxopt.render.words import decibel, printable, small
from onnxopt.report import FrontPoint, QuantizedTensor, QuantizeReport, Region
from onnxopt.text import human_bytes, human_seconds

_NUMBERED, _ROWS, _WORST, _WARNINGS = 5, 300, 12, 6
_INT8, _FLOAT = Look(colour=0, shape=0), Look(colour=1, shape=1)
_ROLES = {
    "activation": Look(colour=0, shape=0),
    "weight": Look(colour=2, shape=2),
    "bias": Look(colour=3, shape=3),
}


def view(report: QuantizeReport) -> dict[str, Any]:
    """Return what the template shows."""
    random = report.calibration is not None and report.calibration.random
    told = [] if random else [quantized.calibration(report)]
    return {
        "title": f"{_name(report)} in int8",
        "facts": [*_facts(report), *filter(None, told)],
        "random": quantized.calibration(report) if random else "",
        "heads": list(_heads(report)),
        "failed": [*quantized.failed_gates(report), *quantized.faults(report)],
        "cautions": [{"who": "", "caution": text} for text in quantized.warnings(report)],
        "many_cautions": _WARNINGS,
        "front": _front_rows(report),
        "front_plots": list(_front(report)),
        "score": report.score is not None or any(p.metric is not None for p in report.front),
        "operators": [quantized.op_cells(each) for each in quantized.operators(report)],
        "region_plots": [*_errors(report), *_times(report)],
        "sections": quantized.sections(report.regions),
        "stayed": _region_rows(quantized.left_in_float(report)),
        "regions": _region_rows(report.regions),
        "repairs": [quantized.repair_cells(each) for each in report.repairs],
        "outputs": _output_rows(report),
        "tensor_plots": list(_tensor_errors(report)),
        "worst": _tensor_rows(quantized.worst_tensors(report, _WORST)),
        "tensors": _tensor_rows(report.tensors),
        "kernels": [*quantized.saturation(report), *quantized.audit(report)],
        "overflows": _overflows(report),
        "left_over": _left_over(report),
        "steps": [
            (each.name, rows.step_outcome(each), human_seconds(each.seconds))
            for each in report.steps
        ],
        "files": _files(report),
        "most": _ROWS,
    }


def _name(report: QuantizeReport) -> str:
    return PurePath(report.input.path).name if report.input.path else "model"


def _facts(report: QuantizeReport) -> list[str]:
    took = f"took {human_seconds(report.seconds)}, {human_bytes(report.peak_rss_bytes)}"
    return [quantized.made_for(report), took]


def _heads(report: QuantizeReport) -> Iterator[dict[str, str]]:
    """Give what is read first: what became of it, how fast, how right, how large."""
    if report.status != "quantized":
        refused = report.status == "refused"
        head = "not quantized" if refused else "left untouched"
        text = quantized.outcome(report).partition(": ")[2]
        yield {"style": "bad" if refused else "same", "head": head, "text": text}
    if report.difference is not None:
        head, _, rest = report.difference.sentence().partition(", ")
        style = {"faster": "good", "slower": "bad"}.get(report.difference.verdict, "same")
        yield {"style": style, "head": head, "text": f"on {report.difference.provider}; {rest}"}
    elif report.regions:
        yield {"style": "same", "head": "not measured", "text": quantized.speed(report)}
    found = report.verification
    if found is not None:
        known = [quantized.number(each.sqnr_db) for each in found.outputs]
        head = decibel(min(known)) if known and min(known) > quantized.NO_DECIBEL else "not known"
        style = "same" if found.passed else "bad"
        text = quantized.accuracy(report).removeprefix("accuracy: ")
        yield {"style": style, "head": head, "text": text}
    if text := quantized.score(report):
        yield {"style": "same", "head": text.partition(": ")[2].partition(",")[0], "text": text}
    if report.status == "quantized":
        text = quantized.outcome(report)
        before, after = (human_bytes(each.file_bytes) for each in (report.input, report.output))
        yield {"style": "same", "head": f"{before} → {after}", "text": text}


def _front_rows(report: QuantizeReport) -> list[dict[str, Any]]:
    return [
        {"chosen": point.chosen, "cells": cells} for point, cells in quantized.front_rows(report)
    ]


def _front(report: QuantizeReport) -> Iterator[Plot]:
    shown = (p for p in report.front if p.int8_regions and p.ratio and math.isfinite(p.sqnr_db))
    drawn = [(p, _choice(p)) for p in shown]
    if not drawn:
        return
    floor = next((gate.limit for gate in report.gates if gate.name == "min_sqnr"), None)
    guessed = any(not choice.measured for _, choice in drawn)
    caption = "Up is more exact, to the left is faster; the dashed line is the float model."
    caption += " Hollow: predicted from the times of regions." if guessed else ""
    caption += " Dotted: the SQNR that was asked for." if floor is not None else ""
    told = "; ".join(
        f"{p.name}: {decibel(p.sqnr_db)}, {quantized.point_speed(p)}{', chosen' * p.chosen}"
        for p, _ in drawn
    )
    yield _plot(
        "front", "Error against time", caption, told,
        lambda: scatters.front([choice for _, choice in drawn], floor=floor),
    )  # fmt: skip


def _choice(point: FrontPoint) -> Choice:
    """Turn a speed (above 1 is faster) into a time against float."""
    low, high = math.nan, math.nan
    if point.difference is not None:
        low, high = (_inverse(end) for end in (point.difference.high, point.difference.low))
    return Choice(
        x=_inverse(point.ratio or 1.0),
        y=point.sqnr_db,
        low=low,
        high=high,
        measured=point.difference is not None,
        chosen=point.chosen,
    )


def _inverse(ratio: float) -> float:
    return 1 / ratio if ratio > 0 else math.nan


def _errors(report: QuantizeReport) -> Iterator[Plot]:
    """Draw what each region alone does to the outputs."""
    known = [
        (place, each)
        for place, each in enumerate(report.regions, 1)
        if each.sqnr_db is not None and math.isfinite(each.sqnr_db)
    ]
    if not known:
        return
    ranks = _ranks([each.sqnr_db or 0.0 for _, each in known])
    dots = [
        Dot(x=place, y=each.sqnr_db or 0.0, look=_look(each), note=rank)
        for (place, each), rank in zip(known, ranks, strict=True)
    ]
    worst = {rank: each for (_, each), rank in zip(known, ranks, strict=True) if rank}
    named = "; ".join(f"{rank}: {worst[rank].name}" for rank in sorted(worst))
    yield _plot(
        "errors", "What each region alone does to the outputs",
        f"Nothing but this region in int8: lower is worse. The worst are {named}.",
        "; ".join(f"{each.name} {decibel(each.sqnr_db or 0.0)}" for each in worst.values()),
        lambda: scatters.along(dots, y="SQNR of the outputs, dB", x="region, in graph order"),
        _became_keys([each for _, each in known]),
    )  # fmt: skip


def _times(report: QuantizeReport) -> Iterator[Plot]:
    known = [each for each in report.regions if each.float_ms and each.int8_ms]
    if not known:
        return
    dots = [Dot(x=r.float_ms or 0.0, y=r.int8_ms or 0.0, look=_look(r)) for r in known]
    yield _plot(
        "times", "Time of each region",
        "Below the dashed line int8 is faster, conversions at its borders included.",
        f"{sum(dot.y < dot.x for dot in dots)} of {len(dots)} regions are faster in int8",
        lambda: scatters.against(dots, x="float, ms", y="int8, ms"), _became_keys(known),
    )  # fmt: skip


def _tensor_errors(report: QuantizeReport) -> Iterator[Plot]:
    known = [
        (place, each)
        for place, each in enumerate(report.tensors, 1)
        if each.sqnr_db is not None and math.isfinite(each.sqnr_db)
    ]
    if not known:
        return
    ranks = _ranks([each.sqnr_db or 0.0 for _, each in known])
    dots = [
        Dot(x=place, y=each.sqnr_db or 0.0, look=_ROLES[each.role], note=rank)
        for (place, each), rank in zip(known, ranks, strict=True)
    ]
    roles = dict.fromkeys(each.role for _, each in known)
    yield _plot(
        "tensors", "What rounding does to each tensor",
        "Of the tensor itself, lower is worse; numbers are its place in the table.",
        "; ".join(f"{n}: {each.name}" for n, (_, each) in zip(ranks, known, strict=True) if n),
        lambda: scatters.along(dots, y="SQNR of the tensor, dB", x="tensor, in graph order"),
        [_key(role, _ROLES[role]) for role in roles],
    )  # fmt: skip


def _ranks(numbers: Sequence[float]) -> list[str]:
    """Number the least few, from 1; the others get nothing."""
    order = sorted(range(len(numbers)), key=numbers.__getitem__)[:_NUMBERED]
    return [str(order.index(place) + 1) if place in order else "" for place in range(len(numbers))]


def _look(region: Region) -> Look:
    return _INT8 if region.became == "int8" else _FLOAT


def _became_keys(regions: Sequence[Region]) -> list[Key]:
    looks = {region.became: _look(region) for region in regions}
    texts = {"int8": "became int8", "float": "stayed float"}
    return [_key(texts[became], looks[became]) for became in texts if became in looks]


def _key(text: str, look: Look) -> Key:
    return Key(text=text, colour=look.colour, shape=look.shape)


def _plot(
    name: str,
    title: str,
    caption: str,
    told: str,
    draw: Callable[[], Figure],
    keys: Sequence[Key] = (),
) -> Plot:
    with drawing(name):
        svg = inline(draw(), name=name, title=title, description=printable(told))
    return Plot(title=title, caption=caption, svg=svg, keys=tuple(keys))


def _region_rows(regions: Sequence[Region]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "cells": quantized.region_cells(each)[1:5], "reason": each.reason,
         "op": each.op, "more": max(0, len(each.nodes) - 1)}
        for each in regions
    ]  # fmt: skip


def _tensor_rows(tensors: Sequence[QuantizedTensor]) -> list[dict[str, Any]]:
    return [
        {"name": each.name, "cells": quantized.tensor_cells(each), "method": each.method,
         "shared": len(each.shared_with)}
        for each in tensors
    ]  # fmt: skip


def _output_rows(report: QuantizeReport) -> list[dict[str, Any]]:
    told = {each.name: each for each in report.quality}
    found = []
    for each in report.verification.outputs if report.verification is not None else ():
        more = told.get(each.name)
        share = more.agreement if more is not None else None
        cells = (
            decibel(each.sqnr_db),
            decibel(more.sqnr_p5_db) if more is not None else "",
            f"{each.cosine:.5f}",
            small(each.max_abs),
            quantized.agreement(share) if share is not None else "",
        )
        found.append({"name": each.name, "reason": each.reason, "cells": cells})
    return found


def _overflows(report: QuantizeReport) -> list[tuple[str, str]]:
    found = [(each.name, each.pair_sums) for each in report.regions if each.pair_sums is not None]
    told = [(name, pairs) for name, pairs in found if pairs.overflowing]
    ordered = sorted(told, key=lambda item: (-item[1].remaining, -item[1].overflowing))
    return [(name, quantized.pair_text(pairs)) for name, pairs in ordered]


def _left_over(report: QuantizeReport) -> list[tuple[str, str]]:
    entries = report.audit.entries if report.audit is not None else ()
    return [(each.tensor, each.reason or "no reason known") for each in entries if not each.kernel]


def _files(report: QuantizeReport) -> dict[str, str]:
    return {
        each.path or "in memory": f"sha256 {each.sha256}" if each.sha256 else "no file"
        for each in (report.input, report.output)
    }
