"""Holds int8 models against the float one on samples that calibration has not seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import DataError
from onnxopt.report import Comparison, OutputQuality
from onnxopt.runtime.comparing.metrics import Limits, Tally
from onnxopt.runtime.sessions.session import open_session, run

Feed = Mapping[str, Any]
EXACT = {"session.x64quantprecision": "1"}
"""Kernels that add in 32 bits on every processor: what certified weights come to anyway."""

_MOST_CLASSES = 100_000
_SURE = 0.5
_FEWEST, _ERRORS = 8, 3.0
"""Samples, and standard errors of their mean, by which a model is known to be worse."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quality:
    """How near a model comes to the float one.

    `noise` is the error's energy over the output's, a mean over the float outputs; `samples` the
    same for each sample, [samples].
    """

    noise: float
    samples: Array
    outputs: tuple[OutputQuality, ...] = ()
    comparison: Comparison | None = None

    @property
    def sqnr_db(self) -> float:
        """SQNR in dB, infinite for equal outputs."""
        return decibel(self.noise)


def decibel(noise: float) -> float:
    """Return the SQNR in dB of noise over signal."""
    return math.inf if noise <= 0 else -10 * math.log10(noise)


class Judge:
    """Keeps what the float model makes of some feeds, and judges others by it.

    With `exact` no kernel saturates on this processor.
    """

    def __init__(
        self, model: Path | str | bytes, feeds: Iterable[Feed], *, exact: bool = True
    ) -> None:
        session = open_session(model)
        self.exact = exact
        self.feeds = [dict(feed) for feed in feeds]
        self.names = tuple(output.name for output in session.get_outputs())
        self.wanted = [run(session, feed) for feed in self.feeds]
        self._check()
        self.judged = [place for place in range(len(self.names)) if self._is_float(place)]

    def _check(self) -> None:
        """Raise `DataError` where the float model itself makes no numbers."""
        for number, outputs in enumerate(self.wanted):
            for name, array in zip(self.names, outputs, strict=True):
                floats = isinstance(array, np.ndarray) and array.dtype.kind == "f"
                if floats and np.isnan(array).any():
                    raise DataError(
                        f"the model itself makes NaN: output {name!r}, held-out sample {number}",
                        "leave that sample out, or mend the model",
                    )

    def _is_float(self, place: int) -> bool:
        return all(
            isinstance(outputs[place], np.ndarray) and outputs[place].dtype.kind == "f"
            for outputs in self.wanted
        )

    def judge(self, model: Path | str | bytes) -> Quality:
        """Run a model on the same feeds."""
        session = open_session(model, config=EXACT if self.exact else None)
        return self.compare(run(session, feed, self.names) for feed in self.feeds)

    def noise(self, model: Path | str | bytes, at_most: float = math.inf) -> float:
        """Return the noise of a model, or about that much once it is surely above `at_most`.

        It is where the first samples alone come to more, or are above their shares of it by some
        standard errors: what is far off is known by a few.
        """
        session = open_session(model, config=EXACT if self.exact else None)
        whole = self._energies.sum(axis=1)
        lost, seen, found, above = np.zeros(len(whole)), np.zeros(len(whole)), 0.0, []
        for feed, wanted, energy in zip(self.feeds, self.wanted, self._energies.T, strict=True):
            outputs = run(session, feed, self.names)
            more = np.array([_lost(wanted[place], outputs[place]) for place in self.judged])
            lost, seen = lost + more, seen + energy
            found = _mean(_ratios(lost, whole))
            if found > at_most:
                return _mean(_ratios(lost, seen))
            if math.isfinite(at_most):
                above.append(_mean(_ratios(more, whole)) - at_most * _mean(_ratios(energy, whole)))
                if _is_positive(above):
                    return at_most + len(self.feeds) * float(np.mean(above))
        return found

    @cached_property
    def _energies(self) -> Array:
        """The sums of the squares of the float outputs, [judged outputs, feeds]."""
        energies = [
            [float(np.square(np.asarray(made[place], np.float64)).sum()) for made in self.wanted]
            for place in self.judged
        ]
        return np.array(energies).reshape(len(self.judged), len(self.feeds))

    def compare(self, found: Iterable[Sequence[Any]]) -> Quality:
        """Hold outputs, in the order of the feeds, against those of the float model."""
        lost = np.zeros((len(self.judged), len(self.feeds)))
        kept = np.zeros_like(lost)
        alike: list[list[tuple[float, bool]]] = [[] for _ in self.judged]
        tallies = [Tally(name, limits=Limits(min_sqnr=-math.inf)) for name in self.names]
        for sample, outputs in enumerate(found):
            for tally, want, got in zip(tallies, self.wanted[sample], outputs, strict=True):
                tally.see(want, got, f"sample {sample}")
            for row, place in enumerate(self.judged):
                want = np.asarray(self.wanted[sample][place], np.float64)
                got = np.asarray(outputs[place], np.float64)
                if want.shape != got.shape or not np.isfinite(got).all():
                    lost[row, sample], kept[row, sample] = math.inf, 1.0
                    continue
                lost[row, sample] = np.square(want - got).sum()
                kept[row, sample] = np.square(want).sum()
                alike[row].extend(_classes(want, got))
        each = _ratios(lost, kept)
        whole = _ratios(lost.sum(axis=1), kept.sum(axis=1))
        told = [
            _told(self.names[place], each[row], alike[row]) for row, place in enumerate(self.judged)
        ]
        return Quality(
            noise=float(whole.mean()) if len(whole) else 0.0,
            samples=each.mean(axis=0) if len(whole) else np.zeros(len(self.feeds)),
            outputs=tuple(told),
            comparison=Comparison(
                passed=True,
                verified=True,
                noise_floor=0.0,
                outputs=tuple(tally.result() for tally in tallies),
                feeds=len(self.feeds),
            ),
        )


