"""Kinds of option values: lists of numbers, per cents, durations, sizes."""

from __future__ import annotations

import math
import re
from typing import Any

import click

_SIZES = {
    f"{letter}{ending}": base**power
    for power, letter in enumerate(("", "k", "m", "g", "t"))
    for ending, base in (("", 1000), ("b", 1000), ("ib", 1024))
    if letter or ending != "ib"
}
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "m": 60.0, "min": 60.0, "h": 3600.0}


class FiniteFloat(click.FloatRange):
    """A number in a range; NaN, which no range keeps out, and infinity are none."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no finite number", param, ctx)
        return number

    def _describe_range(self) -> str:
        """Say nothing of a range without ends, of which click would tell `x<=None`."""
        bounded = self.min is not None or self.max is not None
        return super()._describe_range() if bounded else ""


class Percent(FiniteFloat):
    """A share that is written in per cent, with the sign or without: `3%` is 0.03."""

    name = "percent"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip().removesuffix("%").strip()
        return super().convert(text, param, ctx) / 100


class Share(FiniteFloat):
    """A share of one that may be written as a factor or in per cent: `0.7`, `0.7x`, `70%`."""

    name = "share"

    def __init__(self, *, min_open: bool) -> None:
        super().__init__(min=0, max=1, min_open=min_open, max_open=True)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        text = str(value).strip()
        if text.endswith("%"):
            return super().convert(Percent().convert(text, param, ctx), param, ctx)
        return super().convert(text.removesuffix("x").removesuffix("×"), param, ctx)


class Seconds(FiniteFloat):
    """A duration: `30`, `30s`, `2m`, `500ms`."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        found = re.fullmatch(r"\s*([\d.]+)\s*(\w*)\s*", str(value))
        if found is None or found[2] not in _UNITS:
            self.fail(f"{value!r} is no duration such as 30, 90s or 2m", param, ctx)
        return super().convert(found[1], param, ctx) * _UNITS[found[2]]


class Size(click.IntRange):
    """A number of bytes: `1G`, `512MB` (powers of 1000, as reports write them), `1.5GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", str(value).lower())
        if found is None or found[2] not in _SIZES:
            self.fail(f"{value!r} is no size such as 1G, 512M or 1.5GiB", param, ctx)
        return super().convert(round(float(found[1]) * _SIZES[found[2]]), param, ctx)


class Several(click.ParamType[tuple[Any, ...]]):
    """One value or several with commas between: `1,2,4`; the option may be repeated too."""

    def __init__(self, kind: click.ParamType[Any]) -> None:
        self.kind = kind
        self.name = kind.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[Any, ...]:
        parts = [part.strip() for part in str(value).split(",")]
        return tuple(self.kind.convert(part, param, ctx) for part in parts)


def joined(
    ctx: click.Context, param: click.Parameter, values: tuple[tuple[Any, ...], ...]
) -> tuple[Any, ...]:
    """Join what a repeated option of `Several` gave, each once."""
    del ctx, param
    return tuple(dict.fromkeys(part for value in values for part in value))
