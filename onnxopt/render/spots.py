"""What the tables of hot spots say, laid out by no renderer in particular."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnxopt.report import Ceiling, Hotspot, Hotspots
from onnxopt.text import plural

SHOWN = 10
"""As many operators and nodes are shown, the hottest; the JSON report has all."""

NUMBERS = ("ms", "share", "GFLOP/s", "GB/s", "of limit")
"""Headings of what `numbers` writes; `of limit` is the share of the ceiling that was reached."""


def headline(spots: Hotspots) -> str:
    """Say what was profiled, and that profiling costs time."""
    if spots.error is not None:
        return f"no profile: {spots.error}"
    return (
        f"{plural(len(spots.nodes), 'node')} take {milliseconds(spots.kernels_ms)} ms of a run of "
        f"{milliseconds(spots.total_ms)} ms, the mean of {plural(spots.runs, 'run')} while "
        "profiling, which slows them down"
    )


def ceiling(found: Ceiling | None) -> str:
    """Say what the work is held against, and what that means; nothing where it is not known."""
    if found is None or not math.isfinite(found.gflops + found.gbs):
        return ""
    caches = f", {speed(found.cached_gbs)} in caches" if math.isfinite(found.cached_gbs) else ""
    return (
        f"limit: {speed(found.gflops)} GFLOP/s of a float32 matrix product, {speed(found.gbs)} GB/s"
        f" of a copy{caches}; narrower types may go beyond it"
    )


def numbers(spot: Hotspot) -> tuple[str, ...]:
    """Write the numbers of a node or operator, as `NUMBERS` names them."""
    return (
        milliseconds(spot.ms),
        percent(spot.share),
        speed(spot.gflops),
        speed(spot.gbs),
        percent(spot.of_ceiling),
    )


def remaining(spots: Sequence[Hotspot]) -> str:
    """Say what the spots that are not shown take together; nothing where all are shown."""
    rest = spots[SHOWN:]
    if not rest:
        return ""
    ms, share = sum(spot.ms for spot in rest), sum(spot.share for spot in rest)
    return f"and {len(rest):,} more: {milliseconds(ms)} ms, {percent(share)}"


def operator(spot: Hotspot) -> str:
    """Name an operator, with the provider where that is not the CPU's."""
    provider = spot.provider.removesuffix("ExecutionProvider")
    return spot.op if provider in ("CPU", "") else f"{spot.op} ({provider})"


def milliseconds(number: float) -> str:
    """Write a time to the microsecond, of which a trace has no parts."""
    return f"{number:.3f}" if number < 10 else f"{number:.1f}"


def percent(part: float | None) -> str:
    """Write `12 %`; nothing where it is not known."""
    if part is None:
        return ""
    return f"{100 * part:.1f} %" if part < 0.0995 else f"{100 * part:.0f} %"


def speed(number: float | None) -> str:
    """Write GFLOP/s or GB/s; nothing where it is not known."""
    if number is None or not math.isfinite(number):
        return ""
    return f"{number:,.0f}" if number >= 99.5 else f"{number:.1f}"


def bar(part: float, width: int) -> str:
    """Draw a share as a bar of eighths of a character."""
    eighths = round(8 * width * min(1.0, max(0.0, part)))
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def shorten(name: str, width: int) -> str:
    """Keep the end of a name, which tells nodes apart where the beginning names the model."""
    return name if len(name) <= width else "…" + name[1 - width :]
