"""Turns samples into a ratio with an interval, and the interval into a verdict.

Where a session's memory lies is drawn once, when it is made, and decides its speed by 5-10 %; so
the sample is the fresh session (its level: the median of its steady runs), not the run. Sessions
of the two models come in pairs, made one right after the other in the same process, and what
enters is the difference of the logarithms within a pair: drift, and what a process does to both,
cancels.

The ratio is the mean over processes of a trimmed mean over pairs. Processes are independent draws
of everything below them, so the spread of their means holds all components of variance (session,
process, and what a process does to one model only), and Student's t over processes is the exact
interval of that mixed model where processes have equally many pairs. Where they have not, each
weighs the inverse of its variance as it is estimated, the error is the weighted spread (Hartung
and Knapp, Statistics in Medicine 20, 2001), and the degrees of freedom are those of so many equal
processes as these are worth (Kish): simulated, 95 to 96 of 100 intervals hold the truth, and are a
tenth to a quarter narrower than without weights. A bootstrap of both levels counts the sessions'
part twice: with the components above it raised no alarm in 400 comparisons of equals, and found
about half of what this one finds.

Of m comparisons of one report each gets the level 1 - (1 - α)^(1/m) (Šidák 1967), so that all
intervals together hold with probability 1 - α and a verdict never contradicts its interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from onnxopt.report import Difference, Setting, Verdict

CONFIDENCE = 0.95
MINIMUM_EFFECT = 0.01
"""A ratio closer to 1 than this is no difference, however narrow its interval."""
MARGIN = 0.005
"""An interval that comes closer to 1 than this is no difference: of comparisons of equals, whose
ratio is exactly 1, as many as the level says would raise an alarm, and they need not."""

_TRIMMED = 0.2

Levels = Sequence[Sequence[float]]
"""What each session's time is, by process and session: any unit, above zero."""
Pairs = list[np.ndarray[Any, Any]]


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How many times faster the candidate is, with an interval of its logarithm's `spread`."""

    ratio: float
    low: float
    high: float
    sessions: int
    processes: int
    comparisons: int = 1

    @property
    def verdict(self) -> Verdict:
        """Say 'faster' or 'slower' only where the interval is clear of 1 and the effect worth it.

        One process alone cannot tell what it does to one of the models: then nothing is said.
        """
        if self.processes < 2:
            return "no difference"
        if self.low > 1 + MARGIN and self.ratio > 1 + MINIMUM_EFFECT:
            return "faster"
        if self.high < 1 / (1 + MARGIN) and self.ratio < 1 / (1 + MINIMUM_EFFECT):
            return "slower"
        return "no difference"

    @property
    def half_width(self) -> float:
        """Half of the interval, as a share of the ratio."""
        return math.log(self.high / self.low) / 2 if self.low > 0 else math.inf

    def difference(
        self, baseline: str, candidate: str, setting: Setting, *, control: bool = False
    ) -> Difference:
        """Return what reports carry."""
        return Difference(
            baseline=baseline,
            candidate=candidate,
            provider=setting.provider,
            ratio=self.ratio,
            low=self.low,
            high=self.high,
            verdict=self.verdict,
            confidence=CONFIDENCE,
            sessions=self.sessions,
            processes=self.processes,
            comparisons=self.comparisons,
            control=control,
            setting=setting,
        )


@dataclass(frozen=True, kw_only=True)
class Components:
    """Variances of the logarithm of what is estimated: between processes, and between sessions.

    Both are those of a pair's difference where two models are compared. They were estimated from
    so many `processes` with so many `sessions` (or pairs of them) each, on average.
    """

    process: float
    session: float
    processes: int
    sessions: float


def estimate(baseline: Levels, candidate: Levels, *, comparisons: int = 1) -> Estimate | None:
    """Compare two models whose sessions alternated; None where no process has a pair.

    The n-th session of a process on one side is paired with the n-th on the other. The interval
    holds together with those of `comparisons` - 1 others.
    """
    return _estimate(pairs_of(baseline, candidate), comparisons)


def interval(levels: Levels) -> tuple[float, float]:
    """Return the interval of one model's typical level, in its unit; (0, inf) of one process."""
    found = _estimate(logs_of(levels), 1)
    return (found.low, found.high) if found is not None else (math.nan, math.nan)


def estimate_apart(baseline: Levels, candidate: Levels, *, comparisons: int = 1) -> Estimate | None:
    """Compare two models that did not take turns, such as today's and last week's.

    Processes are the independent units on both sides (Welch 1947); what the machine did to all of
    one side counts as the model's. None where a side has no session.
    """
    sides = [logs_of(each) for each in (baseline, candidate)]
    if not all(sides):
        return None
    one, two = map(_mean, sides)
    error = math.hypot(one.error, two.error)
    shares = sum(each.error**4 / each.degrees for each in (one, two) if each.degrees > 0)
    degrees = error**4 / shares if 0 < shares < math.inf and error < math.inf else 1.0
    return _around(
        _Mean(center=one.center - two.center, error=error, degrees=degrees),
        sessions=sum(map(len, candidate)),
        processes=min(map(len, sides)),
        comparisons=comparisons,
    )


