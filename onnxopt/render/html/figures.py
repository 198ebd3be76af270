"""Draws what a benchmark found with matplotlib's objects; what is drawn is chosen in `plots`.

Figures are 4 inches wide with type of 10 points, so that they can be read on a phone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from onnxopt.render.html.svg import GRID, PAPER, TEXT, series_colour

WIDTH, HEIGHT = 4.0, 2.6
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_DASHES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1, 1.5)), (0, (6, 1.5, 1, 1.5)))
_LOG_FROM = 6.0


@dataclass(frozen=True, kw_only=True)
class Look:
    """How a series is told apart: by colour, and by shape where colours cannot be seen."""

    colour: int
    shape: int

    @property
    def line(self) -> dict[str, Any]:
        """Options for a line with markers."""
        return {
            "color": series_colour(self.colour),
            "marker": MARKERS[self.shape % len(MARKERS)],
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.7,
        }


@dataclass(frozen=True, kw_only=True)
class Point:
    """One number with its interval, at a place on the axis; `note` is written beside it."""

    x: float
    y: float
    low: float = math.nan
    high: float = math.nan
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Series:
    """Points that belong together."""

    look: Look
    points: Sequence[Point]


@dataclass(frozen=True, kw_only=True)
class Cloud:
    """Sessions of one model in one setting, by process, with the number they amount to."""

    look: Look
    processes: Sequence[np.ndarray]
    value: float
    low: float = math.nan
    high: float = math.nan

    @property
    def sessions(self) -> int:
        """How many dots that would be."""
        return sum(map(len, self.processes))


def lines(
    series: Sequence[Series],
    *,
    ticks: Sequence[tuple[float, str]] = (),
    x: str = "",
    y: str = "",
    log_x: bool = False,
    height: float = HEIGHT,
) -> Figure:
    """Join the points of each series, with a bar where there is an interval."""
    figure, axes = plot_axes(y, height)
    for index, each in enumerate(series):
        xs, ys = ([getattr(p, name) for p in each.points] for name in ("x", "y"))
        dash = _DASHES[each.look.shape % len(_DASHES)]
        axes.plot(xs, ys, **each.look.line, linestyle=dash, zorder=3 + index)
        colour = series_colour(each.look.colour)
        for point in each.points:
            if math.isfinite(point.low) and math.isfinite(point.high):
                axes.plot([point.x] * 2, [point.low, point.high], color=colour, lw=3.5, alpha=0.35)
            if point.note:
                axes.annotate(
                    point.note, (point.x, point.y), xytext=(4, 4), textcoords="offset points",
                    fontsize=9, zorder=20,
                )  # fmt: skip
    if log_x:
        axes.set_xscale("log")
        number_axis(axes.xaxis, [p.x for each in series for p in each.points])
    if ticks:
        axes.xaxis.set_major_locator(FixedLocator([place for place, _ in ticks]))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xticks([place for place, _ in ticks], [text for _, text in ticks])
    _scale_y(axes, [p.y for each in series for p in each.points])
    axes.grid(visible=False, axis="x")
    axes.margins(x=0.09)
    if x:
        axes.set_xlabel(x)
    return figure


def ranges(labels: Sequence[str], groups: Sequence[Sequence[tuple[Look, Point]]]) -> Figure:
    """Put one line of points under each label; `x` of a point is its number."""
    height = 0.55 + sum(0.3 + 0.17 * len(group) for group in groups)
    figure, axes = plot_axes("", height)
    place, places = 0.0, []
    for label, group in zip(labels, groups, strict=True):
        axes.annotate(label, (0, place), xycoords=("axes fraction", "data"), va="center")
        places.append(place - 0.17)
        for look, point in group:
            place += 0.22
            if math.isfinite(point.low) and math.isfinite(point.high):
                colour = series_colour(look.colour)
                axes.plot([point.low, point.high], [place] * 2, color=colour, lw=3.5, alpha=0.4)
            axes.plot([point.x], [place], **look.line, zorder=4)
        place += 0.34
    values = [point.x for group in groups for _, point in group]
    if max(values) > _LOG_FROM * min(values) > 0:
        axes.set_xscale("log")
    number_axis(axes.xaxis, values)
    axes.set_ylim(place - 0.1, -0.25)
    axes.yaxis.set_major_locator(FixedLocator(places[1:]))
    axes.set_yticklabels([])
    axes.margins(x=0.06)
    axes.set_xlabel("ms")
    return figure


def distributions(clouds: Sequence[Cloud], *, y: str, dots: int, processes: int) -> Figure:
    """Draw each session as a dot in the column of its process, models side by side.

    Where there are more than `dots`, a process is a box; where there are more than `processes`,
    all sessions of a model are one outline.
    """
    if max(len(cloud.processes) for cloud in clouds) > processes:
        return _outlines(clouds, y)
    figure, axes = plot_axes(y, HEIGHT)
    many = sum(cloud.sessions for cloud in clouds) > dots
    slot = 0.82 / len(clouds)
    for index, cloud in enumerate(clouds):
        colour = series_colour(cloud.look.colour)
        if math.isfinite(cloud.low) and math.isfinite(cloud.high):
            axes.axhspan(cloud.low, cloud.high, color=colour, alpha=0.13, lw=0)
        axes.axhline(cloud.value, color=colour, lw=1)
        for number, sessions in enumerate(cloud.processes, 1):
            if len(sessions):
                center = number + (index - (len(clouds) - 1) / 2) * slot
                (_box if many else _dots)(axes, center, slot, sessions, cloud.look)
    count = max(len(cloud.processes) for cloud in clouds)
    for number in range(1, count):
        axes.axvline(number + 0.5, color=GRID, lw=0.8)
    axes.set_xlim(0.45, count + 0.55)
    every = -(-count // 12)
    axes.xaxis.set_major_locator(FixedLocator(range(every, count + 1, every)))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("process")
    _scale_y(axes, [float(v) for cloud in clouds for s in cloud.processes for v in s])
    return figure


def _dots(axes: Axes, center: float, slot: float, sessions: np.ndarray, look: Look) -> None:
    """Spread the sessions of a process over its column, in the order in which they were made."""
    spread = (np.arange(len(sessions)) - (len(sessions) - 1) / 2) / max(len(sessions), 2)
    size = 5.2 if len(sessions) < 5 else 4.2 if len(sessions) * slot < 8 else 3.2
    line = look.line | {"linestyle": "none", "markersize": size, "markeredgewidth": 0.4}
    axes.plot(center + spread * slot * 0.8, sessions, **line, zorder=4)


def _box(axes: Axes, center: float, slot: float, sessions: np.ndarray, look: Look) -> None:
    low, first, middle, third, high = np.percentile(sessions, [0, 25, 50, 75, 100])
    colour = series_colour(look.colour)
    axes.plot([center] * 2, [low, high], color=colour, lw=1, zorder=3)
    axes.plot([center] * 2, [first, third], color=colour, lw=min(5, 40 * slot / 3), zorder=3)
    axes.plot([center], [middle], **look.line | {"markersize": 4}, zorder=4)


def _outlines(clouds: Sequence[Cloud], x: str) -> Figure:
    """Draw how often which time came, one outline a model."""
    figure, axes = plot_axes("share of sessions", HEIGHT)
    everything = [np.concatenate(cloud.processes) for cloud in clouds]
    low, high = np.percentile(np.concatenate(everything), [0.1, 99.9])
    edges = np.linspace(low, high + 1e-9 * high, 49)
    for cloud, sessions in zip(clouds, everything, strict=True):
        counts, _ = np.histogram(sessions, edges)
        colour = series_colour(cloud.look.colour)
        share = counts / max(1, len(sessions))
        axes.stairs(share, edges, color=colour, fill=True, alpha=0.18, lw=0)
        axes.stairs(share, edges, color=colour, lw=1.6)
        axes.axvline(cloud.value, color=colour, lw=1)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:.0%}"))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel(x)
    return figure


@dataclass(frozen=True, kw_only=True)
class Work:
    """A node under the roof: operations a byte, 10⁹ operations a second, share of the time."""

    intensity: float
    gflops: float
    share: float
    rank: int


def roofline(
    works: Sequence[Work], *, gflops: float, gbs: float, cached_gbs: float, numbered: int
) -> Figure:
    """Draw nodes under what the machine can do; the first `numbered` bear their rank."""
    figure, axes = plot_axes("GFLOP/s", 3.1)
    ridge = gflops / gbs
    xs = [work.intensity for work in works] + [ridge]
    ys = [work.gflops for work in works] + [gflops]
    left, right = min(xs) / 2.5, max(xs) * 4
    roof = ([left, ridge, right], [gbs * left, gflops, gflops])
    axes.plot(*roof, color=TEXT, lw=1.4)
    axes.fill_between(*roof, 1e-12, color=GRID, alpha=0.35, lw=0)
    if cached_gbs > gbs:
        near = [left, max(left, gflops / cached_gbs)]
        axes.plot(near, [cached_gbs * x for x in near], color=TEXT, lw=1.2, linestyle=_DASHES[1])
    for work in sorted(works, key=lambda work: -work.share):
        look = Look(colour=0, shape=0)
        size = 5 + 24 * math.sqrt(min(1.0, work.share))
        place = ([work.intensity], [work.gflops])
        axes.plot(*place, **look.line | {"markersize": size, "alpha": 0.55}, linestyle="none")
        if work.rank <= numbered:
            axes.annotate(
                str(work.rank), (work.intensity, work.gflops), xytext=(0, size / 2 + 1),
                textcoords="offset points", ha="center", va="bottom", fontsize=9, zorder=9,
            )  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(left, right)
    axes.set_ylim(min([*ys, gbs * left]) / 2, gflops * 3)
    for axis, values in ((axes.xaxis, (left, right)), (axes.yaxis, axes.get_ylim())):
        number_axis(axis, values)
    axes.set_xlabel("operations a byte")
    return figure


def plot_axes(y: str, height: float) -> tuple[Figure, Axes]:
    """Make a figure with one plot, whose unit stands over its axis."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.add_subplot()
    if y:
        axes.set_title(y, loc="left", fontsize=10, color=TEXT, pad=6)
    return figure, axes


def _scale_y(axes: Axes, values: Sequence[float]) -> None:
    if min(values) > 0 and max(values) > _LOG_FROM * min(values):
        axes.set_yscale("log")
    number_axis(axes.yaxis, values)


def number_axis(axis: Any, values: Sequence[float]) -> None:
    """Label few places with short numbers, on either scale."""
    if axis.get_scale() == "log":
        span = max(values) / min(values)
        subs = (1.0,) if span > 200 else (1.0, 3.0) if span > 30 else (1.0, 2.0, 5.0)
        axis.set_major_locator(LogLocator(subs=subs, numticks=9))
        axis.set_minor_locator(NullLocator())
    else:
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axis.set_major_formatter(FuncFormatter(_short))


def _short(value: float, _place: Any = None) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= 10 * size or (letter != "k" and abs(value) >= size):
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
