"""The conditions that a result has to hold, in numbers and in words."""

from __future__ import annotations

from onnxopt.judging.quality import Quality
from onnxopt.report import Difference, Gate, Score


def gates(
    quality: Quality | None,
    score: Score | None,
    difference: Difference | None,
    *,
    min_sqnr: float | None,
    max_slowdown: float | None,
) -> tuple[Gate, ...]:
    """Return the conditions that were asked for, and whether they hold.

    `max_slowdown` is a share; None: where speed was measured, the result has to be faster.
    """
    found = []
    if min_sqnr is not None and quality is not None:
        value = quality.sqnr_db
        found.append(
            Gate(
                name="min_sqnr",
                limit=min_sqnr,
                value=value,
                passed=value >= min_sqnr,
                text=f"SQNR on held-out samples: {value:.1f} dB of {min_sqnr:g} dB",
            )
        )
    if score is not None and score.int8_score is not None and score.max_drop is not None:
        drop = score.float_score - score.int8_score
        found.append(
            Gate(
                name="max_drop",
                limit=score.max_drop,
                value=drop,
                passed=drop <= score.max_drop,
                text=f"{score.function} falls from {score.float_score:g} to {score.int8_score:g}, "
                f"and may by {score.max_drop:g}",
            )
        )
    if difference is not None:
        found.append(_speed(max_slowdown, difference))
    return tuple(found)


def _speed(slowdown: float | None, difference: Difference) -> Gate:
    told = f"{difference.ratio:.2f}× as fast ({difference.low:.2f} to {difference.high:.2f})"
    if slowdown is None:
        return Gate(
            name="faster",
            limit=1.0,
            value=difference.ratio,
            passed=difference.verdict == "faster",
            text=told,
        )
    limit = 1 / (1 + slowdown)
    return Gate(
        name="max_slowdown",
        limit=limit,
        value=difference.ratio,
        passed=difference.high >= limit,
        text=told,
    )
