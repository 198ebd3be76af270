"""What was set as a goal for pruning before it was built, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pruning_coverage as coverage
import pruning_plan as plan
from quantization_goals import Goal
from quantization_rows import NOT_MEASURED, Column, Row, Table

Read = Callable[[Row], float | None]
_ISA = "native"
WHO = {"onnxopt": "", plan.LEARNED: f" (--learn {plan.PASSES})"}
"""Whose results are held against what was asked for, and how they are told apart."""


def _cell(results: Row, trial: str, who: str = "onnxopt") -> Row | None:
    cell: Row | None = results.get("trials", {}).get(trial, {}).get(who)
    return cell


def score(trial: str, name: str, who: str = "onnxopt") -> Read:
    """Return what reads a score on held-out data, over all splits."""
    column = Column(title="", part="other", score=name, form="")

    def read(results: Row) -> float | None:
        cell = _cell(results, trial, who)
        return None if cell is None else column.value(cell, _ISA)

    return read


def less(one: Read, other: Read, times: float = 1) -> Read:
    """Return what reads a difference, so many times."""

    def read(results: Row) -> float | None:
        found, taken = one(results), other(results)
        return None if found is None or taken is None else times * (found - taken)

    return read


def lost(trial: str, who: str = "onnxopt") -> Read:
    """Return what reads by how many points the accuracy is below that of the model."""
    return less(score(trial, "accuracy_fp32", who), score(trial, "accuracy", who), 100)


def left(trial: str, what: str = "macs") -> Read:
    """Return what reads the greatest share over splits of what is left."""

    def read(results: Row) -> float | None:
        cell = _cell(results, trial)
        found = [] if cell is None else [j[what] for j in cell["judged"].values() if what in j]
        return max(found, default=None)

    return read


def gone(trial: str) -> Read:
    """Return what reads the share of all units that is gone."""

    def read(results: Row) -> float | None:
        made = list(((_cell(results, trial) or {}).get("made") or {}).values())
        parts = [part for run in made for part in run.get("parts", ())]
        before = sum(part["before"] for part in parts)
        return 1 - sum(part["after"] for part in parts) / before if before else None

    return read


def time(trial: str, who: str = "onnxopt") -> Read:
    """Return what reads the share of time that is left."""

    def read(results: Row) -> float | None:
        found = ((_cell(results, trial, who) or {}).get("speed") or {}).get(_ISA) or {}
        return 1 / found["ratio"] if found.get("ratio") else None

    return read


def over_best(trial: str, name: str, start: str) -> Read:
    """Return what reads how far a score is above the best of the candidates that begin so."""

    def read(results: Row) -> float | None:
        own = score(trial, name)(results)
        whos = [who for who in plan.TRIALS[trial].candidates if who.startswith(start)]
        others = [score(trial, name, who)(results) for who in whos]
        best = max((value for value in others if value is not None), default=None)
        return None if own is None or best is None else own - best

    return read


def _structures(results: Row) -> Iterator[tuple[str, Row]]:
    for name, trial in plan.TRIALS.items():
        cell = _cell(results, name, "onnxopt l2 without refit")
        if trial.part == "structure" and cell is not None:
            yield name, cell


def wrong_shapes(results: Row) -> float | None:
    """Return how many of the exports have a fault after pruning, or none was made."""
    found = []
    for _, cell in _structures(results):
        made = all(not run["error"] for run in cell["made"].values())
        judged = list(cell["judged"].values())
        wrong = any(each.get(w) for each in judged for w in ("error", "signature", "shapes"))
        found.append(not made or not judged or wrong)
    return float(sum(found)) if found else None


def worst_share(results: Row) -> float | None:
    """Return by how much the share of time is above that of the MACs, at most."""
    found = []
    for name, cell in _structures(results):
        share = time(name, "onnxopt l2 without refit")(results)
        macs = next((j.get("macs") for j in cell["judged"].values()), None)
        if share is not None and macs:
            found.append(share / macs - 1)
    return max(found, default=None)


def pattern(trial: str, what: str, who: str = "onnxopt") -> Read:
    """Return what reads a number about 2:4."""

    def read(results: Row) -> float | None:
        found: Any = ((_cell(results, trial, who) or {}).get("patterns") or {}).get(what)
        return None if found is None else float(found)

    return read


def became(*statuses: str) -> Read:
    """Return what reads how many models became one of these."""

    def read(results: Row) -> float | None:
        found = results.get("coverage", {}).values()
        return float(sum(v["status"] in statuses for v in found)) if found else None

    return read


def peak(results: Row) -> float | None:
    """Return the greatest peak in MB of refitting over many samples."""
    found = [cell for cell in results.get("memory", {}).values() if not cell["error"]]
    return max((cell["peak_rss_bytes"] / 1e6 for cell in found), default=None)


def alarms(results: Row) -> float | None:
    """Return for how many models a copy of itself is said to differ."""
    found = results.get("twins", {}).values()
    return float(sum(t.get("verdict") != "no difference" for t in found)) if found else None


def _nets() -> Iterator[Goal]:
    for name in plan.NETS:
        for share, limit in ((0.5, 1.0), (0.25, 0.3)):
            trial = f"{name} {share:g}"
            for who, how in WHO.items():
                yield Goal(
                    what=f"{name}, {share:.0%} of the channels out{how}: accuracy lost, points",
                    measured=lost(trial, who),
                    limit=limit,
                    form=".2f",
                    most=True,
                )
            yield Goal(
                what=f"{name}: share of the channels that is out", measured=gone(trial),
                limit=share - 0.01, form=".2f",
            )  # fmt: skip


def _photographs() -> Iterator[Goal]:
    for share, agreement, sqnr, limit in ((0.8, 0.80, 10.5, 0.87), (0.7, 0.70, 8.5, 0.80)):
        trial = f"efficientnet_lite0 {share:g}"
        yield Goal(what=f"{trial}: MACs", measured=left(trial), limit=share, most=True)
        for who, how in WHO.items():
            yield Goal(
                what=f"{trial}: agreement{how}",
                measured=score(trial, "agreement", who),
                limit=agreement,
            )
            yield Goal(
                what=f"{trial}: SQNR, dB{how}",
                measured=score(trial, "sqnr_db", who),
                limit=sqnr,
                form=".1f",
            )
        yield Goal(
            what=f"{trial}: latency", measured=time(trial), limit=limit, form=".2f", most=True
        )
        for start in ("onnxsim", "onnxopt random"):
            yield Goal(
                what=f"{trial}: agreement above that of {start}",
                measured=over_best(trial, "agreement", start),
                limit=0,
            )


def _sentences() -> Iterator[Goal]:
    for trial, what, limit in (
        ("minilm_l6 neurons 0.3", "30 % of the MLP neurons out", 0.98),
        ("minilm_l6 layer", "one layer of six replaced", 0.965),
        ("minilm_l6 rank", "dense layers at half their MACs", 0.86),
    ):
        for who, how in WHO.items():
            yield Goal(
                what=f"minilm_l6, {what}: mean cosine{how}",
                measured=score(trial, "cosine", who),
                limit=limit,
                form=".4f",
            )
    yield Goal(
        what="minilm_l6: share of the MLP neurons that is out",
        measured=gone("minilm_l6 neurons 0.3"), limit=0.29, form=".2f",
    )  # fmt: skip
    for trial, limit in (("minilm_l6 layer", plan.ONE_LAYER), ("minilm_l6 rank", plan.HALF_DENSE)):
        yield Goal(what=f"{trial}: MACs", measured=left(trial), limit=limit, most=True)


def _zeros() -> Iterator[Goal]:
    for exam in ("minilm_l6", "efficientnet_lite0"):
        trial = f"{exam} ready 2:4"
        yield Goal(
            what=f"{exam}, 2:4: layers with zeros otherwise",
            measured=pattern(trial, "otherwise"),
            limit=0,
            form=".0f",
            most=True,
        )
        yield Goal(
            what=f"{exam}, 2:4: layers that keep to it",
            measured=pattern(trial, "exact"), limit=1, form=".0f",
        )  # fmt: skip
        for what, words in (("alone_db", "fed as before"), ("placed_db", "in place")):
            yield Goal(
                what=f"{exam}, 2:4: layers' SQNR above that of magnitude alone, {words}, dB",
                measured=less(
                    pattern(trial, what), pattern(trial, what, "onnxopt l2 without refit")
                ),
                limit=3,
                form=".1f",
            )


GOALS = (
    *_nets(),
    *_photographs(),
    Goal(what="exports with a fault", measured=wrong_shapes, limit=0, form=".0f", most=True),
    Goal(
        what="exports: time above the share of the MACs, at most",
        measured=worst_share,
        limit=0.15,
        form=".2f",
        most=True,
    ),
    *_sentences(),
    *_zeros(),
    *(
        Goal(what=f"models: {what}", measured=became(*statuses), limit=0, form=".0f", most=True)
        for what, statuses in (
            ("crashes", (coverage.CRASHED,)),
            ("results that are not valid", (coverage.INVALID,)),
            ("refusals that name nothing", (coverage.VAGUE,)),
        )
    ),
    Goal(
        what="refit over 256 samples: MB",
        measured=peak,
        limit=1000,
        form=".0f",
        most=True,
    ),
    Goal(what="A/A: models that differ", measured=alarms, limit=0, form=".0f", most=True),
)


def goals(results: Row) -> Table:
    """One row a goal."""
    if not any(results.get(name) for name in ("trials", "coverage", "memory")):
        return NOT_MEASURED
    return ["goal", "wanted", "measured", "held"], [goal.row(results) for goal in GOALS]
