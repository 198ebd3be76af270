"""What integers a weight may be, given those it is added to."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from onnxopt.arrays import Array


class Limits(Protocol):
    """Which integers are allowed in a matrix of weights [rows, columns].

    `columns` are in the order in which the kernel adds them.
    """

    def interval(self, integers: Array, column: int) -> tuple[Array, Array]:
        """Return the least and largest integer [rows] for one column, all others as they are."""
        ...

    def project(self, integers: Array) -> Array:
        """Return the nearest allowed integers."""
        ...

    def allow(self, integers: Array) -> Array:
        """Tell for each row whether it is allowed: bools [rows]."""
        ...


class Plain:
    """Every integer from -127 to 127, whatever the others are: kernels that add in 32 bits."""

    def interval(self, integers: Array, column: int) -> tuple[Array, Array]:
        """Return [-127, 127] for every row."""
        del column
        rows = len(integers)
        return np.full(rows, -127), np.full(rows, 127)

    def project(self, integers: Array) -> Array:
        """Return the integers, clipped."""
        return np.clip(integers, -127, 127)

    def allow(self, integers: Array) -> Array:
        """Tell for each row whether it lies in [-127, 127]."""
        return np.asarray(np.abs(integers).max(axis=1, initial=0) <= 127)
