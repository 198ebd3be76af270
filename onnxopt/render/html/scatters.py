"""Draws what a result that is not exact was chosen by: errors against time, along the graph."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from onnxopt.render.html.figures import Look, number_axis, plot_axes
from onnxopt.render.html.svg import GRID, PAPER, TEXT, series_colour

_DASHES = (0, (4, 2))
_LOG_FROM = 6.0


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A point of the front: time or work against the model (`x`) and SQNR (`y`, dB)."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    measured: bool = False
    chosen: bool = False


@dataclass(frozen=True, kw_only=True)
class Dot:
    """Something with two numbers; `note` is written beside it."""

    x: float
    y: float
    look: Look
    note: str = ""


def front(choices: Sequence[Choice], *, floor: float | None, x: str, one: str) -> Figure:
    """Draw choices by time and error; filled where measured, large where chosen.

    `floor` is the SQNR that was asked for, `one` what stands at 1.
    """
    figure, axes = plot_axes("SQNR, dB", 3.1)
    ordered = sorted(choices, key=lambda each: each.x)
    axes.plot([c.x for c in ordered], [c.y for c in ordered], color=GRID, lw=1.4, zorder=2)
    axes.axvline(1.0, color=TEXT, lw=1.2, linestyle=_DASHES)
    axes.annotate(
        one, (1.0, 1.0), xycoords=("data", "axes fraction"), xytext=(4, -11),
        textcoords="offset points",
    )  # fmt: skip
    if floor is not None:
        axes.axhline(floor, color=TEXT, lw=1, linestyle=(0, (1, 1.5)))
    for each in ordered:
        _choice(axes, each)
    axes.margins(x=0.09, y=0.12)
    xs = [each.x for each in choices]
    axes.set_xlim(min(0.96, axes.get_xlim()[0]), max(1.04, axes.get_xlim()[1]))
    number_axis(axes.xaxis, [*xs, 1.0])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.4g}×"))
    number_axis(axes.yaxis, [each.y for each in choices])
    axes.set_xlabel(x)
    return figure


def _choice(axes: Axes, each: Choice) -> None:
    colour = series_colour(1 if each.chosen else 0)
    if math.isfinite(each.low) and math.isfinite(each.high):
        axes.plot([each.low, each.high], [each.y] * 2, color=colour, lw=3.5, alpha=0.35, zorder=3)
    axes.plot(
        [each.x], [each.y], marker="D" if each.chosen else "o", linestyle="none",
        markersize=9 if each.chosen else 6, zorder=5 if each.chosen else 4,
        markerfacecolor=colour if each.measured else PAPER,
        markeredgecolor=PAPER if each.measured else colour,
        markeredgewidth=0.7 if each.measured else 1.4,
    )  # fmt: skip
    if each.chosen:
        axes.annotate(
            "chosen", (each.x, each.y), xytext=(8, 6), textcoords="offset points", zorder=6
        )


def along(dots: Sequence[Dot], *, y: str, x: str) -> Figure:
    """Draw a number of each thing, in the order of the graph, with a stem up to the best."""
    figure, axes = plot_axes(y, 2.6)
    top = max(dot.y for dot in dots)
    if len(dots) <= 150:
        for dot in dots:
            colour = series_colour(dot.look.colour)
            axes.plot([dot.x] * 2, [dot.y, top], color=colour, lw=1, alpha=0.18, zorder=2)
    _dots(axes, dots, 5 if len(dots) <= 150 else 3.4)
    number_axis(axes.yaxis, [dot.y for dot in dots])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.04, y=0.12)
    axes.set_xlabel(x)
    return figure


def bars(pairs: Sequence[tuple[float, float]], *, y: str, x: str) -> Figure:
    """Draw how much of each thing there was and is left, in the order of the graph."""
    figure, axes = plot_axes(y, 2.6)
    places = range(1, len(pairs) + 1)
    width = 0.8 if len(pairs) <= 80 else 1.0
    axes.bar(places, [before for before, _ in pairs], width, color=GRID, zorder=3)
    axes.bar(places, [after for _, after in pairs], width, color=series_colour(0), zorder=4)
    number_axis(axes.yaxis, [before for before, _ in pairs])
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(visible=False, axis="x")
    axes.set_xlim(0.4, len(pairs) + 0.6)
    axes.set_xlabel(x)
    return figure


def against(dots: Sequence[Dot], *, x: str, y: str) -> Figure:
    """Draw two times of each thing against each other, with the line where they are the same."""
    figure, axes = plot_axes(y, 2.6)
    values = [value for dot in dots for value in (dot.x, dot.y)]
    low, high = min(values), max(values)
    log = low > 0 and high > _LOG_FROM * low
    around = (low / 1.3, high * 1.3) if log else (0.0, high * 1.1)
    axes.plot(around, around, color=TEXT, lw=1.2, linestyle=_DASHES)
    _dots(axes, dots, 5)
    if log:
        axes.set_xscale("log")
        axes.set_yscale("log")
    axes.set_xlim(around)
    axes.set_ylim(around)
    for axis in (axes.xaxis, axes.yaxis):
        number_axis(axis, around if log else values)
    axes.set_xlabel(x)
    return figure


def _dots(axes: Axes, dots: Sequence[Dot], size: float) -> None:
    alike: dict[Look, list[Dot]] = {}
    for dot in dots:
        alike.setdefault(dot.look, []).append(dot)
    for look, group in alike.items():
        line = look.line | {"markersize": size, "markeredgewidth": 0.5, "linestyle": "none"}
        axes.plot([dot.x for dot in group], [dot.y for dot in group], **line, zorder=4)
    for dot in dots:
        if dot.note:
            axes.annotate(
                dot.note, (dot.x, dot.y), xytext=(0, -5), textcoords="offset points",
                ha="center", va="top", fontsize=9, zorder=9,
            )  # fmt: skip
