"""Words and numbers for people: sizes, durations, counts, near matches."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = ("B", "KB", "MB", "GB", "TB")


def human_bytes(count: float) -> str:
    """Write a number of bytes with a decimal unit: `1536000` is `1.5 MB`."""
    size = float(count)
    for unit in _UNITS:
        if abs(size) < 999.5 or unit == _UNITS[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"


def human_count(count: float) -> str:
    """Write a large count with a letter: `385868000` is `386 M`."""
    size = float(count)
    for unit in ("", " k", " M", " G", " T"):
        if abs(size) < 999.5 or unit == " T":
            break
        size /= 1000
    return f"{size:.0f}{unit}" if unit == "" or size >= 100 else f"{size:.1f}{unit}"


def human_seconds(seconds: float) -> str:
    """Write a duration in the unit that fits: `0.00213` is `2.13 ms`."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.3g} ms"
    return f"{seconds:.2f} s" if seconds < 60 else f"{seconds // 60:.0f} min {seconds % 60:.0f} s"


def plural(count: int, noun: str) -> str:
    """Write `1 node`, `2 nodes`, `3 branches`."""
    ending = "es" if noun.endswith(("s", "x", "ch", "sh")) else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"


def near_matches(word: str, known: Iterable[str], *, otherwise: str = "") -> str:
    """Return a hint that names what `word` may have been meant to be.

    Where nothing is near, the hint is `otherwise`, or without it all that is known.
    """
    import difflib

    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    near = near or [name for name in known if len(word) > 2 and word in name][:3]
    if near:
        return "did you mean " + " or ".join(near) + "?"
    return otherwise or "known are: " + ", ".join(known)
