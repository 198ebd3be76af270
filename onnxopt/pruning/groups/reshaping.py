"""Where labels come to lie when a Reshape joins and splits axes, some of them of unknown size.

A Reshape keeps the order of elements, so shapes fall into blocks of the same number of elements
that are reshaped each for itself: equal dimensions, and known ones whose products meet, from the
front and from the end. What is left in the middle has the same number of elements, too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.walk import whole
from onnxopt.graph.facts import Dim

_MOST = 1 << 22
"""Labels are not spread over more elements than this."""

_Block = tuple[tuple[Dim, ...], tuple[Dim, ...]]


class Regrouped(NamedTuple):
    """What a Reshape makes of labels; `joined` are those that it makes one, in rows, or None."""

    labels: Array
    joined: Array | None = None


def regrouped(labels: Array, old: tuple[Dim, ...], new: tuple[Dim, ...]) -> Regrouped | None:
    """Return where labels come to lie, or None where that cannot be told."""
    full = whole(labels, len(old))
    spread: list[int] = []
    sizes: list[int] = []
    for before, after in _blocks(old, new):
        own = full.shape[len(spread) : len(spread) + len(before)]
        if math.prod(own) == 1:
            spread += own
            sizes += [1] * len(after)
        elif len(before) == len(after) == 1:
            spread += own
            sizes += own
        elif all(isinstance(dim, int) for dim in (*before, *after)):
            spread += [int(dim or 0) for dim in before]
            sizes += [int(dim or 0) for dim in after]
        elif full.size == own[0]:
            return _led(full, before, after, len(sizes), len(new))
        else:
            return None
    if math.prod(spread) > _MOST:
        return None
    return Regrouped(np.broadcast_to(full, spread).reshape(sizes))


def _led(
    full: Array, before: Sequence[Dim], after: Sequence[Dim], place: int, rank: int
) -> Regrouped | None:
    """Follow labels that differ along the first axis of a block of unknown size only.

    [C, h, w] becomes [C/k, k·h·w], or back: the axis becomes a part or a multiple of itself, at
    `place` among the `rank` axes of the result.
    """
    one, other = before[0], after[0]
    line = full.reshape(-1)
    if not isinstance(one, int) or not isinstance(other, int) or 0 in (one, other):
        return None
    shape = [1] * rank
    shape[place] = other
    if one % other == 0 and len(after) > 1:
        parts = line.reshape(other, -1)
        return Regrouped(parts[:, 0].reshape(shape), parts)
    if other % one == 0:
        return Regrouped(np.repeat(line, other // one).reshape(shape))
    return None


def _blocks(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> list[_Block]:
    """Cut two shapes of the same number of elements into blocks that correspond."""
    front = _matched(old, new)
    at, to = (sum(len(block[side]) for block in front) for side in (0, 1))
    turned = _matched(old[at:][::-1], new[to:][::-1])
    back = [(before[::-1], after[::-1]) for before, after in reversed(turned)]
    end, stop = (sum(len(block[side]) for block in back) for side in (0, 1))
    middle = old[at : len(old) - end], new[to : len(new) - stop]
    return [*front, *([middle] if any(middle) else []), *back]


def _matched(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> list[_Block]:
    """Return the blocks from the front that surely correspond."""
    blocks: list[_Block] = []
    at = to = 0
    while at < len(old) and to < len(new):
        end, stop = _block(old[at:], new[to:])
        if not end:
            break
        blocks.append((old[at : at + end], new[to : to + stop]))
        at, to = at + end, to + stop
    return blocks


def _block(old: tuple[Dim, ...], new: tuple[Dim, ...]) -> tuple[int, int]:
    """Return how many dimensions of each make the first block; none where that is not known."""
    if old[0] is not None and old[0] == new[0]:
        return 1, 1
    end = stop = 0
    one = other = 1
    while not (end and stop and one == other):
        shorter = one <= other
        part, place = (old, end) if shorter else (new, stop)
        dim = part[place] if place < len(part) else None
        if not isinstance(dim, int) or dim == 0:
            return 0, 0
        if shorter:
            one, end = one * dim, end + 1
        else:
            other, stop = other * dim, stop + 1
    return end, stop