def pairs_of(baseline: Levels, candidate: Levels) -> Pairs:
    """Return log(baseline / candidate) of each pair of sessions, by process with any."""
    made = [
        np.log(np.asarray(one[:shared], float)) - np.log(np.asarray(two[:shared], float))
        for one, two in zip(baseline, candidate, strict=True)
        if (shared := min(len(one), len(two)))
    ]
    return [differences for differences in made if len(differences)]


def logs_of(levels: Levels) -> Pairs:
    """Return the logarithm of each session's level, by process with any."""
    return [np.log(np.asarray(process, float)) for process in levels if len(process)]


def components(pairs: Pairs) -> Components:
    """Estimate the variance between processes and between the sessions of one (ANOVA, unbalanced).

    Moment estimators of the one-way random model (Searle et al., Variance Components, 1992, §3.6);
    NaN where there are not two of what is compared.
    """
    many = np.array([len(each) for each in pairs])
    if not pairs:
        return Components(process=math.nan, session=math.nan, processes=0, sessions=0.0)
    values = np.concatenate(pairs)
    means = np.add.reduceat(values, np.cumsum(many) - many) / many
    inner = len(values) - len(pairs)
    within = float(np.sum((values - np.repeat(means, many)) ** 2))
    session = within / inner if inner else math.nan
    process = math.nan
    if len(pairs) > 1:
        typical = float(np.mean(1 / many))  # harmonic: what sessions add to a mean's variance
        process = float(np.var(means, ddof=1)) - (session * typical if inner else 0.0)
        process = max(0.0, process)
    return Components(
        process=process, session=session, processes=len(pairs), sessions=float(many.mean())
    )


def _estimate(pairs: Pairs, comparisons: int) -> Estimate | None:
    if not pairs:
        return None
    processes = len(pairs)
    if processes == 1:  # nothing is known of the spread between processes: pairs stand in
        pairs = [np.array([difference]) for difference in pairs[0]]
    return _around(
        _mean(pairs),
        sessions=sum(len(differences) for differences in pairs),
        processes=processes,
        comparisons=comparisons,
    )


def _trimmed_mean(values: np.ndarray[Any, Any]) -> float:
    """Average without the largest and the smallest fifth: a burst of noise hits one session."""
    cut = int(len(values) * _TRIMMED)
    return float(np.mean(np.sort(values)[cut : len(values) - cut]))


@dataclass(frozen=True, kw_only=True)
class _Mean:
    """A mean of logarithms, its standard error, and with how many degrees of freedom."""

    center: float
    error: float
    degrees: float


def _mean(pairs: Pairs) -> _Mean:
    """Return the weighted mean over processes; of one process the error is infinite."""
    means = np.array([_trimmed_mean(each) for each in pairs])
    if len(means) == 1:
        return _Mean(center=float(means[0]), error=math.inf, degrees=0.0)
    weights = _weights(pairs)
    center = float(np.sum(weights * means))
    spread = float(np.sum(weights * (means - center) ** 2))
    worth = 1 / float(np.sum(weights**2))
    return _Mean(center=center, error=math.sqrt(spread / (len(means) - 1)), degrees=worth - 1)


def _around(mean: _Mean, *, sessions: int, processes: int, comparisons: int) -> Estimate:
    """Return the estimate with its interval."""
    width = math.inf
    if mean.error < math.inf:
        width = student(mean.degrees, comparisons) * mean.error
    high = mean.center + width
    return Estimate(
        ratio=math.exp(mean.center),
        low=math.exp(mean.center - width),
        high=math.exp(high) if high < 700 else math.inf,
        sessions=sessions,
        processes=processes,
        comparisons=comparisons,
    )


def _weights(pairs: Pairs) -> np.ndarray[Any, Any]:
    """Return what the mean of each process weighs, 1 in all: the inverse of its variance."""
    many = np.array([len(each) for each in pairs], float)
    found = components(pairs)
    variances = found.process + found.session / many
    if not (np.isfinite(variances).all() and variances.all()):
        variances = np.ones(len(pairs))
    weights: np.ndarray[Any, Any] = (1 / variances) / np.sum(1 / variances)
    return weights


def student(degrees: float, comparisons: int = 1) -> float:
    """Return the two-sided quantile of Student's t at `CONFIDENCE`, shared by `comparisons`."""
    level = CONFIDENCE ** (1 / max(1, comparisons))
    return float(stdtrit(degrees, (1 + level) / 2))
