"""Rows of the tables about pruning, from `bench/results/pruning.json`: only what was measured."""

from __future__ import annotations

import re
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import pruning_coverage as coverage
import pruning_goals
import pruning_plan as plan
from quantization_rows import COLUMNS, NOT_MEASURED, Column, Row, Table, speed

ISA = "native"
_DASH = "–"
_WORDS = re.compile(r"'[^']*'|\"[^\"]*\"|\d+")
_EXAM = {
    "fashion_cnn": COLUMNS["fashion_cnn"],
    "fashion_residual": COLUMNS["fashion_cnn"],
    plan.PHOTOGRAPHS: COLUMNS["efficientnet_lite0"],
    plan.SENTENCES: COLUMNS["minilm_l6"],
}


def cells_of(results: Row, trial: str) -> Mapping[str, Any]:
    """Return what was recorded of a trial, by candidate."""
    found: Mapping[str, Any] = results.get("trials", {}).get(trial, {})
    return found


def mean(cell: Row, what: str) -> float | None:
    """Return the mean over splits of what the judge counted: macs, parameters, zeros."""
    found = [judged[what] for judged in cell["judged"].values() if what in judged]
    return statistics.fmean(found) if found else None


def gone(cell: Row) -> float | None:
    """Return the share of all units that is gone, as onnxopt's report tells it."""
    parts = [part for made in cell["made"].values() for part in made.get("parts", ())]
    before = sum(part["before"] for part in parts)
    return 1 - sum(part["after"] for part in parts) / before if before else None


def failures(cells: Row) -> Iterator[tuple[str, str]]:
    """Yield candidates that made no model, or none that runs, with the reason, shortened."""
    for name, cell in cells.items():
        errors = [each["error"] for kind in ("made", "judged") for each in cell[kind].values()
                  if each.get("error")]  # fmt: skip
        if errors:
            yield name, errors[0].replace("|", "/").replace("`", "'")[:100]


def _share(found: float | None) -> str:
    return _DASH if found is None else f"{found:.2f}"


def compared(results: Row, name: str) -> Table:
    """One row a candidate: its scores on held-out data, what is left, how much faster it is."""
    trial, cells = plan.TRIALS[name], cells_of(results, name)
    columns = tuple(c for c in _EXAM.get(trial.task.exam, ()) if c.part != "same")
    rows = [
        [
            who,
            *(column.show(cell, ISA) for column in columns),
            *(_share(mean(cell, what)) for what in ("macs", "parameters")),
            speed(cell, ISA),
        ]
        for who, cell in cells.items()
        if cell["judged"] and not all(each.get("error") for each in cell["judged"].values())
    ]
    shown = {row[0] for row in rows}
    twin = results.get("twins", {}).get(trial.task.name)
    width = len(columns) + 4
    if rows and trial.speed and twin:
        rows.append(["A/A", *[_DASH] * (width - 2), speed({"speed": {ISA: twin}}, ISA)])
    rows += [[who, f"failed: {why}"] for who, why in failures(cells) if who not in shown]
    header = ["", *(column.title for column in columns), "MACs", "parameters", "speed"]
    full = [row + [_DASH] * (width - len(row)) for row in rows]
    return (header, full) if full else NOT_MEASURED


