"""Decides how many runs, sessions and processes a measurement is made of.

A nested experiment has the least variance for its time when each level is repeated so often that
n² = (cost of the level above / cost of this one) · (variance of this one / variance above)
(Kalibera and Jones, Rigorous Benchmarking in Reasonable Time, ISMM 2013, §5). Costs and variances
are those that were measured so far, but for the variance between processes: that is taken as it
usually is. It is known badly before there are many, and where the number of sessions followed from
it, small chance spreads would get few, large processes and large ones many small ones: simulated,
7 instead of 5 of 100 intervals for 95 missed the truth. The variance between sessions is
independent of the processes' means.

Processes follow until the interval is as narrow as wanted: its width, and never the verdict,
decides when to stop, because a test that is repeated until it finds something finds something.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from onnxopt.benchmarking.statistics.stats import Components, student

FEWEST_RUNS, MOST_RUNS = 3, 100
FEWEST_PROCESSES = 8
"""Fewer do not tell how wide the interval is, nor how many are wanted."""
_MOST_ROUNDS = 8
_PILOT_PROCESSES = 3
_AIM = 8  # processes should fit into the time, whatever else is best
# Standard deviations between processes of the logarithm: of one model's sessions (0.06 in 43 and 57
# processes of two models on a busy machine), and of what a process does to one of two only (0.034
# and 0.008 there).
_ALONE, _PAIRED = 0.06, 0.02
# The variance of a median of n runs, as a share of one run's over n (normal distribution).
_OF_MEDIAN = math.pi / 2


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Seconds that a process takes to start, a session to load and warm, and one run.

    `runs` is how many a session has had, on average.
    """

    process: float
    session: float
    run: float
    runs: float

    def round_of(self, sides: int) -> float:
        """Return the seconds that a round of so many models takes: two sessions of each."""
        return 2 * sides * (self.session + self.runs * self.run)


def rounds(
    found: Components | None, costs: Costs, sides: int, *, seconds: float, left: float
) -> int:
    """Return how often each of `sides` models gets two sessions (ABBA) in the next process.

    `seconds` is all the time there is, of which so many are `left`.
    """
    each = costs.round_of(sides)
    if found is None or found.processes < _PILOT_PROCESSES or not math.isfinite(found.session):
        return 1
    if each <= 0:  # nothing has been measured by this program: it goes on with another's samples
        return 1
    fits = (min(seconds / _AIM, left) - costs.process) / each
    usual = (_PAIRED if sides > 1 else _ALONE) ** 2
    best = math.sqrt(costs.process / (each / 2) * found.session / usual) / 2
    return int(max(1, min(_MOST_ROUNDS, fits, best + 0.5)))


def runs_of(within: float, medians: float, costs: Costs) -> int | None:
    """Return how many runs a session should have; None where nothing is known yet.

    `within` is the variance of the logarithm of a run inside a session, `medians` that of the
    sessions' medians, to which their runs have added theirs.
    """
    if not (math.isfinite(within) and math.isfinite(medians)) or min(costs.run, costs.runs) <= 0:
        return None
    between = medians - _OF_MEDIAN * within / costs.runs
    if between <= 0:
        return MOST_RUNS
    best = math.sqrt(costs.session / costs.run * _OF_MEDIAN * within / between)
    return max(FEWEST_RUNS, math.ceil(best)) if best < MOST_RUNS else MOST_RUNS


def processes_wanted(found: Components, precision: float, comparisons: int) -> int:
    """Predict how many processes like those so far make half the interval `precision`."""
    session = found.session if math.isfinite(found.session) else 0.0
    variance = found.process + session / found.sessions
    wanted = FEWEST_PROCESSES
    while wanted < 10_000:
        half = student(wanted - 1, comparisons) * math.sqrt(variance / wanted)
        if half <= math.log1p(precision):
            break
        wanted = max(wanted + 1, int(wanted * 1.05))
    return wanted
