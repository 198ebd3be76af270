"""Keeps arrays by sample and name: in memory as far as that is allowed, the rest in files."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from onnxopt.arrays import Array


class Shelf:
    """Arrays of samples; `room` bytes of them stay in memory.

    A context manager: what lies in files is gone after it.
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self._held: dict[tuple[int, str], Array | Path] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._number = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.clear()
        if self._folder is not None:
            self._folder.cleanup()

    def put(self, sample: int, name: str, array: Array) -> None:
        """Keep an array."""
        self.drop(sample, name)
        if array.nbytes <= self.room:
            self.room -= array.nbytes
            self._held[sample, name] = array
            return
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="onnxopt-")
        self._number += 1
        path = Path(self._folder.name) / f"{self._number}.npy"
        np.save(path, array, allow_pickle=False)
        self._held[sample, name] = path

    def get(self, sample: int, name: str) -> Array:
        """Return an array; raises KeyError where it was not kept."""
        held = self._held[sample, name]
        return np.load(held, allow_pickle=False) if isinstance(held, Path) else held

    def drop(self, sample: int, name: str) -> None:
        """Forget an array, if it was kept."""
        held = self._held.pop((sample, name), None)
        if isinstance(held, Path):
            held.unlink()
        elif held is not None:
            self.room += held.nbytes