def curve(results: Row, task: str) -> Table:
    """One row a candidate: accuracy by the share of channels that was asked to go."""
    trials = [cells_of(results, f"{task} {share:g}") for share in plan.CURVE]
    accuracy = Column(title="", part="other", score="accuracy", form=".2%")
    names = [n for n in plan.CANDIDATES if sum(n in cells for cells in trials) > len(trials) // 2]
    rows = []
    for name in names:
        shown = [accuracy.show(c[name], ISA) if name in c else _DASH for c in trials]
        rows.append([name, whole(results, task), *shown])
    if not rows:
        return NOT_MEASURED
    shares = [mean(cells["onnxopt"], "macs") if "onnxopt" in cells else None for cells in trials]
    rows.append(["MACs left by onnxopt", "1.00", *map(_share, shares)])
    return ["channels out", "0 %", *(f"{share:.1%}" for share in plan.CURVE)], rows


def whole(results: Row, task: str) -> str:
    """Return the accuracy of a net before anything was taken out."""
    column = Column(title="", part="other", score="accuracy_fp32", form=".2%")
    for share in plan.CURVE:
        for cell in cells_of(results, f"{task} {share:g}").values():
            if (shown := column.show(cell, ISA)) != _DASH:
                return shown
    return _DASH


def front(results: Row, trial: str) -> Table:
    """One row a point: what onnxopt could have chosen on the first split."""
    made = cells_of(results, trial).get("onnxopt", {}).get("made", {}).get("0", {})
    rows = []
    for point in made.get("front", ()):
        difference, predicted = point.get("difference") or {}, point.get("predicted")
        sqnr, ratio = point.get("sqnr_db"), difference.get("ratio")
        rows.append(
            [
                point["name"] + (" (chosen)" if point.get("chosen") else ""),
                *(_share(point.get(what)) for what in ("macs", "parameters")),
                _DASH if sqnr is None else f"{sqnr:.1f}",
                _share(predicted),
                _share(ratio),
            ]
        )
    header = ["point", "MACs", "parameters", "SQNR, dB", "time predicted", "speed measured"]
    return (header, rows) if rows else NOT_MEASURED


def structure(results: Row) -> Table:
    """One row a run on an export: what is gone, and whether time falls as the MACs do."""
    rows = []
    for trial in plan.TRIALS.values():
        if trial.part != "structure":
            continue
        for who, cell in cells_of(results, trial.name).items():
            made: Row = next(iter(cell["made"].values()), {})
            judged = next(iter(cell["judged"].values()), None)
            if made.get("error") or judged is None or judged.get("error"):
                why = made.get("error") or (judged or {}).get("error") or _DASH
                rows.append([trial.name, who, f"failed: {why[:80]}", *[_DASH] * 5])
                continue
            ratio = cell["speed"].get(ISA, {}).get("ratio")
            wrong = [*judged["signature"], *judged["shapes"]]
            rows.append(
                [
                    *(trial.name, who, units(made)),
                    "right" if not wrong else wrong[0][:80],
                    f"{judged['macs']:.2f}",
                    _share(1 / ratio if ratio else None),
                    _share(1 / ratio / judged["macs"] if ratio else None),
                    speed(cell, ISA),
                ]
            )
    header = ["export, share", "", "units gone", "shapes", "MACs", "time", "time by MACs", "speed"]
    return (header, rows) if rows else NOT_MEASURED


def units(made: Row) -> str:
    """Write how many units of each kind are gone."""
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for part in made.get("parts", ()):
        before[part["unit"]] += part["before"]
        after[part["unit"]] += part["after"]
    return ", ".join(f"{before[k] - after[k]} of {before[k]} {k}" for k in before) or _DASH


def patterns(results: Row) -> Table:
    """One row a candidate: whether two of four are zero, and what that does to the layers."""
    rows = []
    for name, trial in plan.TRIALS.items():
        for who, cell in cells_of(results, name).items() if name.endswith("2:4") else ():
            found = cell["patterns"]
            if found and "error" not in found:
                counts = [str(found[kind]) for kind in ("exact", "whole", "otherwise")]
                decibels = [found.get(f"{kind}_db") for kind in ("alone", "placed")]
                numbers = [_DASH if value is None else f"{value:.1f}" for value in decibels]
                rows.append([trial.task.name.removesuffix(" ready"), who, *counts, *numbers])
    header = ["model", "", "layers exact", "whole", "otherwise", "SQNR alone, dB", "in place, dB"]
    return (header, rows) if rows else NOT_MEASURED


def covered(results: Row) -> Table:
    """One row a kind of model: what became of how many."""
    counts = coverage.summary(results.get("coverage", {}))
    rows = [
        [kind, str(count.total()), *(str(count[status]) for status in coverage.STATUSES)]
        for kind, count in counts.items()
    ]
    return (["models", "in all", *coverage.STATUSES], rows) if rows else NOT_MEASURED


def reasons(results: Row) -> Table:
    """One row a reason why nothing could go, or a fault: how many models, and one of them."""
    found: dict[tuple[str, str], list[str]] = {}
    for key, verdict in results.get("coverage", {}).items():
        if verdict["status"] != coverage.PRUNED:
            reason = _WORDS.sub("…", verdict["why"]).replace("|", "/").replace("`", "'")[:160]
            found.setdefault((verdict["status"], reason), []).append(key)
    rows = [
        [status, reason, str(len(keys)), keys[0]]
        for (status, reason), keys in sorted(found.items(), key=lambda pair: -len(pair[1]))
    ]
    return (["", "why", "models", "one of them"], rows) if rows else NOT_MEASURED


def memory(results: Row) -> Table:
    """One row a model: seconds and peak memory of refitting it over many samples."""
    rows = [
        [
            name,
            f"{cell['file_bytes'] / 1e6:.0f}",
            str(cell["samples"]),
            cell["error"] or f"{cell['median_seconds']:.0f}",
            f"{cell['peak_rss_bytes'] / 1e6:.0f}",
        ]
        for name, cell in results.get("memory", {}).items()
    ]
    return (["model", "MB", "samples", "seconds", "peak MB"], rows) if rows else NOT_MEASURED


def made(results: Row) -> Table:
    """One row a trial: seconds and peak memory of onnxopt's whole process, and of a peer's."""
    rows = []
    for name in plan.TRIALS:
        cells = cells_of(results, name)
        if cells:
            rows.append([name, *(_made(cells.get(who)) for who in _SHOWN)])
    return (["s, MB", *_SHOWN], rows) if rows else NOT_MEASURED


_SHOWN = ("onnxopt", "onnxopt random", "onnxopt l2 without refit", "onnxsim l2")


def _made(cell: Row | None) -> str:
    runs = [] if cell is None else list(cell["made"].values())
    done = [run for run in runs if not run["error"]]
    if not done:
        return "failed" if runs else _DASH
    seconds = statistics.median(run["median_seconds"] for run in done)
    return f"{seconds:.0f}, {max(run['peak_rss_bytes'] for run in done) / 1e6:.0f}"


def slug(name: str) -> str:
    """Return the name of a trial as it stands in a page's markers."""
    return re.sub(r"\W+", "_", name)


_COMPARED = [
    name
    for name, trial in plan.TRIALS.items()
    if trial.part != "structure" and (trial.part != "nets" or trial.speed)
]
TABLES: dict[str, Callable[[Row], Table]] = {
    "goals": pruning_goals.goals,
    **{f"curve_{task}": partial(curve, task=task) for task in plan.NETS},
    **{slug(name): partial(compared, name=name) for name in _COMPARED},
    **{
        f"front_{slug(name)}": partial(front, trial=name)
        for name in ("efficientnet_lite0 0.7", "efficientnet_lite0 latency 0.8")
    },
    "structure": structure,
    "patterns": patterns,
    "coverage": covered,
    "reasons": reasons,
    "memory": memory,
    "made": made,
}
