"""A part of a tensor: what is taken of one axis, as Slice or Gather with constants takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np

from onnxopt.graph import dims
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.layout.slices import write_slice

TYPICAL = 64
"""How long an axis is taken to be whose size is not known, where costs are compared."""


@dataclass(frozen=True, kw_only=True)
class Take:
    """What is taken of an axis: a range as Python and ONNX cut it, or elements one by one."""

    start: int = 0
    stop: int = 0
    step: int = 1
    picks: tuple[int, ...] | None = None

    @classmethod
    def of(cls, cut: slice) -> Self:
        """Return what a slice takes, none of whose members is None."""
        return cls(start=cut.start, stop=cut.stop, step=cut.step)

    @classmethod
    def at(cls, places: Sequence[int]) -> Self:
        """Return the range that takes these places, counted from the front, or picks."""
        whole = range(places[0], places[-1] + 1)
        if list(whole) == list(places):
            return cls(start=whole.start, stop=whole.stop)
        return cls(picks=tuple(places))

    def slice(self) -> slice:
        """Return the range as a slice."""
        return slice(self.start, self.stop, self.step)

    def places(self, size: int) -> list[int] | None:
        """Return which elements of an axis are taken, counted from the front, or None."""
        if self.picks is None:
            return list(range(size)[self.slice()])
        if not all(-size <= pick < size for pick in self.picks):
            return None
        return [pick % size for pick in self.picks]

    def count(self, size: Dim) -> int | None:
        """Return how many elements are taken of an axis, or None where that is not known."""
        if self.picks is not None:
            return len(self.picks)
        return len(range(size)[self.slice()]) if isinstance(size, int) else None

    def is_last(self) -> bool:
        """Tell whether it is the last element of an axis of any size but zero."""
        if self.picks is not None:
            return self.picks == (-1,)
        return (self.start, self.step) == (-1, 1) and self.stop >= dims.TO_THE_END

    def fraction(self, size: Dim) -> float:
        """Return how much is taken of an axis; one of unknown size is taken to be `TYPICAL`."""
        length = size if isinstance(size, int) else TYPICAL
        return (self.count(length) or 0) / max(1, length)

    def of_array(self, array: Any, axis: int) -> Any:
        """Return the part of an array; raises IndexError for a pick that is not there."""
        if self.picks is not None:
            return np.take(array, self.picks, axis=axis)
        index = [slice(None)] * array.ndim
        places = range(array.shape[axis])[self.slice()]
        index[axis] = slice(places.start, places.stop if places.stop >= 0 else None, places.step)
        return array[tuple(index)]

    def of_value(self, new: Builder, value: ir.Value, axis: int) -> ir.Value:
        """Make the node that takes the part of a value."""
        made: ir.Value
        if self.picks is not None:
            made = new.Gather(value, np.array(self.picks, np.int64), axis=axis)
        else:
            made = write_slice(new, value, {axis: self.slice()})
        return made


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is taken of one axis of a tensor, all of the others.

    `left` is the size of the axis afterwards, None where it is not known. With a `view`, the axis
    is seen as several, row by row, and the part is taken of the one at `place` among them.
    """

    axis: int
    take: Take
    left: Dim = field(compare=False)
    view: tuple[Dim, ...] = ()
    place: int = 0

    def at(self, axis: int) -> Part:
        """Return the same part of an axis of the same size."""
        return replace(self, axis=axis)

    def fraction(self, shape: Sequence[Dim]) -> float:
        """Return how much of a tensor of this shape is taken."""
        return self.take.fraction(self.view[self.place] if self.view else shape[self.axis])

    def shape(self, shape: Sequence[Dim], left: Dim = None) -> tuple[Dim, ...]:
        """Return the shape of the part of a tensor; `left` replaces the size that is left."""
        left = self.left if left is None else left
        if self.view:
            sizes = [*self.view[: self.place], left, *self.view[self.place + 1 :]]
            known = [size for size in sizes if isinstance(size, int)]
            left = int(np.prod(known)) if len(known) == len(sizes) else None
        return (*shape[: self.axis], left, *shape[self.axis + 1 :])
