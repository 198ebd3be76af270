"""From a weight's rows to integers and scales: the one entry, and the choice by held-out data.

A Gram matrix of few samples knows its own inputs too well: what is fitted to it may be worse than
nearest rounding on other samples. An input that was hardly ever there is the worst case, since its
integers are then free to go anywhere for the sake of others. `ridge` and `share` (see `shrunk`)
say how far it is believed; `choose` tries several ridges and keeps what does best on the Gram
matrix of other samples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.weights.adaround import adaround
from onnxopt.quantizing.weights.descent import descend
from onnxopt.quantizing.weights.gptq import gptq
from onnxopt.quantizing.weights.gram import Moments, shrunk, squared, target
from onnxopt.quantizing.weights.limits import Limits
from onnxopt.quantizing.weights.scales import best_scales, bounded, nearest

Method = Literal["nearest", "gptq", "descent", "adaround"]
METHODS: tuple[Method, ...] = ("nearest", "gptq", "descent", "adaround")
RIDGE, SHARE = 0.3, 0.1
"""What did best on photographs that calibration had not seen, over the layers of a trained net."""

RIDGES = (0.03, 0.3, 3.0)
_AROUND = (1.0, 0.95, 1.05)


def integers(
    rows: Array,
    limits: Limits,
    gram: Array | None = None,
    method: Method = "nearest",
    *,
    ridge: float = RIDGE,
    share: float = SHARE,
    least: Array | None = None,
    shared: bool = False,
    starts: int = 1,
) -> tuple[Array, Array]:
    """Return a weight's integers, int8 [rows, columns], and its scales, float32 [rows].

    `gram` is E[x xᵀ] in any of its forms (see `gram.py`), believed as far as `ridge` and `share`
    say; under what is left of it no row comes out worse than nearest rounding leaves it.
    "descent" starts from what "gptq" or rounding finds, "adaround" ends with it. Up to three
    `starts` try other scales too, and take that much longer. `least` and `shared` are as in
    `best_scales`.
    """
    if gram is not None:
        gram = shrunk(gram, share, ridge)
    scales = best_scales(rows, limits, gram, least=least, shared=shared)
    found = nearest(rows, scales, limits)
    best = squared(rows - found * scales[:, None], gram)
    if method == "nearest" or gram is None:
        return found.astype(np.int8), scales
    first = scales
    for factor in _AROUND[:starts]:
        step = bounded(first * np.float32(factor), least, shared=shared)
        fitted, step = _fitted(rows, limits, gram, method, step, least=least, shared=shared)
        lost = squared(rows - fitted * step[:, None], gram)
        better = np.full(len(rows), lost.sum() < best.sum()) if shared else lost < best
        found = np.where(better[:, None], fitted, found)
        scales, best = np.where(better, step, scales), np.where(better, lost, best)
    return found.astype(np.int8), scales


def _fitted(
    rows: Array,
    limits: Limits,
    gram: Array,
    method: Method,
    scales: Array,
    *,
    least: Array | None,
    shared: bool,
) -> tuple[Array, Array]:
    if method == "adaround":
        found = adaround(rows, scales, limits, gram)
    else:
        # The ridge is in the Gram matrix already: this one only keeps the factor regular.
        found = gptq(rows, scales, limits, gram, dampening=1e-3)
    if method == "gptq":
        return found, scales
    start = nearest(rows, scales, limits)
    behind = squared(rows - found * scales[:, None], gram) > squared(
        rows - start * scales[:, None], gram
    )
    found = np.where(behind[:, None], start, found)
    return descend(rows, found, scales, limits, gram, least=least, shared=shared)


@dataclass(frozen=True, kw_only=True, eq=False)
class Choice:
    """What did best on held-out samples, and how it was found.

    `integers` int8 [rows, columns] and `scales` float32 [rows]. `lost` is what `Moments.lost`
    says of all rows on the held-out samples, `nearest` what it says of rounding that knows of no
    samples. `ridge` is None where the samples were of no use. `aimed` tells that the rows make up
    for what the layers in front have lost.
    """

    integers: Array
    scales: Array
    method: Method
    ridge: float | None
    aimed: bool
    lost: float
    nearest: float


def choose(
    rows: Array,
    limits: Limits,
    seen: Moments,
    held: Moments,
    *,
    method: Method = "descent",
    ridges: tuple[float, ...] = RIDGES,
    share: float = SHARE,
    least: Array | None = None,
    shared: bool = False,
    starts: int = 1,
) -> Choice:
    """Fit a weight to `seen` in several ways, and return what loses least on `held`.

    The two are of different samples (photographs, sentences: not positions of one), with Gram
    matrices of the same form. Where they tell the float model's input too, its output is the aim,
    and rows that depart from the weight are among the candidates. So is nearest rounding that
    knows of no samples: it stays where nothing is better.
    """

    def fit(how: Method, ridge: float | None, *, aimed: bool = False) -> Choice:
        aim, gram = rows, None if ridge is None else seen.gram
        if aimed and ridge is not None:
            aim = target(rows, seen, ridge)
        found, scales = integers(
            aim,
            limits,
            gram,
            how,
            ridge=ridge or 0.0,
            share=share,
            least=least,
            shared=shared,
            starts=starts,
        )
        lost = float(held.lost(rows, found * scales[:, None]).sum(dtype=np.float64))
        return Choice(
            integers=found,
            scales=scales,
            method=how,
            ridge=ridge,
            aimed=aimed,
            lost=lost,
            nearest=lost,
        )

    tries = [fit("nearest", None), fit("nearest", max(ridges))]
    tries += [fit(method, ridge) for ridge in ridges]
    if seen.off is not None:
        tries += [fit(method, ridge, aimed=True) for ridge in ridges]
    best = min(tries, key=lambda choice: choice.lost)
    return replace(best, nearest=tries[0].lost)
