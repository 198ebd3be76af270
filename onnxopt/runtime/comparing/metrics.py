"""Measures how far outputs are from their reference, output by output, over many feeds.

Tolerances. Two orders of summation of the same fp32 expression differ by some ε·√K·max|y|; what
rewriting and fusing does to a healthy model stays below 1e-5·max|y| + 1e-4·|y|. For fp16 and
bfloat16 four ε of the largest and eight ε of the element are allowed. fp64 is held to the fp32
numbers, because nothing tells whether it was fp32 inside. On top, whatever the reference shows
against itself (`Slack`) is allowed. Integers, booleans and strings must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.report import OutputComparison


@dataclass(frozen=True, kw_only=True)
class Slack:
    """What one output of the reference was seen to vary by, already widened.

    `absolute` is a difference between floats, `fraction` a share of elements that differ: of
    integers, booleans and strings, and of NaN and infinity in float outputs.
    """

    absolute: float = 0.0
    fraction: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits that the user sets in place of ours: |a-b| ≤ atol + rtol·|a|, and an SQNR in dB."""

    rtol: float | None = None
    atol: float | None = None
    min_sqnr: float | None = None

    @property
    def elementwise(self) -> bool:
        """Whether a limit on single elements was set."""
        return self.rtol is not None or self.atol is not None


class Tally:
    """Gathers the differences of one output over feeds and over runs.

    `largest` is the largest absolute value that the reference has there on any feed, where that
    is known beforehand: below a thousandth of it, relative differences mean nothing.
    """

    def __init__(
        self,
        name: str,
        slack: Slack | None = None,
        limits: Limits | None = None,
        largest: float = 0.0,
    ) -> None:
        self.name = name
        self.slack = slack or Slack()
        self.limits = limits or Limits()
        self.largest = largest
        self.max_abs = self.max_rel = 0.0
        self.share_differing = 0.0
        self.compared = 0  # elements that say something: finite numbers, strings, truth values
        self.worst_index: tuple[int, ...] = ()
        self.tolerance = 0.0
        self.reason = ""
        self._worst_excess = -np.inf
        self._signal = self._error = self._dot = self._energy = 0.0

    def see(self, want: Any, got: Any, where: str) -> None:
        """Compare what was wanted with what came; `where` names the run in words."""
        pairs, mismatch = _align(want, got)
        if mismatch:
            self.reason = self.reason or f"{mismatch} ({where})"
            return
        scale = largest_float(want)
        for a, b in pairs:
            if is_float(a.dtype):
                self._see_floats(a, b, scale, where)
            else:
                self._see_exact(a, b, where)

    def _see_floats(self, a: np.ndarray, b: np.ndarray, scale: float, where: str) -> None:
        if a.size == 0:
            return
        atol, rtol = self._tolerance(a.dtype, scale)
        a, b = _wide(a), _wide(b)
        both = np.isfinite(a) & np.isfinite(b)
        self.compared += int(np.count_nonzero(both))
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        self._see_share(~both & ~same, where, "NaN or infinity does not match")
        a, b = np.where(both, a, 0), np.where(both, b, 0)
        difference, size = np.abs(a - b), np.abs(a)
        allowed = np.maximum(atol + rtol * size, self.slack.absolute)
        self._keep_worst(difference, allowed, where)
        self.max_abs = max(self.max_abs, float(difference.max()))
        self.largest = max(self.largest, scale)
        notable = size > self.largest / 1000
        if notable.any():
            relative = difference[notable] / size[notable]
            self.max_rel = max(self.max_rel, float(relative.max()))
        self._add_energy(a, b, difference)

    def _tolerance(self, dtype: np.dtype, scale: float) -> tuple[float, float]:
        """Return the absolute and the relative part of what is allowed."""
        if self.limits.elementwise:
            return self.limits.atol or 0.0, self.limits.rtol or 0.0
        if self.limits.min_sqnr is not None:
            return np.inf, 0.0
        eps = epsilon(dtype)
        return max(1e-5, min(4 * eps, 0.1)) * scale, max(1e-4, 8 * eps)

    def _keep_worst(self, difference: np.ndarray, allowed: np.ndarray, where: str) -> None:
        excess = np.where(difference > 0, difference - allowed, -allowed)
        position = int(np.argmax(excess)) if excess.max() > 0 else int(np.argmax(difference))
        worst = float(excess.reshape(-1)[position])
        if worst <= self._worst_excess and self.worst_index:
            return
        self._worst_excess = worst
        self.worst_index = tuple(int(i) for i in np.unravel_index(position, difference.shape))
        self.tolerance = float(allowed.reshape(-1)[position])
        if worst > 0 and not self.reason:
            index = list(self.worst_index)
            self.reason = (
                f"differs by {difference.reshape(-1)[position]:.3g} at {index},"
                f" {self.tolerance:.3g} is allowed ({where})"
            )

    def _see_exact(self, a: np.ndarray, b: np.ndarray, where: str) -> None:
        if a.size == 0:
            return
        self.compared += a.size
        differs = np.asarray(a != b, bool)
        self._see_share(differs, where, f"{int(differs.sum())} of {a.size} elements differ")
        if a.dtype.kind in "OUS":
            return
        a, b = a.astype(np.float64), b.astype(np.float64)
        difference = np.abs(a - b)
        if float(difference.max()) > self.max_abs or not self.worst_index:
            position = int(np.argmax(difference))
            self.worst_index = tuple(int(i) for i in np.unravel_index(position, a.shape))
        self.max_abs = max(self.max_abs, float(difference.max()))
        relative = difference / np.maximum(np.abs(a), 1)
        self.max_rel = max(self.max_rel, float(relative.max()))
        self._add_energy(a, b, difference)

    def _see_share(self, differs: np.ndarray, where: str, what: str) -> None:
        share = float(np.mean(differs))
        self.share_differing = max(self.share_differing, share)
        if share > self.slack.fraction and not self.reason:
            first = [int(i) for i in np.argwhere(differs)[0]]
            self.reason = f"{what}, first at {first} ({where})"

    def _add_energy(self, a: np.ndarray, b: np.ndarray, difference: np.ndarray) -> None:
        self._signal += float(np.sum(np.abs(a) ** 2))
        self._energy += float(np.sum(np.abs(b) ** 2))
        self._error += float(np.sum(difference**2))
        self._dot += float(np.real(np.vdot(a, b)))

    @property
    def sqnr_db(self) -> float:
        """10·log10(Σa²/Σ(a-b)²): infinite when equal."""
        if self._error == 0:
            return np.inf
        return 10 * float(np.log10(self._signal / self._error)) if self._signal else -np.inf

    def result(self) -> OutputComparison:
        """Return what was found, and whether it is within the limits."""
        reason, least = self.reason, self.limits.min_sqnr
        if not reason and least is not None and self.sqnr_db < least:
            reason = f"SQNR is {self.sqnr_db:.1f} dB, {least:g} dB is wanted"
        norms = np.sqrt(self._signal) * np.sqrt(self._energy)
        cosine = min(1.0, self._dot / norms) if norms else float(self._signal == self._energy)
        return OutputComparison(
            name=self.name,
            max_abs=self.max_abs,
            max_rel=self.max_rel,
            sqnr_db=self.sqnr_db,
            cosine=float(cosine),
            worst_index=self.worst_index,
            tolerance=self.tolerance,
            passed=not reason,
            reason=reason,
        )


