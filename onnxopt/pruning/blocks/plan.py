"""A sub-network that can be left out, and the affine map that may stand in its place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from onnxopt.arrays import Array

Kind = Literal["residual", "layer", "chain"]
"""`residual`: x + f(x). `layer`: one period of residual blocks, such as attention and MLP.
`chain`: layers one behind the other, without a sum."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """A sub-network by names: `exit` has the channels of `entry`, and nobody else needs `nodes`.

    `axis` is that of the channels, -1, or 1 in [N, C, *spatial], of which there are `channels`.
    That all other dimensions are the same too is left to be seen where shapes are not known.
    """

    kind: Kind
    entry: str
    exit: str
    nodes: tuple[str, ...]
    axis: int
    channels: int

    @property
    def name(self) -> str:
        """What the block is called in reports."""
        return f"{self.entry} → {self.exit}"


@dataclass(frozen=True, kw_only=True, eq=False)
class Affine:
    """y = M x + t over channels: `matrix` [C, C], or only its diagonal [C]; `shift` is t, [C]."""

    matrix: Array
    shift: Array

    @property
    def full(self) -> bool:
        """Tell whether channels are mixed."""
        return self.matrix.ndim == 2

    def __call__(self, rows: Array) -> Array:
        """Return the map of rows [n, C]."""
        mixed = rows @ self.matrix.T if self.full else rows * self.matrix
        return np.asarray(mixed + self.shift)
