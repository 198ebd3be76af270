"""One least squares problem from which columns go, unit by unit, while the others make up for them.

Let H = G + λ and T = W C + λ W: the pull is towards W itself. Of all W' that use only the columns
S, the least of J = tr(W' H W'ᵀ) - 2 tr(W' Tᵀ) is at W' = T_S H_SS⁻¹. Let M = H_SS⁻¹. When the
columns b go as well (Hassibi and Stork 1992, by blocks),

    M_bb = L Lᵀ,   V = M_:b L⁻ᵀ,   Z = W'_:b L⁻ᵀ:
    M ← M - V Vᵀ,   W' ← W' - Z Vᵀ,   J ← J + ‖Z‖²

so that the cost of a unit needs only its own M_bb and W'_:bᵀ W'_:b. Those are kept up to date; M
and W' themselves follow after some columns at once, by one matrix product, without those gone.

The output then lacks E‖W x - W' q‖² = E‖W x‖² + J - λ (‖W'‖² - 2 tr(W' Wᵀ)).
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.pruning.weights import factor

_WAITING = 96
"""Columns that go before M and W' follow."""


class Downdate:
    """The columns left of one problem; `units` [columns] names those that go together, -1 none.

    `costs` [units] is by how much J grows when each unit of `names` goes next.
    """

    def __init__(
        self, inverse: Array, weights: Array, rows: Array, units: Array, ridge: float
    ) -> None:
        """Begin with H⁻¹, W' and W [outputs, columns], and λ."""
        self.names = np.unique(units[units >= 0])
        self.weights = weights
        self.rows = rows
        self.ridge = ridge
        self._inverse = inverse
        self._columns = _by_unit(units, self.names)
        self._gone = np.zeros(len(self.names), bool)
        self._pull = float(np.sum(weights * (weights - 2 * rows)))
        self._rise = 0.0
        self._v = self._z = np.zeros((0, 0))
        self._waiting = 0
        self._forget()
        self._refresh()

    @property
    def rise(self) -> float:
        """E‖W x - W' q‖² less E‖W x‖² and J of the beginning."""
        return self._rise - self.ridge * self._pull

    def remove(self, name: int) -> None:
        """Take a unit of `names`, which is still there, out of this problem."""
        unit = int(np.searchsorted(self.names, name))
        from scipy.linalg import solve_triangular

        columns = self._columns[unit]
        columns = columns[columns < len(self._inverse)]
        v, z = self._v[:, : self._waiting], self._z[:, : self._waiting]
        taken = self._inverse[:, columns] - v @ v[columns].T
        lower = factor.cholesky(taken[columns])
        new_v = solve_triangular(lower, taken.T, lower=True, check_finite=False).T
        held = self.weights[:, columns] - z @ v[columns].T
        new_z = solve_triangular(lower, held.T, lower=True, check_finite=False).T
        crossed = self.weights.T @ new_z - v @ (z.T @ new_z)
        self._follow(new_v, new_z, crossed)
        self._gone[unit] = True
        stop = self._waiting + len(columns)
        if stop > self._v.shape[1]:
            self._v, self._z = (_widened(part, stop) for part in (self._v, self._z))
        self._v[:, self._waiting : stop], self._z[:, self._waiting : stop] = new_v, new_z
        self._waiting = stop
        if stop >= _WAITING:
            self._settle()
        self._judge()

    def _follow(self, v: Array, z: Array, crossed: Array) -> None:
        """Bring the blocks of all units, J and what the pull makes of it up to date."""
        square = z.T @ z
        self._rise += float(np.trace(square))
        self._pull += float(np.sum(square * (v.T @ v)) - 2 * np.sum(crossed * v))
        self._pull += 2 * float(np.sum((self.rows @ v) * z))
        mine, beside = _gathered(v, self._columns), _gathered(crossed, self._columns)
        turned = mine.transpose(0, 2, 1)
        self._blocks -= mine @ turned
        moved = beside @ turned
        self._squares -= moved + moved.transpose(0, 2, 1) - (mine @ square) @ turned

    def _settle(self) -> None:
        """Apply what waits to M and W', and let go of the columns that are gone."""
        size = len(self._inverse)
        left = np.ones(size + 1, bool)
        left[self._columns[self._gone].reshape(-1)] = False
        left[size] = True
        place = np.cumsum(left) - 1
        kept = np.flatnonzero(left[:size])
        v, z = self._v[kept, : self._waiting], self._z[:, : self._waiting]
        self._inverse = self._inverse[np.ix_(kept, kept)]
        self._inverse -= v @ v.T
        self.weights = self.weights[:, kept] - z @ v.T
        self.rows = self.rows[:, kept]
        self._columns = np.where(self._gone[:, None], len(kept), place[self._columns])
        self._forget()
        self._refresh()

    def _forget(self) -> None:
        self._v = np.zeros((len(self._inverse), _WAITING))
        self._z = np.zeros((len(self.weights), _WAITING))
        self._waiting = 0

    def _refresh(self) -> None:
        """Take the blocks of all units from M and W'."""
        size, outputs = len(self._inverse), len(self.weights)
        there = self._columns < size
        rows = np.where(there, self._columns, 0)
        both = there[:, :, None] & there[:, None, :]
        if not size:
            self._blocks = np.zeros(both.shape)
            self._squares = np.zeros(both.shape)
        else:
            self._blocks = np.where(both, self._inverse[rows[:, :, None], rows[:, None, :]], 0.0)
            held = self.weights.T[rows].reshape(*rows.shape, outputs)
            self._squares = np.where(both, held @ held.transpose(0, 2, 1), 0.0)
        self._judge()

    def _judge(self) -> None:
        """Set `costs` from the blocks."""
        width = self._columns.shape[1]
        if width == 1:
            block, square = self._blocks[:, 0, 0], self._squares[:, 0, 0]
            self.costs = np.where(self._gone, 0.0, square / np.where(block > 0, block, 1.0))
            return
        idle = (self._columns >= len(self._inverse)) | self._gone[:, None]
        blocks = np.where(idle[:, :, None] | idle[:, None, :], np.eye(width), self._blocks)
        found = np.linalg.solve(blocks, np.where(idle[:, :, None], 0.0, self._squares))
        self.costs = np.trace(found, axis1=1, axis2=2) * ~self._gone


