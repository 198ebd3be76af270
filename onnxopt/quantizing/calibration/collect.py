"""Collects statistics of a model's tensors over samples that come one at a time.

Ranges are reduced inside the graph. Everything else leaves it and is looked at while onnxruntime
computes the next sample, as many tensors at a time as the memory allowed has room for: the others
take further passes over the samples. What is held never grows with the number of samples.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import DataError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.calibration import reduce
from onnxopt.quantizing.calibration.expose import (
    Exposed,
    Wanted,
    constant,
    expose_ranges,
    expose_sizes,
    expose_values,
    find,
    sources,
)
from onnxopt.quantizing.calibration.grouping import Fit, Gauge
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.statistics import Statistics
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.runtime.machine.memory import return_freed, rss_bytes
from onnxopt.runtime.sessions.session import Feed, RunError, open_session, run

Feeds = Callable[[], Iterable[Feed]]
Progress = Callable[[str, float | None], None]
Compute = Callable[[Feed, int | None], list[Any]]

# A thread of onnxruntime that waits actively takes the core from those that look at tensors.
_WAIT_ASLEEP = {"session.intra_op.allow_spinning": "0"}


def collect(
    model: ir.Model,
    wanted: Mapping[str, Wanted],
    feeds: Feeds,
    *,
    max_memory: int,
    identity: str = "",
    earlier: Statistics | None = None,
    progress: Progress | None = None,
    directory: Path | None = None,
) -> Statistics:
    """Return what is wanted of tensors, by name: of the main graph or of bodies of If, Loop, Scan.

    `feeds` is called once for each pass and gives the same samples each time. `max_memory` are
    bytes of this process. `identity` is the SHA-256 under which statistics are kept; `earlier` ones
    are added to, in place, and returned. Models are written to `directory` while they are needed.
    Types and shapes should be inferred before: what is not known to be float32 is not reduced in
    the graph. Raises `DataError` without samples, and for the first sample that onnxruntime
    refuses or that makes NaN or infinity of a finite model, naming it and the tensor;
    `ModelError` for what is no tensor of the model; `OnnxOptError` where one tensor does not fit
    into the memory.
    """
    with (
        tempfile.TemporaryDirectory(prefix=".onnxopt-", dir=directory) as folder,
        Beside() as beside,
    ):
        collection = _Collection(model, wanted, feeds, max_memory, Path(folder), beside, progress)
        collection.take()
    found = Statistics(
        model=identity, samples=collection.samples or 0, observers=collection.observers
    )
    if earlier is None:
        return found
    earlier.merge(found)
    return earlier


class _Collection:
    """One collecting: the observers, and how far it is."""

    def __init__(
        self,
        model: ir.Model,
        wanted: Mapping[str, Wanted],
        feeds: Feeds,
        max_memory: int,
        folder: Path,
        beside: Beside,
        progress: Progress | None,
    ) -> None:
        self.model, self.feeds, self.folder = model, feeds, folder
        self.sources = sources(model, wanted)
        self.wanted = {name: wanted[name] for name in self.sources}
        self.observers = {
            name: Observer(histogram=want.histogram, axis=want.axis)
            for name, want in self.wanted.items()
        }
        self.values = self._from("values")
        known = find(model)
        self.nested = {name for name in self.values if known[name].graph is not model.graph}
        self.gauge = Gauge(model, self.values, max_memory=max_memory, measure=self._measure)
        self.samples: int | None = None
        self.progress = progress
        self.beside = beside
        self._compute: Compute | None = None
        self._done, self._left = 0, 1

    def _from(self, source: str) -> list[str]:
        return [name for name, where in self.sources.items() if where == source]

    def take(self) -> None:
        """Make all passes over the samples."""
        for name in self._from("constant"):
            self._see(name, constant(self.model, name), None)
        ranges, values = self._from("range"), self.values
        pending: list[tuple[Sequence[str], int]] = [(values, 0)] if values else []
        self._left = len(pending) + bool(ranges or not values)
        if ranges:
            self._sweep_ranges(ranges)
        elif not values:
            for _ in self._feed(0):
                pass
        while pending:
            pending.extend(self._sweep_values(*pending.pop(0)))
            self._left = len(pending)

    def _feed(self, start: int) -> Iterator[tuple[int, Feed]]:
        """Yield the samples from `start` on; the inputs are looked at on the way, once."""
        count = 0
        inputs = self._from("input") if self.samples is None else []
        source = self.feeds()
        total = self.samples or (len(source) if isinstance(source, Sized) else None)
        for index, feed in enumerate(source):
            count = index + 1
            for name in inputs:
                given = feed[name] if name in feed else constant(self.model, name)
                self._see(name, np.asarray(given), index)
            if inputs:
                self._check()
            if index >= start:
                yield index, feed
            if self.progress is not None:
                through = None if total is None else (self._done + count / total)
                passes = self._done + max(self._left, 1)
                self.progress(f"calibrating, {count} samples", through and through / passes)
        if not count:
            raise DataError("there are no samples to calibrate with", "give at least one")
        if self.samples is not None and count != self.samples:
            raise DataError(
                f"the samples are {self.samples} at first and {count} when read again",
                "give samples that can be read several times: a list, or a folder",
            )
        self.samples, self._done = count, self._done + 1

    def _sweep_ranges(self, names: Sequence[str]) -> None:
        compute = self._open(expose_ranges(self.model, names))
        for index, feed in self._feed(0):
            found = compute(feed, index)[0].reshape(-1, reduce.ROWS)
            doubtful = []
            for name, (low, high, total, count) in zip(names, found.tolist(), strict=True):
                if not count:
                    continue
                if np.isfinite(low) and np.isfinite(high) and np.isnan(total):
                    doubtful.append(name)
                else:
                    self.observers[name].see_range(low, high, int(count), index)
            if doubtful:
                self._look_closely(doubtful, feed, index)
            self._check()

    def _look_closely(self, names: Sequence[str], feed: Feed, index: int) -> None:
        """Look at the values where a sum was NaN: there may be one, or sums that overflow."""
        compute = self._open(self._exposed(names), arena=False)
        for name, array in zip(names, compute(feed, index), strict=True):
            self._see(name, array, index)

    def _sweep_values(self, names: Sequence[str], start: int) -> list[tuple[Sequence[str], int]]:
        """See tensors from a sample on; return those that do not fit, with where they stopped."""
        later: list[tuple[Sequence[str], int]] = []
        for index, feed in self._feed(start):
            fit = self._fit(names, feed, index)
            if fit.count < len(names):
                later.append((names[fit.count :], index))
                names, self._left = names[: fit.count], self._left + 1
                self._close()
            if self._compute is None:
                self._compute = self._open(self._exposed(names), arena=fit.arena)
            arrays = self._compute(feed, index)
            sizes = [array.nbytes for array in arrays]
            self.gauge.learn(dict(zip(names, sizes, strict=True)))
            self._wait()
            self.beside.do(sizes, partial(self._see_one, names, arrays, index))
            del arrays
            if not fit.overlap:
                self._wait()
                return_freed()
        self._close()
        return later

    def _exposed(self, names: Sequence[str]) -> Exposed:
        return expose_values(self.model, {name: self.wanted[name] for name in names})

    def _fit(self, names: Sequence[str], feed: Feed, index: int) -> Fit:
        try:
            return self.gauge.fit(names, feed)
        except RunError as error:
            raise _refused(index, error) from error

    def _measure(self, feed: Feed) -> dict[str, int]:
        """Count the numbers that each tensor has for a sample; nothing else is in memory then."""
        self._close()
        compute = self._open(expose_sizes(self.model, self.values))
        counts = compute(feed, None)[0]
        self.gauge.own(rss_bytes())
        return dict(zip(self.values, counts.tolist(), strict=True))

    def _wait(self) -> None:
        self.beside.wait()
        self._check()

    def _close(self) -> None:
        self._wait()
        self._compute = None

    def _see_one(self, names: Sequence[str], arrays: list[Any], index: int, place: int) -> None:
        """See one tensor of a sample, and forget it."""
        array, arrays[place] = arrays[place], None
        self._see(names[place], self._with_channels(names[place], array), index)

    def _see(self, name: str, array: Array, sample: int | None) -> None:
        wanted, observer = self.wanted[name], self.observers[name]
        if wanted.most is None or array.size <= wanted.most or wanted.axis is not None:
            observer.see(array, sample)
            return
        observer.see_range(float(array.min()), float(array.max()), 0, sample)
        if observer.bad_sample is None:
            observer.see(thinned(array, wanted.most, sample or 0), sample)

    def _with_channels(self, name: str, array: Array) -> Array:
        """Put the channels of what came out of a body, [n, channels], where they are wanted."""
        axis = self.wanted[name].axis
        if axis is None or name not in self.nested:
            return array
        if axis < 0:
            return array.reshape(*array.shape, *[1] * (-axis - 1))
        return array.T.reshape(*[1] * axis, *array.T.shape)

    def _check(self) -> None:
        if any(seen.bad_sample is not None for seen in self.observers.values()):
            Statistics(model="", observers=self.observers).check_finite()

    def _open(self, exposed: Exposed, *, arena: bool = True) -> Compute:
        path = self.folder / "exposed.onnx"
        io.save(exposed.model, path)
        return_freed()
        session = open_session(path, arena=arena, pattern=False, config=_WAIT_ASLEEP)
        return partial(_run, session, exposed.outputs)


class Beside:
    """Looks at the tensors of one sample while the next is computed, on all cores but one."""

    def __init__(self) -> None:
        self._workers = max(1, usable_cores() - 1)
        self._pool = ThreadPoolExecutor(self._workers)
        self._running: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.wait()
        self._pool.shutdown(cancel_futures=True)

    def do(self, sizes: Sequence[int], look: Callable[[int], None]) -> None:
        """Call `look` with each place, in a few parts of like size; return at once."""
        self._running = [
            self._pool.submit(_each, look, part) for part in _parts(sizes, self._workers)
        ]

    def wait(self) -> None:
        """Wait until everything was looked at; raise what was raised there."""
        running, self._running = self._running, []
        for future in running:
            future.result()


def thinned(array: Array, most: int, sample: int) -> Array:
    """Return evenly spaced numbers of an array, at most `most`, others for the next sample.

    The step has no divisor in common with any dimension: it comes by all channels and columns.
    """
    step = -(-array.size // most)
    while math.gcd(step, array.size) > 1:
        step += 1
    return np.ascontiguousarray(array.reshape(-1)[sample % step :: step][:most])


def _each(look: Callable[[int], None], places: Sequence[int]) -> None:
    for place in places:
        look(place)


def _parts(sizes: Sequence[int], count: int) -> list[list[int]]:
    """Divide places into at most `count` parts, the largest sizes first."""
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        least = loads.index(min(loads))
        parts[least].append(place)
        loads[least] += sizes[place] + 1
    return [part for part in parts if part]


def _run(session: Any, outputs: Sequence[str], feed: Feed, index: int | None) -> list[Any]:
    try:
        return run(session, feed, outputs)
    except RunError as error:
        if index is None:
            raise
        raise _refused(index, error) from error


def _refused(index: int, error: RunError) -> DataError:
    return DataError(
        f"sample {index}: {error.message}", "look at what that sample holds, or leave it out"
    )
