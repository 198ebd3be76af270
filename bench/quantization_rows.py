"""Rows of the tables about int8, from `bench/results/quantization.json`: only what was measured."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Table = tuple[list[str], list[list[str]]]
Row = Mapping[str, Any]

NOT_MEASURED: Table = (["not measured"], [])
AA, OWN = "A/A", "onnxopt"
_ISAS = ("avx2", "native")
_DASH = "–"


@dataclass(frozen=True, kw_only=True)
class Column:
    """A score of a part, as it is shown; `total` adds splits up where others are averaged."""

    title: str
    part: str
    score: str
    form: str
    total: bool = False

    def value(self, cell: Row, isa: str) -> float | None:
        """Return the score over all splits, weighted by their samples; None where there is none."""
        splits = [
            found[self.part]
            for found in cell["scores"].get(isa, {}).values()
            if self.part in found and self.score in found[self.part]
        ]
        if not splits:
            return None
        if self.total:
            return float(sum(found[self.score] for found in splits))
        weights = [found["samples"] for found in splits]
        return statistics.fmean([found[self.score] for found in splits], weights)

    def show(self, cell: Row, isa: str) -> str:
        """Return what stands in the table."""
        found = self.value(cell, isa)
        return _DASH if found is None else format(found, self.form)


def _column(title: str, part: str, score: str, form: str, *, total: bool = False) -> Column:
    return Column(title=title, part=part, score=score, form=form, total=total)


COLUMNS = {
    "efficientnet_lite0": (
        _column("agreement, other photographs", "other", "agreement", ".3f"),
        _column("same photographs", "same", "agreement", ".3f"),
        _column("SQNR, dB", "other", "sqnr_db", ".1f"),
        _column("5th percentile", "other", "sqnr_p5_db", ".1f"),
        _column("sure and wrong", "other", "sure_disagreed", ".0f", total=True),
    ),
    "pp_ocrv4_rec": (
        _column("CER rendered, %", "rendered", "cer", ".2f"),
        _column("photographed", "photographed", "cer", ".2f"),
        _column("rendered, to fp32", "rendered", "cer_to_fp32", ".2f"),
        _column("photographed, to fp32", "photographed", "cer_to_fp32", ".2f"),
    ),
    "pp_ocrv4_det": (
        _column("SQNR composed, dB", "composed", "sqnr_mean_db", ".1f"),
        _column("photographed", "photographed", "sqnr_mean_db", ".1f"),
        _column("overlap composed", "composed", "overlap", ".3f"),
        _column("photographed", "photographed", "overlap", ".3f"),
    ),
    "minilm_l6": (
        _column("cosine", "other", "cosine", ".4f"),
        _column("lowest", "other", "cosine_lowest", ".4f"),
        _column("SQNR, dB", "other", "sqnr_db", ".1f"),
    ),
    "magika": (
        _column("accuracy", "other", "accuracy", ".2%"),
        _column("agreement", "other", "agreement", ".2%"),
    ),
    "fashion_cnn": (
        _column("accuracy", "other", "accuracy", ".2%"),
        _column("agreement", "other", "agreement", ".2%"),
        _column("SQNR, dB", "other", "sqnr_db", ".1f"),
    ),
    "resnet50": (),
    "bert": (),
}


def compared(results: Row, task: str, isa: str) -> Table:
    """One row a candidate: its scores on held-out data, and how much faster than fp32 it is."""
    cells = results.get("tasks", {}).get(task, {})
    columns = COLUMNS[task]
    rows = [
        [name, *(column.show(cell, isa) for column in columns), speed(cell, isa)]
        for name, cell in cells.items()
        if cell["scores"].get(isa) or cell["speed"].get(isa)
    ]
    floats = _floats(columns, cells, isa)
    rows[:0] = [floats] if floats else []
    rows += [[name, f"failed: {why}"] for name, why in failures(cells, isa)]
    width = len(columns) + 2
    full = [row + [_DASH] * (width - len(row)) for row in rows]
    return (["", *(column.title for column in columns), "speed"], full) if full else NOT_MEASURED


_SMALLER = ("cer",)
"""Scores of which less is better."""


def summary(results: Row, isa: str) -> Table:
    """One row a task: onnxopt beside the peer that scores best of those faster than fp32."""
    rows = []
    for task, columns in COLUMNS.items():
        cells = results.get("tasks", {}).get(task, {})
        column = columns[0] if columns else None
        if column is None or OWN not in cells or column.value(cells[OWN], isa) is None:
            continue
        sign = -1 if column.score in _SMALLER else 1
        peers = [
            (sign * value, name)
            for name, cell in cells.items()
            if not name.startswith((OWN, AA)) and _is_faster(cell, isa)
            if (value := column.value(cell, isa)) is not None
        ]
        best = max(peers)[1] if peers else None
        peer = [best, column.show(cells[best], isa), speed(cells[best], isa)] if best else []
        floats = _floats(columns, cells, isa)
        rows.append(
            [
                f"{task}: {column.title}",
                floats[1] if floats else _DASH,
                column.show(cells[OWN], isa),
                speed(cells[OWN], isa),
                *(peer or ["none", _DASH, _DASH]),
            ]
        )
    header = ["model: measure", "fp32", "onnxopt", "speed", "best peer", "", "speed"]
    return (header, rows) if rows else NOT_MEASURED


def _is_faster(cell: Row, isa: str) -> bool:
    return bool((cell["speed"].get(isa) or {}).get("verdict") == "faster")


def _floats(columns: tuple[Column, ...], cells: Row, isa: str) -> list[str]:
    """Return the row of fp32, where scores say what fp32 gets."""
    for cell in cells.values():
        titles = [
            Column(title="", part=c.part, score=f"{c.score}_fp32", form=c.form).show(cell, isa)
            for c in columns
        ]
        if any(title != _DASH for title in titles):
            return ["fp32", *titles, "1"]
    return []


def failures(cells: Row, isa: str) -> Iterator[tuple[str, str]]:
    """Yield candidates that made no model for an instruction set, with the reason, shortened."""
    for name, cell in cells.items():
        for key, made in cell["made"].items():
            other = any(key.endswith(known) for known in _ISAS if known != isa)
            if made["error"] and not other:
                yield name, made["error"].replace("|", "/").replace("`", "'")[:80]
                break


def speed(cell: Row, isa: str) -> str:
    """Write the ratio with its interval, bold where it is a difference."""
    found = cell["speed"].get(isa)
    if not found or found.get("ratio") is None or not math.isfinite(found["ratio"]):
        return _DASH
    text = f"{found['ratio']:.2f} ({found['low']:.2f}–{found['high']:.2f})"
    return text if found["verdict"] == "no difference" else f"**{text}**"


def made(results: Row) -> Table:
    """One row a candidate: seconds and peak memory of the whole process, by task."""
    tasks = results.get("tasks", {})
    names = list(dict.fromkeys(name for cells in tasks.values() for name in cells if name != AA))
    rows = [[name, *(_made(cells.get(name)) for cells in tasks.values())] for name in names]
    return (["s, MB", *tasks], rows) if rows else NOT_MEASURED


def _made(cell: Row | None) -> str:
    runs = [] if cell is None else list(cell["made"].values())
    done = [run for run in runs if not run["error"]]
    if not done:
        return "failed" if runs else _DASH
    seconds = statistics.median(run["median_seconds"] for run in done)
    return f"{seconds:.0f}, {max(run['peak_rss_bytes'] for run in done) / 1e6:.0f}"


def costs(results: Row) -> Table:
    """One row a way to calibrate: its seconds and memory by samples, the whole process."""
    cells = results.get("costs", {})
    counts = sorted({int(key.rsplit(" ", 1)[1]) for key in cells})
    rows = []
    for who in dict.fromkeys(key.rsplit(" ", 1)[0] for key in cells):
        of = [cells.get(f"{who} {count}") for count in counts]
        seconds = [_DASH if c is None else c["error"] or f"{seconds_of(c):.1f}" for c in of]
        memory = [_DASH if c is None else f"{c['peak_rss_bytes'] / 1e6:.0f}" for c in of]
        rows.append([who, *seconds, *memory])
    header = ["", *(f"s, {count}" for count in counts), *(f"MB, {count}" for count in counts)]
    return (header, rows) if rows else NOT_MEASURED


def seconds_of(cell: Row) -> float:
    """Return the seconds of calibration or inference alone, where they are told, else of all."""
    own = (cell.get("calibration") or {}).get("seconds")
    return float(own or cell.get("inference_seconds") or cell["median_seconds"])


def trained(results: Row) -> Table:
    """One row a model: what `onnxopt quantize` with defaults says, and how fast the result is."""
    cells: dict[str, dict[str, list[str]]] = {}
    for key, found in results.get("trained", {}).items():
        name, isa = key.rsplit(" ", 1)
        said = found.get("status") or found.get("error") or _DASH
        cell = {"speed": {"any": found.get("speed")}}
        cells.setdefault(name, {})[isa] = [said[:80].replace("|", "/"), speed(cell, "any")]
    isas = [isa for isa in ("avx2", "native") if any(isa in row for row in cells.values())]
    header = ["model", *(word for isa in isas for word in (isa, "speed"))]
    rows = [
        [name, *(word for isa in isas for word in row.get(isa, [_DASH, _DASH]))]
        for name, row in cells.items()
    ]
    return (header, rows) if rows else NOT_MEASURED


def front(results: Row, task: str) -> Table:
    """One row a point: what onnxopt could have chosen on the first split, under AVX2."""
    cell = results.get("tasks", {}).get(task, {}).get(OWN, {})
    points = cell.get("made", {}).get("0 avx2", {}).get("front", [])
    rows = []
    for point in points:
        difference = point.get("difference") or {}
        ratio = difference.get("ratio") or point.get("predicted")
        rows.append(
            [
                point["name"] + (" (chosen)" if point.get("chosen") else ""),
                str(point["int8_regions"]),
                f"{point['sqnr_db']:.1f}",
                _DASH if ratio is None else f"{ratio:.2f}",
            ]
        )
    return (["point", "int8 regions", "SQNR, dB", "speed"], rows) if rows else NOT_MEASURED
