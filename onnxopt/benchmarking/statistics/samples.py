"""Keeps every sample of one model in one setting on disk, and what is concluded from in memory.

Ten million runs take 80 MB of a temporary file that nobody else sees, and of memory what their
sessions take: a few numbers each.
"""

from __future__ import annotations

import tempfile
import weakref
from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, overload

import numpy as np

from onnxopt.benchmarking.statistics.tails import Histogram
from onnxopt.errors import OutputError

_WIDTH = 8
# Runs by which the variance inside a session is judged; more tell nothing new.
_JUDGED = 1000


class Store:
    """A temporary file of runs that nobody else sees; it is gone with whoever reads it last."""

    def __init__(self) -> None:
        # Without a buffer, whose rest would be written when it is too late to say that it cannot.
        self._file = tempfile.TemporaryFile(buffering=0, prefix="onnxopt-")  # noqa: SIM115
        self._end = 0
        weakref.finalize(self, self._file.close)

    def add(self, runs: np.ndarray[Any, np.dtype[np.int64]]) -> int:
        """Keep runs and return where; raise `OutputError` when the disk is full."""
        at, rest = self._end, runs.tobytes()
        try:
            self._file.seek(at)
            while rest:  # a disk that is nearly full takes a part, and refuses the next
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise OutputError(
                f"cannot keep samples in {tempfile.gettempdir()}: {error.strerror}",
                "set TMPDIR to a folder with more room",
            ) from error
        self._end += runs.nbytes
        return at

    def read(self, at: int, count: int) -> list[int]:
        """Return `count` runs that were kept at `at`."""
        self._file.seek(at)
        found: list[int] = np.frombuffer(self._file.read(count * _WIDTH), np.int64).tolist()
        return found


class _Lazy(Sequence[Mapping[str, Any]], ABC):
    """A sequence whose items are made when they are asked for."""

    @abstractmethod
    def _item(self, number: int) -> Mapping[str, Any]: ...

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return self._item(range(len(self))[index])


class Samples(_Lazy):
    """The runs of one model in one setting, by process and session.

    As a sequence it is `BenchmarkResult.processes`: a session is read from disk when it is asked
    for. `levels` are what statistics are made of: the median run of each session in ns, or, where
    callers compete, the time of a request on average. `walls` are the ns that the runs of each
    session took together where that was told, else nothing. Many may share a `store`: a process
    has only so many open files.
    """

    def __init__(self, *, per_request: bool = False, store: Store | None = None) -> None:
        self.levels: list[array[float]] = []
        self.walls: list[array[int]] = []
        self.histograms: list[Histogram] = []
        self.runs = 0
        self._per_request = per_request
        self._store = store or Store()
        self._places: list[array[int]] = []
        self._sizes: list[array[int]] = []
        self._spread, self._spreads = 0.0, 0

    def begin_process(self) -> None:
        """Let the sessions that follow belong to another process."""
        self.levels.append(array("d"))
        self.walls.append(array("q"))
        self.histograms.append(Histogram())
        self._places.append(array("q"))
        self._sizes.append(array("q"))

    def add(self, times_ns: Sequence[int], wall_ns: int | None = None) -> None:
        """Keep a session: its runs and, where callers competed, how long they took together."""
        if not times_ns:
            return
        runs = np.asarray(times_ns, np.int64)
        self._places[-1].append(self._store.add(runs))
        self._sizes[-1].append(len(runs))
        self.runs += len(runs)
        self.histograms[-1].add(runs)
        if wall_ns:
            self.walls[-1].append(wall_ns)
        shared = wall_ns if self._per_request else None
        self.levels[-1].append(shared / len(runs) if shared else float(np.median(runs)))
        if len(runs) > 2:
            self._spread += float(np.var(np.log(np.maximum(runs[:_JUDGED], 1)), ddof=1))
            self._spreads += 1

    @property
    def variance_within(self) -> float:
        """Variance of the logarithm of a run inside its session, on average; NaN if unknown."""
        return self._spread / self._spreads if self._spreads else float("nan")

    @property
    def sessions(self) -> int:
        """How many sessions there are."""
        return sum(map(len, self.levels))

    def __len__(self) -> int:
        return len(self.levels)

    def _item(self, number: int) -> Mapping[str, Any]:
        return {"sessions": _Sessions(self, number)}

    def session(self, process: int, number: int) -> dict[str, Any]:
        """Read one session back, as it stands in a report."""
        place, size = self._places[process][number], self._sizes[process][number]
        found: dict[str, Any] = {"times_ns": self._store.read(place, size)}
        if self.walls[process]:
            found["wall_ns"] = self.walls[process][number]
        return found


class _Sessions(_Lazy):
    """The sessions of one process, each read when it is asked for."""

    def __init__(self, samples: Samples, process: int) -> None:
        self._samples, self._process = samples, process

    def __len__(self) -> int:
        return len(self._samples.levels[self._process])

    def _item(self, number: int) -> Mapping[str, Any]:
        return self._samples.session(self._process, number)


def restored(
    processes: Iterable[Mapping[str, Any]],
    *,
    per_request: bool = False,
    store: Store | None = None,
) -> Samples:
    """Return samples that were written into a report."""
    samples = Samples(per_request=per_request, store=store)
    for process in processes:
        samples.begin_process()
        for session in process["sessions"]:
            samples.add(session["times_ns"], session.get("wall_ns"))
    return samples
