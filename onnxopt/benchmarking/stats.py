"""Turns samples into a ratio with an interval, and the interval into a verdict.

Where a session's memory lies is drawn once, when it is made, and decides its speed by 5-10 %; so
the sample is the fresh session (the median of its steady runs), not the run. Sessions of the two
models come in pairs, made one right after the other in the same process, and what enters is the
difference of the logarithms within a pair: drift, and what a process does to both, cancels.

The ratio is the mean over processes of a trimmed mean over pairs. Processes are independent draws
of everything below them, so the spread of their means holds all components of variance (session,
process, and what a process does to one model only), and Student's t over processes is the exact
interval of that mixed model where processes have equally many pairs. A bootstrap of both levels
counts the sessions' part twice: simulated with the components above it raised no alarm in 400
comparisons of equals, and found about half of what this one finds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.report import Verdict

CONFIDENCE = 0.95
MINIMUM_EFFECT = 0.01
"""A ratio closer to 1 than this is no difference, however narrow its interval."""

_TRIMMED = 0.2
_NORMAL = 1.95996
# Student's 97.5 % quantiles for 1, 2, … degrees of freedom; beyond, the last terms of a series.
_STUDENT = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip

Times = Sequence[Sequence[Sequence[int]]]
"""Nanoseconds by process, session and run."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How many times faster the candidate is, with the interval that holds it 95 times of 100."""

    ratio: float
    low: float
    high: float
    sessions: int
    processes: int

    @property
    def verdict(self) -> Verdict:
        """Say 'faster' or 'slower' only where the interval excludes 1 and the effect is worth it.

        One process alone cannot tell what it does to one of the models: then nothing is said.
        """
        if self.processes < 2:
            return "no difference"
        if self.low > 1 and self.ratio > 1 + MINIMUM_EFFECT:
            return "faster"
        if self.high < 1 and self.ratio < 1 / (1 + MINIMUM_EFFECT):
            return "slower"
        return "no difference"

    @property
    def half_width(self) -> float:
        """Half of the interval, as a share of the ratio."""
        return math.log(self.high / self.low) / 2


def estimate(baseline: Times, candidate: Times) -> Estimate | None:
    """Compare two models whose sessions alternated; None where no process has a pair.

    The n-th session of a process on one side is paired with the n-th on the other.
    """
    pairs = [_pairs(one, two) for one, two in zip(baseline, candidate, strict=True)]
    pairs = [differences for differences in pairs if len(differences)]
    if not pairs:
        return None
    if len(pairs) == 1:  # nothing is known of the spread between processes: pairs stand in
        pairs = [np.array([difference]) for difference in pairs[0]]
    means = np.array([_trimmed_mean(differences) for differences in pairs])
    center, spread = float(np.mean(means)), _spread(means)
    return Estimate(
        ratio=math.exp(center),
        low=math.exp(center - spread),
        high=math.exp(center + spread),
        sessions=sum(len(differences) for differences in pairs),
        processes=len(baseline),
    )


def _pairs(baseline: Sequence[Sequence[int]], candidate: Sequence[Sequence[int]]) -> np.ndarray:
    """Return log(baseline / candidate) of the pairs of sessions of one process."""
    return np.array(
        [
            math.log(float(np.median(one)) / float(np.median(two)))
            for one, two in zip(baseline, candidate, strict=False)
            if len(one) and len(two)
        ]
    )


def _trimmed_mean(values: np.ndarray) -> float:
    """Average without the largest and the smallest fifth: a burst of noise hits one session."""
    cut = int(len(values) * _TRIMMED)
    return float(np.mean(np.sort(values)[cut : len(values) - cut]))


def _spread(means: np.ndarray) -> float:
    """Return half the width of the interval of the mean, on the scale of logarithms."""
    if len(means) == 1:
        return math.inf
    return student(len(means) - 1) * float(np.std(means, ddof=1)) / math.sqrt(len(means))


def student(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t distribution."""
    if degrees <= len(_STUDENT):
        return _STUDENT[degrees - 1]
    z, n = _NORMAL, degrees
    return z + (z**3 + z) / (4 * n) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * n**2)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Latency of one model: the median over sessions, percentiles over all runs, in ms."""

    median_ms: float
    p90_ms: float
    p99_ms: float


def summarize(times: Times) -> Summary:
    """Describe the latency of all runs of all sessions; NaN where there is none."""
    sessions = [session for process in times for session in process if len(session)]
    if not sessions:
        return Summary(median_ms=math.nan, p90_ms=math.nan, p99_ms=math.nan)
    runs = np.concatenate([np.asarray(session, float) for session in sessions]) / 1e6
    median = float(np.median([np.median(session) for session in sessions])) / 1e6
    p90, p99 = np.percentile(runs, [90, 99])
    return Summary(median_ms=median, p90_ms=float(p90), p99_ms=float(p99))
