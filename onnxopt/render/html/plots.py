"""Chooses what to draw: only what a report has data for, and of many settings the telling ones."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from matplotlib.figure import Figure

from onnxopt.render import rows, timings
from onnxopt.render.html import figures, samples
from onnxopt.render.html.figures import Cloud, Look, Point, Series, Work
from onnxopt.render.html.legend import Key, SeriesName, keys_of, looks_of
from onnxopt.render.html.svg import drawing, inline
from onnxopt.render.words import printable
from onnxopt.report import BenchmarkReport, BenchmarkResult, Hotspots

MOST_DOTS = 4000
"""In the whole page; beyond, processes become boxes."""
_DOTS, _PROCESSES, _SERIES, _LABELS, _NUMBERED = 800, 40, 8, 9, 6
Rows = Mapping[SeriesName, Sequence[BenchmarkResult]]
_PERCENTILES = (("median_ms", "p50"), ("p90_ms", "p90"), ("p99_ms", "p99"), ("p999_ms", "p99.9"))


@dataclass(frozen=True, kw_only=True)
class Plot:
    """A figure of the page, with its SVG."""

    title: str
    caption: str
    svg: str
    keys: tuple[Key, ...] = ()


class Plotter:
    """Draws the figures of one report, each with identifiers of its own."""

    def __init__(self, report: BenchmarkReport) -> None:
        self.report = report
        self.names = timings.model_names(report)
        self.measured = [
            each for each in report.results if each.error is None and math.isfinite(each.median_ms)
        ]
        labels = dict.fromkeys(self.label(each) for each in self.measured)
        self.order = {label: place for place, label in enumerate(labels)}
        self._clouds = {id(each): samples.levels(each) for each in self.measured}
        many = sum(len(s) for processes in self._clouds.values() for s in processes)
        self._dots = _DOTS if many <= MOST_DOTS else 0
        self._count = itertools.count(1)

    def label(self, result: BenchmarkResult) -> str:
        """Name the model of a row."""
        return timings.label(self.names, result)

    def overview(self) -> list[Plot]:
        """Compare settings: by batch, by provider, and throughput against latency."""
        found, swept = [], set()
        for variant, series in self._sweeps("batch", "median_ms"):
            swept |= {id(each) for group in series.values() for each in group}
            found.append(self._by_batch(variant, series))
        rest = [each for each in self.measured if id(each) not in swept and not each.control]
        found += self._by_setting(rest)
        for axis, title in (
            ("batch", "as the batch grows"),
            ("callers", "as callers are added"),
            ("rate", "as requests come faster"),
        ):
            for variant, series in self._sweeps(axis, "throughput"):
                found.append(self._trade(axis, title, variant, series))
        return found

    def setting(self, results: Sequence[BenchmarkResult]) -> list[Plot]:
        """Show the sessions, and the percentiles, of the models in one setting."""
        results = [each for each in results if id(each) in self._clouds]
        return [*self._distribution(results), *self._percentiles(results)] if results else []

    def _distribution(self, results: Sequence[BenchmarkResult]) -> Iterator[Plot]:
        shown = [each for each in results if any(map(len, self._clouds[id(each)]))]
        if not shown:
            return
        throughput = shown[0].setting.metric == "throughput"
        key = "throughput" if throughput else "median_ms"
        clouds = [
            Cloud(
                look=self._look(each),
                processes=self._clouds[id(each)],
                value=getattr(each, key),
                **_bounds(each, key),
            )
            for each in shown
        ]
        unit = "samples per second" if throughput else "ms"
        sessions = sum(cloud.sessions for cloud in clouds)
        what = "A dot is one fresh session"
        if max(len(cloud.processes) for cloud in clouds) > _PROCESSES:
            what = "How many sessions took how long"
        elif sessions > self._dots:
            what = "A bar is the sessions of one process: all, the middle half, the median"
        yield self._plot(
            "Sessions and processes",
            f"{what}. Line and band: the median and its interval.",
            lambda: figures.distributions(clouds, y=unit, dots=self._dots, processes=_PROCESSES),
            shown,
            tell=key,
        )

    def _percentiles(self, results: Sequence[BenchmarkResult]) -> Iterator[Plot]:
        series = []
        for number, each in enumerate(results):
            shift = (number - (len(results) - 1) / 2) * min(0.09, 0.4 / len(results))
            points = [
                Point(x=place + shift, y=getattr(each, key), **_bounds(each, key))
                for place, (key, _) in enumerate(_PERCENTILES)
                if math.isfinite(getattr(each, key))
            ]
            series.append(Series(look=self._look(each), points=points))
        shown = max(len(each.points) for each in series)
        if shown < 2:
            return
        ticks = [(float(place), text) for place, (_, text) in enumerate(_PERCENTILES[:shown])]
        yield self._plot(
            "Percentiles",
            "So many of all runs took at most so long. Bars are intervals.",
            lambda: figures.lines(series, ticks=ticks, y="ms"),
            results,
            tell="p99_ms",
        )

    def _by_batch(self, variant: str, series: Rows) -> Plot:
        looks = looks_of(series, self.order)
        drawn = [
            Series(
                look=looks[name],
                points=[
                    Point(x=float(e.batch or 1), y=e.median_ms, **_bounds(e, "median_ms"))
                    for e in group
                ],
            )
            for name, group in series.items()
        ]
        batches = sorted({point.x for each in drawn for point in each.points})
        return self._plot(
            f"Latency by batch{variant}",
            "Median of one run; bars are intervals.",
            lambda: figures.lines(
                drawn, ticks=[(b, f"{b:g}") for b in batches], x="batch", y="ms", log_x=True
            ),
            [each for group in series.values() for each in group],
            keys=keys_of(looks),
        )

    def _by_setting(self, results: Sequence[BenchmarkResult]) -> Iterator[Plot]:
        grouped: dict[str, list[BenchmarkResult]] = {}
        for each in results:
            grouped.setdefault(rows.setting(each), []).append(each)
        if len(grouped) < 2:
            return
        for start in range(0, len(grouped), _LABELS):
            some = list(grouped.items())[start : start + _LABELS]
            labels = [ascii_text(label) for label, _ in some]
            groups = [
                [(self._look(e), Point(x=e.median_ms, y=0, **_bounds(e, "median_ms"))) for e in g]
                for _, g in some
            ]
            shown = [each for _, group in some for each in group]
            yield self._plot(
                "Latency by setting",
                "Median of one run; bars are intervals.",
                partial(figures.ranges, labels, groups),
                shown,
            )

    def _trade(
        self,
        axis: str,
        title: str,
        variant: str,
        series: Rows,
    ) -> Plot:
        looks = looks_of(series, self.order)
        drawn = [
            Series(
                look=looks[name],
                points=[
                    Point(
                        x=each.throughput,
                        y=each.median_ms,
                        note=f"{getattr(each, axis):g}" if number < 2 else "",
                        **_bounds(each, "median_ms"),
                    )
                    for each in group
                ],
            )
            for number, (name, group) in enumerate(series.items())
        ]
        xs = [point.x for each in drawn for point in each.points]
        return self._plot(
            f"Throughput and latency {title}{variant}",
            f"To the right is more, down is sooner. The numbers are the {axis}.",
            lambda: figures.lines(
                drawn, x="samples per second", y="ms", log_x=max(xs) > 8 * min(xs) > 0
            ),
            [each for group in series.values() for each in group],
            keys=keys_of(looks),
        )

    def _sweeps(
        self, axis: str, number: str
    ) -> Iterator[tuple[str, dict[SeriesName, list[BenchmarkResult]]]]:
        """Gather rows that differ in `axis` only, all in one figure where they are few.

        Yields what the title must add, and rows by (model, all else of the setting).
        """
        series: dict[SeriesName, list[BenchmarkResult]] = {}
        for each in self.measured:
            if each.control or getattr(each, axis) is None:
                continue
            if math.isfinite(getattr(each, number)):
                bare = _without(each, axis)
                series.setdefault((self.label(each), rows.setting(bare)), []).append(each)
        series = {
            name: sorted(group, key=lambda each: float(getattr(each, axis)))
            for name, group in series.items()
            if len({getattr(each, axis) for each in group}) > 1
        }
        variants = dict.fromkeys(variant for _, variant in series)
        if series and len(series) <= _SERIES:
            common = next(iter(variants)) if len(variants) == 1 else ""
            yield (f": {common}" if common else "", series)
        else:
            for variant in variants:
                some = {name: group for name, group in series.items() if name[1] == variant}
                yield f": {variant}", some

    def roof(self, hot: Hotspots) -> list[Plot]:
        """Draw how far the hottest nodes are from what the machine can do."""
        ceiling = hot.ceiling
        if ceiling is None or not (ceiling.gflops > 0 and ceiling.gbs > 0):
            return []
        works = [
            Work(intensity=2 * n.macs / n.bytes, gflops=n.gflops, share=n.share, rank=rank)
            for rank, n in enumerate(hot.nodes, 1)
            if n.macs and n.bytes and n.gflops and math.isfinite(n.gflops)
        ]
        if not works:
            return []
        left = len(hot.nodes) - len(works)
        fast = ceiling.cached_gbs
        cached = f"; dashed, {fast:.3g} GB/s from the caches" if fast > ceiling.gbs else ""
        note = f" {left} that multiply nothing are not shown." if left else ""
        return [
            self._plot(
                "How far from the limit",
                "A dot is a node, as large as its share of the time, with its place in the table. "
                f"The line is what this machine can do: {ceiling.gbs:.3g} GB/s, then "
                f"{ceiling.gflops:.3g} GFLOP/s{cached}.{note}",
                lambda: figures.roofline(
                    works,
                    gflops=ceiling.gflops,
                    gbs=ceiling.gbs,
                    cached_gbs=ceiling.cached_gbs,
                    numbered=_NUMBERED,
                ),
                (),
            )
        ]

    def _look(self, result: BenchmarkResult) -> Look:
        place = self.order[self.label(result)]
        return Look(colour=place, shape=place)

    def _plot(
        self,
        title: str,
        caption: str,
        draw: Callable[[], Figure],
        shown: Sequence[BenchmarkResult],
        *,
        keys: Sequence[Key] = (),
        tell: str = "median_ms",
    ) -> Plot:
        """Draw a figure; where it shows several models, its legend names them."""
        name = f"plot{next(self._count)}"
        if not keys:
            labels = {(self.label(each), ""): self._look(each) for each in shown}
            looks = dict(sorted(labels.items(), key=lambda item: item[1].colour))
            keys = keys_of(looks) if len(self.order) > 1 else ()
        with drawing(name):
            svg = inline(draw(), name=name, title=title, description=self._told(shown, tell))
        return Plot(title=title, caption=caption, svg=svg, keys=tuple(keys))

    def _told(self, shown: Sequence[BenchmarkResult], key: str) -> str:
        """Say in words what a figure shows, for those who cannot see it."""
        unit = "samples per second" if key == "throughput" else "ms"
        write = timings.per_second if key == "throughput" else timings.latency
        return printable(
            "; ".join(
                f"{self.label(each)} on {rows.setting(each)}: {write(getattr(each, key))} {unit}"
                for each in shown
            )
        )


def _without(result: BenchmarkResult, axis: str) -> BenchmarkResult:
    """Return a row whose setting does not say what a figure's axis does."""
    if axis == "callers":
        return replace(result, callers=1)
    return replace(result, batch=None) if axis == "batch" else replace(result, rate=None)


def ascii_text(text: str) -> str:
    """Write what a drawing's font may lack as escapes: names can hold any letter."""
    return text.encode("ascii", "backslashreplace").decode("ascii")


def _bounds(result: BenchmarkResult, key: str) -> dict[str, Any]:
    low, high = result.intervals.get(key, (math.nan, math.nan))
    return {"low": low, "high": high}
