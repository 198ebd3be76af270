"""What speaks against one row of a benchmark: plain numbers in, a caution or nothing out.

The advice knows the options in use: it does not ask for more time where time would not help, nor
for what was given already.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from onnxopt.report import Caution
from onnxopt.text import human_seconds

# What is usual on a quiet machine, as standard deviations of the logarithm: 0.05 to 0.115 between
# sessions of a process, about 0.05 between processes. Beyond twice that, something disturbs.
_SESSIONS = 0.2
_PROCESSES = 0.1
_FEWEST = 8
# A drift is told where chance would make it in one of a hundred rows, and it is not small.
_CHANCE = 0.01
_DRIFT = 0.05
_CLOCK_NS = 100
_TICKS = 20
_LONGEST = 3600.0
_WIDEST = 0.5  # an interval beyond that is none that anybody would ask for
_SLOW, _SLOW_MS = 10, 50.0

Levels = Sequence[Sequence[float]]
"""One time for each session, by process, in the order in which they were measured."""


def unsteady(levels: Levels, *, precision: float, max_time: float) -> Caution | None:
    """Say so where times drift in the course of the run, or spread more than is usual.

    `precision` is half the width of the interval that is wanted, as a share; `max_time` is in
    seconds.
    """
    return _drifting(levels, precision) or _scattered(levels, precision, max_time)


def _drifting(levels: Levels, precision: float) -> Caution | None:
    """Look for a trend over processes, whose means are what is independent (Kendall's tau)."""
    means = [statistics.median(process) for process in levels if len(process)]
    if len(means) < _FEWEST or min(means) <= 0:
        return None
    from scipy import stats

    order = range(len(means))
    logs = [math.log(mean) for mean in means]
    change = math.expm1(stats.theilslopes(logs, order).slope * (len(means) - 1))
    if abs(change) < max(_DRIFT, precision) or stats.kendalltau(order, logs).pvalue > _CHANCE:
        return None
    slower = change > 0
    return Caution(
        kind="unsteady",
        message=f"runs became {abs(change):.0%} {'slower' if slower else 'faster'} in the course"
        " of the benchmark",
        advice="comparisons hold, because models took turns; for times "
        + ("let the machine cool down first" if slower else "let the machine warm up first"),
    )


def _scattered(levels: Levels, precision: float, max_time: float) -> Caution | None:
    logs = [[math.log(level) for level in process if level > 0] for process in levels]
    inside = [statistics.variance(process) for process in logs if len(process) > 1]
    means = [statistics.mean(process) for process in logs if process]
    sessions = math.sqrt(statistics.mean(inside)) if len(inside) > 1 else 0.0
    # What sessions alone would make means of processes differ by is theirs.
    theirs = sessions**2 / statistics.mean(map(len, filter(None, logs))) if means else 0.0
    spread = statistics.variance(means) if len(means) > 2 else 0.0
    processes = math.sqrt(max(0.0, spread - theirs))
    if sessions > _SESSIONS:
        told = f"sessions of the same process differ by {math.expm1(sessions):.0%}"
    elif processes > _PROCESSES:
        told = f"processes differ by {math.expm1(processes):.0%}"
    else:
        return None
    needed = _needed(max(sessions, processes), precision)
    return Caution(
        kind="unsteady",
        message=f"{told} (standard deviation), more than on a quiet machine",
        advice="stop other programs and keep the clock fixed"
        + (f", or average over more: --max-time {2 * max_time:g}" if needed else ""),
    )


def _needed(spread: float, precision: float) -> bool:
    """Tell whether averaging could reach the precision at all: in some hundred sessions."""
    return (2 * spread / precision) ** 2 < 2000


def too_short(
    half_width: float, *, run_ns: float, precision: float, max_time: float
) -> Caution | None:
    """Say so where the interval is wider than was wanted, or a run too short for the clock.

    `half_width` is half of the interval, as a share, NaN where there is none; `run_ns` is one
    run.
    """
    if run_ns < _CLOCK_NS * _TICKS:
        return Caution(
            kind="too short",
            message=f"a run takes {human_seconds(run_ns / 1e9)}, of which reading the clock is a"
            " part",
            advice="give it more to do with --batch",
        )
    if not half_width > precision:
        return None
    if not math.isfinite(half_width):
        return Caution(
            kind="too short",
            message="too few processes were measured to say how sure this is",
            advice=f"give more --max-time than {max_time:g}",
        )
    return Caution(
        kind="too short",
        message=f"the interval is ±{half_width:.1%} wide, ±{precision:.1%} were wanted",
        advice=_mended(half_width, max_time * (half_width / precision) ** 2),
    )


def _mended(half_width: float, needed: float) -> str:
    """Advise `needed` seconds where that is a time to wait, else less precision, or quiet."""
    if needed <= _LONGEST:
        return f"about --max-time {_rounded(needed)} is needed"
    if half_width > _WIDEST:
        return "more time will not do: stop other programs, or measure on a quieter machine"
    return f"more time will not do on this machine: ask for --precision {half_width:.0%}"


def _rounded(seconds: float) -> str:
    """Round up to two digits: more is not known."""
    unit = 10 ** max(0, math.floor(math.log10(max(seconds, 1))) - 1)
    return f"{math.ceil(seconds / unit) * unit:g}"


def slow_first_run(
    first_run_ms: float,
    median_ms: float,
    *,
    provider: str = "",
    options: Sequence[str] = (),
) -> Caution | None:
    """Say so where the first run of a session takes more than ten steady ones, and 50 ms.

    `options` are the names of the provider options that the caller gave.
    """
    if not (first_run_ms > _SLOW_MS and first_run_ms > _SLOW * median_ms > 0):
        return None
    search = "cudnn_conv_algo_search"
    if provider == "cuda" and search not in options:
        advice = (
            f"cuDNN tries convolutions then: --provider-option cuda.{search}=HEURISTIC is quick"
        )
    elif provider == "tensorrt":
        advice = "engines are built or loaded then: run the model once before it has to answer"
    else:
        advice = "run the model once before it has to answer"
    return Caution(
        kind="slow first run",
        message=f"the first run took {human_seconds(first_run_ms / 1e3)}, as long as"
        f" {first_run_ms / median_ms:,.0f} later ones",
        advice=advice,
    )
