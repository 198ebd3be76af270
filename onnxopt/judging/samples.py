"""Calibration samples that are read again and again, some of them held back.

Ranges and weights are found on some samples, and every choice between results is made on others,
which nothing is ever fitted to. Those held back lie in two blocks, because neighbours are often
alike: crops of one photograph, frames of one film. Of the others some are put aside until it is
chosen how a layer is fitted; then it is fitted to them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from onnxopt.errors import DataError

Feed = Mapping[str, Any]
_PARTS = 8
_HELD = (2, 6)
"""Of eight equal parts of the samples, those that are held back."""
_ASIDE = 4
"""The part that is put aside."""

FEW = 16
"""Samples below which ranges and corrections are little more than guesses."""


class Samples:
    """The feeds that `read` gives, the same each time; no more than `most` of them.

    `count` is how many there are, `feed_bytes` what the largest takes.
    """

    def __init__(self, read: Callable[[], Iterable[Feed]], most: int | None = None) -> None:
        self._read = read
        self._most = most
        self.count = 0
        self.feed_bytes = 0
        for number, feed in enumerate(self.all()):
            _check_numbers(feed, number)
            self.count += 1
            size = sum(np.asarray(value).nbytes for value in feed.values())
            self.feed_bytes = max(self.feed_bytes, size)
        if not self.count:
            raise DataError("there are no calibration samples", "give at least one")

    def all(self) -> Iterator[Feed]:
        """Yield every sample, one at a time."""
        return islice(iter(self._read()), self._most)

    def is_held(self, number: int) -> bool:
        """Tell whether a sample is held back; with fewer than four, none is."""
        if self.count < 4:
            return False
        if self.count < _PARTS:
            return number == self.count - 1
        return number * _PARTS // self.count in _HELD

    @property
    def held_count(self) -> int:
        """How many samples are held back."""
        return sum(map(self.is_held, range(self.count)))

    def is_aside(self, number: int) -> bool:
        """Tell whether a sample is put aside; with fewer than eight, none is."""
        return self.count >= _PARTS and number * _PARTS // self.count == _ASIDE

    def numbered(self, most: int) -> Iterator[tuple[bool, Feed]]:
        """Yield (put aside, feed) of the samples that are not held back, `most` of them evenly."""
        wanted = set(self._chosen(most))
        for number, feed in enumerate(self.all()):
            if number in wanted:
                yield self.is_aside(number), feed

    def aside(self, most: int) -> Callable[[int], bool]:
        """Return what tells by its place among `numbered` whether a sample is put aside."""
        chosen = self._chosen(most)
        return lambda place: self.is_aside(chosen[place])

    def _chosen(self, most: int) -> list[int]:
        """Return the numbers of some samples that are not held back."""
        free = [number for number in range(self.count) if not self.is_held(number)]
        step = max(len(free) / most, 1.0)
        return [free[int(place * step)] for place in range(min(len(free), most))]

    def fitted(self, most: int | None = None) -> Iterator[Feed]:
        """Yield the samples that ranges and integers are found on, `most` of them evenly."""
        return self._some(lambda number: not self.is_held(number), most)

    def held(self, most: int | None = None) -> Iterator[Feed]:
        """Yield the samples that were held back; all of them where there are too few to hold."""
        if not self.held_count:
            return self._some(lambda _: True, most)
        return self._some(self.is_held, most)

    def _some(self, wanted: Callable[[int], bool], most: int | None) -> Iterator[Feed]:
        total = sum(map(wanted, range(self.count)))
        place = -1
        for number, feed in enumerate(self.all()):
            if not wanted(number):
                continue
            place += 1
            if (
                most is None
                or total <= most
                or place * most // total != (place - 1) * most // total
            ):
                yield feed


def _check_numbers(feed: Feed, number: int) -> None:
    """Raise `DataError` for a sample that is no number; infinity may be a mask."""
    for name, value in feed.items():
        array = np.asarray(value)
        if array.dtype.kind == "f" and np.isnan(array).any():
            raise DataError(f"sample {number}: input {name!r} holds NaN", "leave that sample out")
