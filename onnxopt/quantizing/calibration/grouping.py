"""Chooses how many tensors can leave the model at once, so that the memory allowed is kept.

Beside what the session itself takes there is room for so many bytes of tensors of one sample; more
tensors than fit take another pass over the samples. How large tensors are follows from the shapes
of a sample where the model tells its inner shapes by the dimensions of its inputs. Otherwise they
are measured, by a model that hands out only the sizes; and measured again for a sample that is
larger than all before, unless there is room for the square of its growth (attention grows so).

Memory that onnxruntime takes in an arena and keeps saves a third to three quarters of the time, but
may be twice what is needed; and with one sample looked at while the next is computed, there are two
at a time. Both is done where there is the room for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.calibration.expose import find
from onnxopt.runtime.feeding.inputs import size_of
from onnxopt.runtime.machine.memory import rss_bytes
from onnxopt.runtime.sessions.session import Feed
from onnxopt.text import human_bytes

_AT_ONCE = 2  # samples, where one is looked at while the next is computed
_ARENA = 2  # bytes taken for each that is needed
_SPARE = 10  # the part of the memory allowed that is for what the heap does not give back
_PACKED = 3  # a weight in the file, in onnxruntime's own order, and while it is brought there

Measure = Callable[[Feed], Mapping[str, int]]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How many of the tensors fit, and whether there is room for two samples and for an arena."""

    count: int
    overlap: bool
    arena: bool


class Gauge:
    """Knows how many bytes tensors take for a sample, and what is left of the memory allowed."""

    def __init__(
        self, model: ir.Model, names: Sequence[str], *, max_memory: int, measure: Measure
    ) -> None:
        """Learn what the model tells of tensors; `measure` counts the numbers of a sample's."""
        values = find(model)
        self.max_memory = max_memory
        self._usable = max_memory - max_memory // _SPARE
        self._measure = measure
        self._shapes = {name: facts.shape(values[name]) for name in names}
        self._inputs = {value.name or "": facts.shape(value) for value in model.graph.inputs}
        self._bytes = {name: _width(values[name]) for name in names}
        self._nested = {name for name in names if values[name].graph is not model.graph}
        self._weights = sum(
            value.const_value.nbytes for value in values.values() if value.const_value is not None
        )
        self._sizes: dict[str, int] = {}
        self._largest = 0
        self._own = 0

    def fit(self, names: Sequence[str], feed: Feed) -> Fit:
        """Tell how many of the tensors, from the first on, may leave the model for this sample.

        Raises `OnnxOptError` where it is none.
        """
        sizes = self._foreseen(names, feed)
        if sizes is not None and self._plenty(sum(sizes[name] for name in names)):
            return Fit(count=len(names), overlap=True, arena=True)
        if _size(feed) > self._largest:
            self._remeasure(feed)
        room = self._usable - self._own
        count = total = 0
        for name in names:
            if total + self._sizes[name] > room:
                break
            count, total = count + 1, total + self._sizes[name]
        if not count:
            raise self._too_little(names[0], self._sizes[names[0]])
        at_once = _AT_ONCE * total
        return Fit(count=count, overlap=at_once <= room, arena=_ARENA * at_once <= room)

    def own(self, size: int) -> None:
        """Take in how many bytes this process takes while no tensor has left the model."""
        self._own = max(self._own, size)

    def learn(self, found: Mapping[str, int]) -> None:
        """Take in how many bytes tensors really had: what depends on the data is not foreseen."""
        for name, size in found.items():
            self._sizes[name] = max(size, self._sizes.get(name, 0))

    def _foreseen(self, names: Sequence[str], feed: Feed) -> dict[str, int] | None:
        """Return bytes by tensor that are not exceeded, or None where that cannot be told."""
        told = self._told(names, feed)
        if told is not None:
            return told
        if not self._largest:
            return None
        growth = max(1.0, _size(feed) / self._largest) ** 2
        return {name: int(self._sizes[name] * growth) for name in names}

    def _told(self, names: Sequence[str], feed: Feed) -> dict[str, int] | None:
        """Return bytes by tensor as the shapes in the model tell them, with those of a sample."""
        symbols: dict[str, int] = {}
        for name, dims in self._inputs.items():
            if name in feed and dims is not None:
                pairs = zip(dims, feed[name].shape, strict=False)
                symbols.update((dim, size) for dim, size in pairs if isinstance(dim, str))
        sizes = {}
        for name in names:
            dims = self._shapes[name]
            if dims is None or name in self._nested:
                return None
            size = self._bytes[name]
            for dim in dims:
                try:
                    size *= size_of(dim, symbols) if dim is not None else _unknown()
                except KeyError:
                    return None
            sizes[name] = max(size, self._sizes.get(name, 0) if not self._largest else 0)
        return sizes

    def _plenty(self, total: int) -> bool:
        own = self._own or rss_bytes() + _PACKED * self._weights + total
        return own + _AT_ONCE * _ARENA * total <= self._usable

    def _remeasure(self, feed: Feed) -> None:
        counts = self._measure(feed)
        self._largest = _size(feed)
        self.learn({name: count * self._bytes[name] for name, count in counts.items()})

    def _too_little(self, name: str, size: int) -> OnnxOptError:
        needed = (self._own + size) * _SPARE // (_SPARE - 1)
        return OnnxOptError(
            f"{human_bytes(self.max_memory)} of memory are too little: {human_bytes(self._own)} are"
            f" taken when the model has run, and '{name}' has {human_bytes(size)}",
            f"allow more: --max-memory {needed // 10**6 + 1}M",
        )


def _size(feed: Feed) -> int:
    return sum(getattr(array, "nbytes", 0) for array in feed.values())


def _width(value: ir.Value) -> int:
    known = facts.dtype(value)
    return 4 if known is None else max(1, known.bitwidth // 8)


def _unknown() -> int:
    raise KeyError
