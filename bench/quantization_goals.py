"""What was set as a goal for int8 before it was built, beside what was measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import quantization_rows as rows

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Goal:
    """One number: where it is from, and the least (or the most) that it should be."""

    what: str
    measured: Callable[[Row], float | None]
    limit: float
    form: str = ".3f"
    most: bool = False

    def row(self, results: Row) -> list[str]:
        """Return the goal, what was measured, and whether it is held."""
        found = self.measured(results)
        sign = "≤" if self.most else "≥"
        wanted = f"{sign} {format(self.limit, self.form)}"
        if found is None:
            return [self.what, wanted, "–", "not measured"]
        held = found <= self.limit if self.most else found >= self.limit
        return [self.what, wanted, format(found, self.form), "yes" if held else "**no**"]


def _own(results: Row, task: str) -> Row | None:
    cell: Row | None = results.get("tasks", {}).get(task, {}).get(rows.OWN)
    return cell


def score(task: str, part: str, name: str, *, total: bool = False) -> Callable[[Row], float | None]:
    """Return what reads a score of onnxopt under AVX2."""
    column = rows.Column(title="", part=part, score=name, form="", total=total)

    def read(results: Row) -> float | None:
        cell = _own(results, task)
        return None if cell is None else column.value(cell, "avx2")

    return read


def above_fp32(task: str, part: str, name: str) -> Callable[[Row], float | None]:
    """Return what reads by how much a score is above that of fp32."""
    own, fp32 = score(task, part, name), score(task, part, f"{name}_fp32")

    def read(results: Row) -> float | None:
        found, float_score = own(results), fp32(results)
        return None if found is None or float_score is None else found - float_score

    return read


def ratio(task: str, isa: str = "avx2") -> Callable[[Row], float | None]:
    """Return what reads the speed of onnxopt's result over fp32's."""

    def read(results: Row) -> float | None:
        cell = _own(results, task)
        found = None if cell is None else cell["speed"].get(isa, {}).get("ratio")
        return None if found is None else float(found)

    return read


def over_best_peer(task: str, part: str, name: str) -> Callable[[Row], float | None]:
    """Return what reads how far a score is above that of the best recipe of onnxruntime.

    Recipes that are slower than fp32 do not count: they are no reason to leave it.
    """
    column = rows.Column(title="", part=part, score=name, form="")

    def read(results: Row) -> float | None:
        cells = results.get("tasks", {}).get(task, {})
        own, speed = score(task, part, name)(results), ratio(task)(results)
        if own is None or speed is None:
            return None
        peers = [
            column.value(cell, "avx2")
            for name, cell in cells.items()
            if name.startswith("ort ") and (cell["speed"].get("avx2", {}).get("ratio") or 0) > 1
        ]
        best = max((value for value in peers if value is not None), default=None)
        return None if best is None else own - best

    return read


def cost(one: str, other: str, read: Callable[[Row], float]) -> Callable[[Row], float | None]:
    """Return what reads how many times the cost of `other` that of `one` is."""

    def found(results: Row) -> float | None:
        cells = results.get("costs", {})
        pair = [cells.get(key) for key in (one, other)]
        if any(cell is None or cell["error"] for cell in pair):
            return None
        return read(pair[0]) / read(pair[1])

    return found


def more_memory(method: str) -> Callable[[Row], float | None]:
    """Return what reads by how many MB 1,000 samples take more than 10."""

    def read(results: Row) -> float | None:
        cells = results.get("costs", {})
        pair = [cells.get(f"{rows.OWN} {method} {count}") for count in (1000, 10)]
        if any(cell is None or cell["error"] for cell in pair):
            return None
        return float(pair[0]["peak_rss_bytes"] - pair[1]["peak_rss_bytes"]) / 1e6

    return read


def slower(results: Row) -> float | None:
    """Return how many results with defaults are slower than fp32."""
    found = [cell.get("speed") for cell in results.get("trained", {}).values()]
    known = [speed for speed in found if speed and "verdict" in speed]
    return float(sum(speed["verdict"] == "slower" for speed in known)) if found else None


_NET, _REC, _DET = "efficientnet_lite0", "pp_ocrv4_rec", "pp_ocrv4_det"
GOALS = (
    Goal(
        what=f"{_NET}: agreement, other photographs",
        measured=score(_NET, "other", "agreement"),
        limit=0.92,
    ),
    Goal(
        what=f"{_NET}: agreement, same photographs",
        measured=score(_NET, "same", "agreement"),
        limit=0.95,
    ),
    Goal(what=f"{_NET}: SQNR, dB", measured=score(_NET, "other", "sqnr_db"), limit=20, form=".1f"),
    Goal(
        what=f"{_NET}: 5th percentile, dB",
        measured=score(_NET, "other", "sqnr_p5_db"),
        limit=15,
        form=".1f",
    ),
    Goal(
        what=f"{_NET}: sure crops not agreed on",
        measured=score(_NET, "other", "sure_disagreed", total=True),
        limit=0,
        form=".0f",
        most=True,
    ),
    Goal(what=f"{_NET}: speed", measured=ratio(_NET), limit=1.35, form=".2f"),
    *(
        Goal(
            what=f"{_REC}: CER above fp32, {part}, points",
            measured=above_fp32(_REC, part, "cer"),
            limit=0.5,
            form=".2f",
            most=True,
        )
        for part in ("rendered", "photographed")
    ),
    Goal(what=f"{_REC}: speed", measured=ratio(_REC), limit=1.2, form=".2f"),
    *(
        Goal(
            what=f"{_DET}: SQNR above ORT's best that is faster than fp32, {part}, dB",
            measured=over_best_peer(_DET, part, "sqnr_mean_db"),
            limit=3,
            form=".1f",
        )
        for part in ("composed", "photographed")
    ),
    Goal(
        what="minilm_l6: mean cosine",
        measured=score("minilm_l6", "other", "cosine"),
        limit=0.99,
        form=".4f",
    ),
    Goal(what="minilm_l6: speed", measured=ratio("minilm_l6"), limit=1.4, form=".2f"),
    Goal(
        what="magika: accuracy above fp32",
        measured=above_fp32("magika", "other", "accuracy"),
        limit=-0.005,
        form=".4f",
    ),
    Goal(
        what="fashion_cnn: accuracy above fp32",
        measured=above_fp32("fashion_cnn", "other", "accuracy"),
        limit=-0.002,
        form=".4f",
    ),
    Goal(what="resnet50: speed", measured=ratio("resnet50"), limit=1.65, form=".2f"),
    Goal(what="bert: speed", measured=ratio("bert"), limit=1.45, form=".2f"),
    *(
        Goal(
            what=f"calibration, {method}: MB that 1,000 samples take more than 10",
            measured=more_memory(method),
            limit=50,
            form=".0f",
            most=True,
        )
        for method in ("minmax", "percentile", "entropy", "mse")
    ),
    *(
        Goal(
            what=f"calibration, {method}: times plain inference, 1,000 samples",
            measured=cost(f"onnxopt {method} 1000", "inference 1000", rows.seconds_of),
            limit=limit,
            form=".2f",
            most=True,
        )
        for method, limit in (("minmax", 2), ("percentile", 3), ("entropy", 3), ("mse", 3))
    ),
    *(
        Goal(
            what=f"calibration, {method}: of onnxruntime's seconds, 100 samples",
            measured=cost(
                f"onnxopt {method} 100", f"onnxruntime {method.title()} 100", rows.seconds_of
            ),
            limit=0.2,
            form=".2f",
            most=True,
        )
        for method in ("entropy", "percentile")
    ),
    Goal(
        what="trained models: results slower than fp32",
        measured=slower,
        limit=0,
        form=".0f",
        most=True,
    ),
)


def goals(results: Row) -> rows.Table:
    """One row a goal."""
    if not results.get("tasks"):
        return rows.NOT_MEASURED
    return ["goal (AVX2 without VNNI)", "wanted", "measured", "held"], [
        goal.row(results) for goal in GOALS
    ]
