"""What gradient steps are taken on: a Gram matrix that is only multiplied by, or streamed batches.

The loss of rows W' is E‖W (x - E[x]) - W' (q - E[q])‖²; half its gradient is W' G - W C.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from onnxopt.arrays import Array

Slope = Callable[[Array], tuple[Array, float]]
"""Takes W' [outputs, columns]; returns half the gradient there, and the loss but for a constant."""
Batches = Callable[[], Iterable[tuple[Array, Array]]]
"""Begins a pass over pairs (x, q) [rows, columns]: what the original and the pruned model have."""


class Problem(Protocol):
    """A least squares problem; `diagonal` [columns] is E[q²] about the means."""

    @property
    def diagonal(self) -> Array: ...
    @property
    def mean(self) -> Array: ...
    @property
    def seen(self) -> Array: ...

    def slopes(self) -> Iterator[Slope]:
        """Yield the slopes of one pass, each of as much as is looked at for one step."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Multiplied:
    """A problem by products: `times` returns W' G, `wanted` is W C, both [outputs, columns]."""

    times: Callable[[Array], Array]
    wanted: Array
    diagonal: Array
    mean: Array
    seen: Array

    def slopes(self) -> Iterator[Slope]:
        """Yield the one slope there is."""
        yield self._slope

    def _slope(self, weights: Array) -> tuple[Array, float]:
        gradient = np.asarray(self.times(weights) - self.wanted)
        return gradient, float(np.sum((gradient - self.wanted) * weights))


class Streamed:
    """A problem by batches, which are read once for their means, then as often as there are passes.

    A batch is a step; it should have several rows for each output. Nothing but means is kept.
    """

    def __init__(self, rows: Array, batches: Batches) -> None:
        self.rows = np.asarray(rows, np.float64)
        self._batches = batches
        count, mean, seen, power = 0, 0.0, 0.0, 0.0
        for x, q in batches():
            count += len(q)
            mean = mean + x.sum(axis=0, dtype=np.float64)
            seen = seen + q.sum(axis=0, dtype=np.float64)
            power = power + np.square(q, dtype=np.float64).sum(axis=0)
        whole = max(count, 1)
        self.mean, self.seen = np.asarray(mean) / whole, np.asarray(seen) / whole
        self.diagonal = np.maximum(np.asarray(power) / whole - self.seen**2, 0.0)

    def slopes(self) -> Iterator[Slope]:
        """Yield the slope of each batch."""
        for x, q in self._batches():
            yield self._slope(x - self.mean, q - self.seen)

    def _slope(self, x: Array, q: Array) -> Slope:
        meant = x @ self.rows.T

        def slope(weights: Array) -> tuple[Array, float]:
            off = q @ weights.T - meant
            return np.asarray(off.T @ q / len(q)), float(np.square(off).sum() / len(q))

        return slope
