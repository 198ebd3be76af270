"""A weight as a matrix with a row for each output channel, and back.

Everything that chooses integers works on `rows` [output channels, columns], columns in the order
in which the kernel walks what it sums: (kh, kw, cin) for a Conv.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.placement.plan import Weight


def to_rows(array: Array, weight: Weight) -> Array:
    """Return a weight's array as a matrix [rows, columns], in memory of its own."""
    order = _order(array.ndim, weight)
    return np.array(array.transpose(order).reshape(array.shape[order[0]], -1), order="C")


def from_rows(rows: Array, shape: tuple[int, ...], weight: Weight) -> Array:
    """Return the array of a shape whose matrix is `rows`; the inverse of `to_rows`."""
    order = _order(len(shape), weight)
    array = rows.reshape([shape[axis] for axis in order])
    return np.ascontiguousarray(array.transpose(np.argsort(order)))


def _order(rank: int, weight: Weight) -> tuple[int, ...]:
    columns = tuple(axis % rank for axis in weight.columns)
    channels = [axis for axis in range(rank) if axis not in columns]
    assert len(channels) == 1, f"{weight.tensor}: one axis is that of the channels"
    return (*channels, *columns)
