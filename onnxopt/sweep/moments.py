"""First and second moments of what a layer gets, in the float model and in the quantized one."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array

_BATCH = 1024
"""Rows that are multiplied at once."""


@dataclass(kw_only=True, eq=False)
class Moments:
    """Means over samples of x xᵀ and x: x is the float input, q what the quantized model has.

    `gram` is E[q qᵀ] and `cross` E[x qᵀ], [groups, columns, columns]; `mean` is E[x] and `seen`
    E[q], [groups, columns]. Every sample weighs the same, however many positions it has. `power`
    is E[x xᵀ] on the diagonal, [groups, columns]. They are sums until `settle` is called. Where x
    was q in every sample, one array is both `gram` and `cross`: they are large.
    """

    gram: Array
    cross: Array
    mean: Array
    seen: Array
    power: Array
    samples: int = 0
    _waiting: list[tuple[Array, Array]] = field(default_factory=list)
    _apart: bool = False

    @classmethod
    def of(cls, groups: int, columns: int, *, second: bool = True) -> Moments:
        """Return moments of nothing; without `second` only the means will be taken."""
        square, line = (groups, columns, columns), (groups, columns)
        if not second:
            square = (0, 0, 0)
        return cls(
            gram=np.zeros(square, np.float32),
            cross=np.zeros(square, np.float32),
            mean=np.zeros(line),
            seen=np.zeros(line),
            power=np.zeros(line),
        )

    def see(self, x: Array, q: Array) -> None:
        """Take in the patches of one sample, float32 [groups, patches, columns] both."""
        self.samples += 1
        self.mean += x.mean(axis=1)
        self.seen += q.mean(axis=1)
        if not self.gram.size:
            return
        scale = np.float32(1.0 / math.sqrt(max(x.shape[1], 1)))
        scaled = x * scale
        self._waiting.append((scaled, scaled if q is x else q * scale))
        if sum(pair[0].shape[1] for pair in self._waiting) >= _BATCH:
            self.flush()

    def flush(self) -> None:
        """Add the products of what came last: a few large products take less than many small."""
        if not self._waiting:
            return
        if not self._apart and any(x is not q for x, q in self._waiting):
            self._apart = True
            self.cross += self.gram
        firsts, seconds = zip(*self._waiting, strict=True)
        self._waiting.clear()
        q = np.concatenate(seconds, axis=1)
        x = np.concatenate(firsts, axis=1) if self._apart else q
        self.gram += np.matmul(q.transpose(0, 2, 1), q)
        if self._apart:
            self.cross += np.matmul(x.transpose(0, 2, 1), q)
        self.power += np.einsum("gpk,gpk->gk", x, x)

    def settle(self) -> None:
        """Turn sums into means, once everything was seen."""
        self.flush()
        if not self._apart:
            self.cross = self.gram
        for total in (self.gram, self.mean, self.seen, self.power):
            total[...] /= max(self.samples, 1)
        if self._apart:
            self.cross[...] /= max(self.samples, 1)

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of samples."""
        samples = self.samples + other.samples
        share = other.samples / max(samples, 1)

        def both(name: str) -> Array:
            return np.asarray(getattr(self, name) * (1 - share) + getattr(other, name) * share)

        gram = both("gram").astype(np.float32, copy=False)
        same = self.is_one and other.is_one
        return Moments(
            gram=gram,
            cross=gram if same else both("cross").astype(np.float32, copy=False),
            mean=both("mean"),
            seen=both("seen"),
            power=both("power"),
            samples=samples,
        )

    @property
    def is_one(self) -> bool:
        """Tell whether x was q in every sample."""
        return self.cross is self.gram

    def centred(self, keep: float = 0.0) -> tuple[Array, Array]:
        """Return `gram` and `cross` about the means, of which a share `keep` of the square stays.

        The bias makes up for what the means lose; on other data they are a little different.
        """
        rest = np.float32(1.0 - keep)
        seen, mean = self.seen.astype(np.float32), self.mean.astype(np.float32)
        gram = self.gram - rest * seen[:, :, None] * seen[:, None, :]
        if self.is_one:
            return gram, gram
        return gram, self.cross - rest * mean[:, :, None] * seen[:, None, :]