def _align(want: Any, got: Any) -> tuple[list[tuple[np.ndarray, np.ndarray]], str]:
    """Pair the tensors of two values, or say how sequences, maps, types or shapes differ."""
    wanted, came = list(_leaves(want)), list(_leaves(got))
    if [path for path, _ in wanted] != [path for path, _ in came]:
        return [], f"its structure differs: {len(wanted)} tensors wanted, {len(came)} came"
    for (path, a), (_, b) in zip(wanted, came, strict=True):
        if a.dtype != b.dtype and not {a.dtype.kind, b.dtype.kind} <= set("OUS"):
            return [], f"{path} is {b.dtype} instead of {a.dtype}".lstrip()
        if a.shape != b.shape:
            return [], f"{path} has shape {list(b.shape)} instead of {list(a.shape)}".lstrip()
    return [(a, b) for (_, a), (_, b) in zip(wanted, came, strict=True)], ""


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, np.ndarray]]:
    """Yield the tensors inside a value; sequences and maps are walked, a lone key is a tensor."""
    if value is None:
        yield f"{path}(empty)", np.empty(0)
    elif isinstance(value, Mapping):
        for key in sorted(value, key=repr):
            yield from _leaves(value[key], f"{path}[{key!r}]")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    else:
        yield path, np.asarray(value)


def is_float(dtype: np.dtype) -> bool:
    """Tell whether a type has rounding: floats, complex numbers and those of ml_dtypes."""
    return dtype.kind in "fc" or "float" in dtype.name


def epsilon(dtype: np.dtype) -> float:
    """Return the spacing of a float type at 1."""
    if dtype.kind in "fc":
        return float(np.finfo(dtype).eps)
    import ml_dtypes

    finfo: Any = ml_dtypes.finfo
    return float(finfo(dtype).eps)


def _wide(array: np.ndarray) -> np.ndarray:
    return array.astype(np.complex128 if array.dtype.kind == "c" else np.float64)


def largest_float(value: Any) -> float:
    """Return the largest finite absolute value among the floats of a tensor, sequence or map."""
    sizes = [np.abs(_wide(leaf)) for _, leaf in _leaves(value) if is_float(leaf.dtype)]
    return max((float(np.max(s, where=np.isfinite(s), initial=0.0)) for s in sizes), default=0.0)
