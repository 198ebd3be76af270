"""Observers see the arrays of one tensor and forget them: what stays is of constant size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.calibration.histogram import BLOCK, Histogram

_SUMS = ("count", "hidden", "zeros", "nans", "infinities", "total", "squares")


class Channels:
    """Exact least and greatest number and the sum of each channel: float64 [channels].

    `count` is that of the numbers in one channel. Empty arrays until something was seen.
    """

    def __init__(self, axis: int) -> None:
        self.axis = axis
        self.count = 0
        self.low: Array = np.empty(0)
        self.high: Array = np.empty(0)
        self.total: Array = np.empty(0)

    @property
    def mean(self) -> Array:
        """The mean of each channel, float64 [channels]; zeros where nothing was seen."""
        return np.asarray(self.total / max(self.count, 1))

    def see(self, array: Array) -> None:
        """Take in an array of finite numbers; raises ValueError for another number of channels."""
        size = array.shape[self.axis]
        before = math.prod(array.shape[: self.axis % array.ndim])
        parts = array.reshape(before, size, array.size // max(before * size, 1))
        if not parts.size:
            return
        # Short runs are summed in double precision, long ones pairwise, which is as good.
        kind = np.float32 if parts.dtype == np.float32 and parts.shape[2] >= 64 else np.float64
        self._take(
            parts.min(axis=(0, 2)).astype(np.float64),
            parts.max(axis=(0, 2)).astype(np.float64),
            parts.sum(axis=2, dtype=kind).sum(axis=0, dtype=np.float64),
            parts.size // size,
        )

    def merge(self, other: Channels) -> None:
        """Add what another observer has seen along the same axis."""
        if other.axis != self.axis:
            raise ValueError(f"channels along axis {other.axis} are none along {self.axis}")
        if other.count:
            self._take(other.low, other.high, other.total, other.count)

    def _take(self, low: Array, high: Array, total: Array, count: int) -> None:
        if not self.count:
            self.low, self.high, self.total, self.count = low, high, total, count
            return
        if len(low) != len(self.low):
            raise ValueError(f"{len(low)} channels came where {len(self.low)} were")
        self.low = np.minimum(self.low, low)
        self.high = np.maximum(self.high, high)
        self.total = self.total + total
        self.count += count


class Observer:
    """What was seen of one tensor.

    `count` is that of the finite numbers, of which `zeros` are exactly zero and `hidden` came only
    as a range that the graph itself took. `low` and `high` are exact (inf and -inf while there is
    nothing), `total` and `squares` are sums of the numbers that are not hidden. NaN and infinite
    numbers are counted, in `nans` and `infinities`, and then left out; `bad_sample` is the first
    sample that had one. `axis` asks for statistics of each channel.
    """

    def __init__(self, *, histogram: bool = True, axis: int | None = None) -> None:
        self.count = self.hidden = self.zeros = self.nans = self.infinities = 0
        self.low, self.high = math.inf, -math.inf
        self.total = self.squares = 0.0
        self.bad_sample: int | None = None
        self.histogram = Histogram() if histogram else None
        self.channels = None if axis is None else Channels(axis)

    @property
    def mean(self) -> float:
        """The mean of the numbers; 0 where there are none."""
        return self.total / max(self.count - self.hidden, 1)

    @property
    def constant(self) -> bool:
        """Whether all numbers that came are one and the same."""
        return self.count > 0 and self.low == self.high

    def see(self, array: Array, sample: int | None = None) -> None:
        """Take in an array of any shape and any real type, empty ones too, as float32."""
        bad = self.nans + self.infinities
        flat = array.reshape(-1)
        for start in range(0, flat.size, BLOCK):
            with np.errstate(over="ignore"):
                block = flat[start : start + BLOCK].astype(np.float32, copy=False)
            self._see_block(block)
        if self.nans + self.infinities > bad:
            self._blame(sample)
            array = np.where(np.isfinite(array), array, array.dtype.type(0))
        if self.channels is not None:
            self.channels.see(array)

    def see_range(self, low: float, high: float, count: int = 1, sample: int | None = None) -> None:
        """Take in the range of an array of `count` numbers, found where the array is."""
        if math.isfinite(low) and math.isfinite(high):
            self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
            self.count += count
            self.hidden += count
            return
        self.nans += math.isnan(low) or math.isnan(high)
        self.infinities += math.isinf(low) or math.isinf(high)
        self._blame(sample)

    def merge(self, other: Observer) -> None:
        """Add what another observer of the same kind has seen; it stays as it is."""
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        if other.bad_sample is not None:
            self._blame(other.bad_sample)
        if self.histogram is not None and other.histogram is not None:
            self.histogram.merge(other.histogram)
        if self.channels is not None and other.channels is not None:
            self.channels.merge(other.channels)

    def _see_block(self, block: Array) -> None:
        low, high = float(block.min()), float(block.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            self.nans += int(np.isnan(block).sum())
            self.infinities += int(np.isinf(block).sum())
            block = block[np.isfinite(block)]
            if not block.size:
                return
            low, high = float(block.min()), float(block.max())
        largest = max(-low, high)
        # Squares of float32 overflow from 1e19 on; a block of them below 1e16 cannot.
        exact = block if largest < 1e16 else block.astype(np.float64)
        zeros = int(np.count_nonzero(block == 0))
        self.count += block.size
        self.zeros += zeros
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.total += float(exact.sum())
        self.squares += float(exact @ exact)
        if self.histogram is not None:
            self.histogram.add(block, largest, zeros)

    def _blame(self, sample: int | None) -> None:
        known = [number for number in (self.bad_sample, sample) if number is not None]
        self.bad_sample = min(known, default=None)

    def state(self) -> dict[str, Array]:
        """Return everything as arrays, for `from_state`."""
        state = {name: np.array(getattr(self, name)) for name in (*_SUMS, "low", "high")}
        state["bad_sample"] = np.array(-1 if self.bad_sample is None else self.bad_sample)
        if self.histogram is not None:
            state["histogram"] = self.histogram.counts.copy()
            state["limit"] = np.array(self.histogram.limit)
        if self.channels is not None:
            for name in ("axis", "count", "low", "high", "total"):
                state[f"channel_{name}"] = np.array(getattr(self.channels, name))
        return state

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Observer:
        """Return the observer whose state this is; raises KeyError or ValueError for another."""
        axis = int(state["channel_axis"]) if "channel_axis" in state else None
        observer = cls(histogram="histogram" in state, axis=axis)
        for name in (*_SUMS, "low", "high"):
            setattr(observer, name, np.asarray(state[name]).item())
        bad = int(state["bad_sample"])
        observer.bad_sample = None if bad < 0 else bad
        if observer.histogram is not None:
            observer.histogram.counts = np.array(state["histogram"], np.int64)
            observer.histogram.limit = float(state["limit"])
        if observer.channels is not None:
            observer.channels.count = int(state["channel_count"])
            for name in ("low", "high", "total"):
                setattr(observer.channels, name, np.array(state[f"channel_{name}"], np.float64))
        return observer