class Alone:
    """The same for columns of which nothing was seen: each counts as much, and none makes up."""

    def __init__(self, weights: Array, units: Array) -> None:
        mine = units >= 0
        self.names, which = np.unique(units[mine], return_inverse=True)
        squares = np.square(weights, dtype=np.float64).sum(axis=0)[mine]
        self.costs = np.bincount(which, squares, minlength=len(self.names))
        self.rise = 0.0

    def remove(self, name: int) -> None:
        """Take a unit's columns out."""
        unit = int(np.searchsorted(self.names, name))
        self.rise += float(self.costs[unit])
        self.costs[unit] = 0.0


def _by_unit(units: Array, names: Array) -> Array:
    """Return the columns of each unit, [units, most columns]; len(units) where it has fewer."""
    order = np.argsort(units, kind="stable")
    order = order[units[order] >= 0]
    which = np.searchsorted(names, units[order])
    counts = np.bincount(which, minlength=len(names))
    first = np.cumsum(counts) - counts
    found = np.full((len(names), int(counts.max(initial=1))), len(units))
    found[which, np.arange(len(order)) - first[which]] = order
    return found


def _gathered(lines: Array, columns: Array) -> Array:
    """Return the lines [columns, any] of each unit, zeros where it has fewer columns."""
    size = len(lines)
    found = lines[np.minimum(columns, size - 1)]
    found[columns >= size] = 0.0
    return np.asarray(found)


def _widened(array: Array, columns: int) -> Array:
    wide = np.zeros((len(array), columns))
    wide[:, : array.shape[1]] = array
    return wide
