"""Holds work against what the machine can do at most: the roofline of Williams et al. (CACM 2009).

A node takes at least max(2·MACs / ceiling in operations a second, bytes / ceiling in bytes a
second); the larger of the two says what bounds it. What fits the caches moves faster: two copies
are measured, one of `CACHED` bytes and one of `STREAMED`, and between them, where caches are used
in part, the speed is taken to fall as a power of the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from onnxopt.report import Ceiling

CACHED = 1 << 22
STREAMED = 1 << 28

Bound = Literal["compute", "memory"]


def bandwidth(ceiling: Ceiling, moved: float) -> float:
    """Return the GB/s at which so many bytes can be moved; NaN where it was not measured."""
    if math.isnan(ceiling.cached_gbs) or ceiling.cached_gbs <= ceiling.gbs:
        return ceiling.gbs  # of a device, whose launch takes longer than a small copy
    ratio = math.log(max(moved, 1) / CACHED) / math.log(STREAMED / CACHED)
    along = min(1.0, max(0.0, ratio))
    return float(ceiling.cached_gbs ** (1 - along) * ceiling.gbs**along)


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one node did in `ms`, in so many calls: None where the work is not known."""

    ms: float
    macs: int | None
    bytes: int | None
    calls: float = 1


@dataclass(frozen=True, kw_only=True)
class Reached:
    """How fast work was done, and how near that is to the ceiling; see `report.Hotspot`."""

    gflops: float | None
    gbs: float | None
    of_ceiling: float | None
    bound: Bound | None


def reached(parts: Iterable[Work], ceiling: Ceiling | None) -> Reached:
    """Say how fast the parts were done together, each of which has a bound of its own."""
    parts = tuple(parts)
    ms = sum(part.ms for part in parts)
    macs, moved = (total([getattr(part, name) for part in parts]) for name in ("macs", "bytes"))
    compute = memory = 0.0
    for part in parts:
        least = _least_ms(part, ceiling)
        if least is None:
            compute = memory = math.nan
            break
        compute += least[0] if least[0] >= least[1] else 0.0
        memory += least[1] if least[0] < least[1] else 0.0
    least_ms = compute + memory
    known = ms > 0 and math.isfinite(least_ms) and least_ms > 0
    return Reached(
        gflops=_rate(2 * macs if macs else None, ms),
        gbs=_rate(moved or None, ms),
        of_ceiling=least_ms / ms if known else None,
        bound=("compute" if compute >= memory else "memory") if known else None,
    )


def total(counts: Iterable[int | None]) -> int | None:
    """Sum counts; None where one of them is not known."""
    listed = list(counts)
    return None if None in listed else sum(filter(None, listed))


def _least_ms(work: Work, ceiling: Ceiling | None) -> tuple[float, float] | None:
    """Return the ms that computing and moving take at the ceiling, or None."""
    if ceiling is None or work.macs is None or work.bytes is None:
        return None
    speed = bandwidth(ceiling, work.bytes / work.calls)
    return 2 * work.macs / ceiling.gflops / 1e6, work.bytes / speed / 1e6


def _rate(count: float | None, ms: float) -> float | None:
    """Return thousands of millions a second."""
    return count / ms / 1e6 if count and ms > 0 else None
