"""What is known of a group's units when their importance is judged: who makes them, who reads them.

Columns are in the order of `sweep.patches`: by position in the kernel, then by channel. A reader
whose Gram matrix is of several groups has a row of `units` for each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.sweep.moments import Moments


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """The part of a reader that has one Gram matrix: rows [outputs, columns], units [columns].

    `gram` is E[q qᵀ] about the means and `cross` E[x qᵀ], x what the original model has; both None
    where nothing was seen. `power` is E[q²], the means in it, [columns].
    """

    rows: Array
    units: Array
    gram: Array | None
    cross: Array | None
    power: Array
    absolute: Array


@dataclass(frozen=True, kw_only=True, eq=False)
class Reader:
    """A weight that takes units in: rows [outputs, columns] and the unit of each column.

    `units` is [columns], or [groups, columns] where rows of several groups see other columns; -1
    is what does not belong to the group of units. `absolute`, like `units`, is E|q| where that was
    measured: moments do not tell it.
    """

    rows: Array
    units: Array
    moments: Moments | None = None
    absolute: Array | None = None

    @property
    def seen(self) -> bool:
        """Tell whether second moments of what it reads are known."""
        return (
            self.moments is not None and bool(self.moments.samples) and self.moments.gram.size > 0
        )

    def panels(self, keep: float = 0.0) -> Iterator[Panel]:
        """Yield its groups; of the means' square a share `keep` stays in the moments."""
        units = np.atleast_2d(self.units)
        groups = len(units)
        gram = cross = None
        if self.moments is not None and self.seen:
            groups = len(self.moments.gram)
            gram, cross = self.moments.centred(keep)
        each = len(self.rows) // groups
        for group in range(groups):
            power = np.ones(self.rows.shape[1])
            if self.moments is not None and self.seen:
                power = np.asarray(np.diagonal(self.moments.gram[group]), np.float64)
            level = np.sqrt(power)
            if self.absolute is not None:
                level = np.broadcast_to(np.atleast_2d(self.absolute), (groups, len(power)))[group]
            yield Panel(
                rows=self.rows[group * each : (group + 1) * each],
                units=units[group if len(units) > 1 else 0],
                gram=None if gram is None else gram[group],
                cross=None if cross is None else cross[group],
                power=power,
                absolute=level,
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class Writer:
    """A weight that makes units: rows [outputs, columns] and the unit of each row, -1 for none."""

    rows: Array
    units: Array
    bias: Array | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """All that speaks for the units of one group; `scales` [size] are of a BatchNormalization."""

    size: int
    readers: tuple[Reader, ...] = ()
    writers: tuple[Writer, ...] = ()
    scales: Array | None = None
