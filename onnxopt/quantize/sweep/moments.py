"""First and second moments of what a layer gets, in the float model and in the quantized one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnxopt.quantize.spec import Array


@dataclass(kw_only=True, eq=False)
class Moments:
    """Means over samples of x xᵀ and x: x is the float input, q what the quantized model has.

    `gram` is E[q qᵀ] and `cross` E[x qᵀ], [groups, columns, columns]; `mean` is E[x] and `seen`
    E[q], [groups, columns]. Every sample weighs the same, however many positions it has. `power`
    is E[x xᵀ] on the diagonal, [groups, columns].
    """

    gram: Array
    cross: Array
    mean: Array
    seen: Array
    power: Array
    samples: int = 0

    @classmethod
    def of(cls, groups: int, columns: int) -> Moments:
        """Return moments of nothing."""
        square, line = (groups, columns, columns), (groups, columns)
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
        share = 1.0 / self.samples
        patches = max(x.shape[1], 1)
        for total, left, right in ((self.gram, q, q), (self.cross, x, q)):
            product = np.matmul(left.transpose(0, 2, 1), right)
            product *= share / patches
            total[...] = total * np.float32(1.0 - share) + product
        for line, value in ((self.mean, x), (self.seen, q), (self.power, np.square(x))):
            line[...] += (value.mean(axis=1, dtype=np.float64) - line) * share

    def merged(self, other: Moments) -> Moments:
        """Return the moments of both sets of samples."""
        samples = self.samples + other.samples
        share = other.samples / max(samples, 1)
        names = ("gram", "cross", "mean", "seen", "power")
        parts = {
            name: getattr(self, name) * (1 - share) + getattr(other, name) * share for name in names
        }
        parts["gram"], parts["cross"] = (
            np.asarray(parts[name], np.float32) for name in ("gram", "cross")
        )
        return Moments(samples=samples, **parts)

    def centred(self, keep: float = 0.0) -> tuple[Array, Array]:
        """Return `gram` and `cross` about the means, of which a share `keep` of the square stays.

        The bias makes up for what the means lose; on other data they are a little different.
        """
        rest = np.float32(1.0 - keep)
        seen, mean = self.seen.astype(np.float32), self.mean.astype(np.float32)
        gram = self.gram - rest * seen[:, :, None] * seen[:, None, :]
        cross = self.cross - rest * mean[:, :, None] * seen[:, None, :]
        return gram, cross
