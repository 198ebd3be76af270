"""Refits a layer by gradient steps, on weights scaled so that every solver's rate means the same.

With s = √(E[q²] + λ) by column, a row w becomes v = w s: its curvature has a diagonal of ones, and
is divided by its largest eigenvalue, found by power iteration. What divides by the size of
gradients moves each weight by about its rate: so rows are scaled to a mean square of one, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights.factor import RIDGE
from onnxopt.pruning.weights.solvers.problem import Problem, Slope
from onnxopt.pruning.weights.solvers.solver import Solver

_POWERS = 12
_MARGIN = 1.1
"""Power iteration ends below the largest eigenvalue."""
_BETWEEN = 25
"""Steps between two looks at the progress."""
_PATIENCE = 2
"""Looks that see little progress before it is believed: momentum overshoots and comes back."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Stepped:
    """Rows [outputs, columns], the change of the bias [outputs], and how many steps it took."""

    rows: Array
    shift: Array
    steps: int


def refit_by_steps(
    rows: Array,
    kept: Array,
    problem: Problem,
    solver: Solver,
    *,
    ridge: float = RIDGE,
    towards: Array | None = None,
    steps: int = 3000,
    tolerance: float = 1e-3,
) -> Stepped:
    """Return what `weights.refit` returns for one group, by steps from the rows as they are.

    `problem` has at least one slope. `kept` is bool [columns]. Ends after `steps`, or when what was
    gained between looks is less than a share `tolerance` of all that was gained. After a pass of
    several batches the rows are the mean over the pass, which evens out what they say.
    """
    level = float(np.mean(problem.diagonal)) or 1.0
    pull = ridge * level
    scale = np.sqrt(np.where(kept, problem.diagonal + max(pull, 1e-9 * level), np.inf))
    start = np.where(kept, rows, 0.0) * np.where(kept, scale, 0.0)
    size = np.sqrt(np.mean(start * start, axis=1, keepdims=True))
    size = np.where(size > 0, size, 1.0)
    aim = np.where(kept, rows if towards is None else towards, 0.0)
    steepest = _steepest(problem, scale, pull, len(rows))

    def slope_at(slope: Slope, v: Array) -> tuple[Array, float]:
        made = v * size / scale
        gradient, loss = slope(made)
        away = made - aim
        found = (gradient + pull * away) / scale
        return found / size / steepest, loss + pull * float(np.square(away).sum())

    solver.start(rows.shape)
    v, taken, progress = start / size, 0, _Progress(tolerance)
    while taken < steps:
        passed, losses = np.zeros_like(v), []
        for slope in problem.slopes():
            gradient, loss = slope_at(slope, v)
            v = solver.step(v, gradient)
            passed += v
            losses.append(loss)
        v, taken = passed / len(losses), taken + len(losses)
        if progress.ended(float(np.mean(losses)), len(losses)):
            break
    made = v * size / scale
    shift = np.asarray(rows @ problem.mean - made @ problem.seen)
    return Stepped(rows=made, shift=shift, steps=taken)


class _Progress:
    """Looks now and then whether steps still gain anything."""

    def __init__(self, tolerance: float) -> None:
        self.tolerance = tolerance
        self.first = self.last = np.inf
        self.steps = self.idle = 0

    def ended(self, loss: float, steps: int) -> bool:
        if np.isinf(self.first):
            self.first = self.last = loss
        self.steps += steps
        if self.steps < _BETWEEN:
            return False
        little = self.last - loss <= self.tolerance * (self.first - loss)
        self.idle = self.idle + 1 if little else 0
        self.steps, self.last = 0, loss
        return self.idle >= _PATIENCE


def _steepest(problem: Problem, scale: Array, pull: float, outputs: int) -> float:
    """Return a little more than the largest eigenvalue of the scaled curvature."""
    line = np.where(np.isfinite(scale), 1.0, 0.0) * _signs(len(scale))
    found = 1.0
    slopes = _again(problem)
    for _ in range(_POWERS):
        slope = next(slopes)
        length = float(np.linalg.norm(line)) or 1.0
        made = np.zeros((outputs, len(scale)))
        nothing, _ = slope(made)
        made[0] = line / length / scale
        something, _ = slope(made)
        line = (something[0] - nothing[0] + pull * made[0]) / scale
        found = max(found, float(np.linalg.norm(line)))
    return _MARGIN * found


def _signs(count: int) -> Array:
    return np.random.default_rng(0).choice((-1.0, 1.0), count)


def _again(problem: Problem) -> Iterator[Slope]:
    while True:
        yield from problem.slopes()