def predictor(model: Path) -> Callable[[Feed], dict[str, Any]]:
    """Return a function that runs a model: feed to outputs by name."""
    session = open_session(model)
    names = [output.name for output in session.get_outputs()]

    def predict(feed: Feed) -> dict[str, Any]:
        return dict(zip(names, run(session, feed), strict=True))

    return predict


def _ratios(lost: Array, kept: Array) -> Array:
    """Return noise over signal; 0 where nothing is lost, infinite where something is of nothing."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(lost == 0, 0.0, np.where(kept > 0, lost / kept, math.inf))


def _mean(ratios: Array) -> float:
    """Return the mean over outputs; nothing is lost where there are none."""
    return float(ratios.mean()) if len(ratios) else 0.0


def _is_positive(found: Sequence[float]) -> bool:
    """Tell whether the mean of what numbers are drawn from is surely above nothing."""
    if len(found) < _FEWEST:
        return False
    error = float(np.std(found, ddof=1)) / math.sqrt(len(found))
    return float(np.mean(found)) > _ERRORS * error


def _lost(want: Any, got: Any) -> float:
    """Return the energy of an error; infinite for what is no finite number, or of another shape."""
    left, right = np.asarray(want, np.float64), np.asarray(got, np.float64)
    if left.shape != right.shape or not np.isfinite(right).all():
        return math.inf
    return float(np.square(left - right).sum())


def _classes(want: Array, got: Array) -> list[tuple[float, bool]]:
    """Return margin and agreement for each row of what looks like scores of classes."""
    if want.ndim != 2 or not 2 <= want.shape[1] <= _MOST_CLASSES:
        return []
    shares = want
    if want.min() < 0 or not np.allclose(want.sum(axis=1), 1, atol=1e-2):
        shares = np.exp(want - want.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
    best = np.partition(shares, -2, axis=1)
    margins = best[:, -1] - best[:, -2]
    same = want.argmax(axis=1) == got.argmax(axis=1)
    return [(float(margin), bool(equal)) for margin, equal in zip(margins, same, strict=True)]


def _high(noise: Array) -> float:
    """Return the 95th percentile; the median of infinities is no number to numpy."""
    return float(np.percentile(noise, 95, method="higher"))


def _told(name: str, noise: Array, alike: list[tuple[float, bool]]) -> OutputQuality:
    sure = [equal for margin, equal in alike if margin > _SURE]
    return OutputQuality(
        name=name,
        samples=len(noise),
        sqnr_p5_db=decibel(_high(noise)) if len(noise) else math.inf,
        worst_sample=int(noise.argmax()) if len(noise) else None,
        agreement=float(np.mean([equal for _, equal in alike])) if alike else None,
        sure=len(sure) if alike else None,
        sure_agreement=float(np.mean(sure)) if sure else None,
    )
