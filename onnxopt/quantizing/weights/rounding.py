"""From a weight's rows to integers and scales: the one entry, and the choice by held-out data.

A Gram matrix of few samples knows its own inputs too well: what is fitted to it may be worse than
nearest rounding on other samples. An input that was hardly ever there is the worst case, since its
integers are then free to go anywhere for the sake of others. `ridge` and `share` (see `shrunk`)
say how far it is believed; `choose` tries several ridges on some rows, and tells what does best on
the Gram matrix of other samples. `fit` then rounds all rows that way.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from onnxopt.arrays import Array
from onnxopt.quantizing.weights.adaround import adaround
from onnxopt.quantizing.weights.descent import descend
from onnxopt.quantizing.weights.gptq import Handing, gptq, handing_on
from onnxopt.quantizing.weights.gram import Moments, full, shrunk, squared, target
from onnxopt.quantizing.weights.limits import Limits
from onnxopt.quantizing.weights.scales import best_scales, nearest

Method = Literal["nearest", "gptq", "descent", "adaround"]
METHODS: tuple[Method, ...] = ("nearest", "gptq", "descent", "adaround")
RIDGE, SHARE = 0.3, 0.1
"""What did best on photographs that calibration had not seen, over the layers of a trained net."""

RIDGES = (0.03, 0.3, 3.0)
_DAMPENING = 1e-3
"""The ridge is in the Gram matrix already: this one only keeps its factor regular."""

_TRIED, _LARGE = 128, 5e8
"""Rows of each group that ways of rounding are tried with, in layers of which a product with the
Gram matrix takes so many multiplications; in others all rows are."""


class Believed:
    """A Gram matrix in any of its forms (see `gram.py`), as far as `ridge` and `share` believe it.

    What is found of it once serves all rows.
    """

    def __init__(self, gram: Array, *, ridge: float = RIDGE, share: float = SHARE) -> None:
        self.gram = shrunk(gram, share, ridge)

    @cached_property
    def handing(self) -> Handing:
        """How the error of one column is handed on to others."""
        return handing_on(full(self.gram, self.gram.shape[-1]), _DAMPENING)


def integers(
    rows: Array,
    limits: Limits,
    believed: Believed | None = None,
    method: Method = "nearest",
    *,
    least: Array | None = None,
) -> tuple[Array, Array]:
    """Return a weight's integers, int8 [rows, columns], and its scales, float32 [rows].

    Under what is `believed` of E[x xᵀ] no row comes out worse than nearest rounding leaves it.
    "descent" starts from what "gptq" or rounding finds, "adaround" ends with it. `least` is as in
    `best_scales`.
    """
    gram = None if believed is None else believed.gram
    scales = best_scales(rows, limits, gram, least=least)
    start = nearest(rows, scales, limits)
    if method == "nearest" or believed is None or gram is None:
        return start.astype(np.int8), scales
    if method == "adaround":
        found = adaround(rows, scales, limits, gram)
    else:
        found = gptq(rows, scales, limits, gram, handing=believed.handing)
    before, after = (squared(rows - whole * scales[:, None], gram) for whole in (start, found))
    found = np.where((after > before)[:, None], start, found)
    if method != "gptq":
        found, scales = descend(rows, found, scales, limits, gram, least=least)
    return found.astype(np.int8), scales


@dataclass(frozen=True, kw_only=True)
class Way:
    """A way of rounding, and what it came to on held-out samples.

    `ridge` is None where the samples are of no use. `aimed` tells that the rows make up for what
    the layers in front have lost. `lost` is what `Moments.lost` says of the rows that it was tried
    with, `nearest` what it says of rounding that knows of no samples.
    """

    method: Method
    ridge: float | None
    aimed: bool = False
    lost: float = 0.0
    nearest: float = 0.0


def choose(
    rows: Array,
    limits: Limits,
    seen: Moments,
    held: Moments,
    *,
    method: Method = "descent",
    ridges: tuple[float, ...] = RIDGES,
    least: Array | None = None,
) -> Way:
    """Fit some rows of a weight to `seen` in several ways; return what loses least on `held`.

    The two are of different samples (photographs, sentences: not positions of one), with Gram
    matrices of the same form. Where they tell the float model's input too, its output is the aim,
    and rows that depart from the weight are among the candidates. So is nearest rounding that
    knows of no samples: it stays where nothing is better.
    """
    few = _spread(rows, seen)
    some, bound = rows[few], None if least is None else least[few]
    ways = [Way(method="nearest", ridge=None), Way(method="nearest", ridge=max(ridges))]
    for aimed in (False, True) if seen.off is not None else (False,):
        ways += [Way(method=method, ridge=ridge, aimed=aimed) for ridge in ridges]
    beliefs: dict[float | None, Believed | None] = {None: None}
    beliefs |= {ridge: Believed(seen.gram, ridge=ridge) for ridge in ridges}
    lost = []
    for way in ways:
        aim = aimed_at(some, seen, way)
        found, scales = integers(aim, limits, beliefs[way.ridge], way.method, least=bound)
        lost.append(float(held.lost(some, found * scales[:, None]).sum(dtype=np.float64)))
    best = int(np.argmin(lost))
    return replace(ways[best], lost=lost[best], nearest=lost[0])


def fit(
    way: Way, rows: Array, limits: Limits, seen: Moments, *, least: Array | None = None
) -> tuple[Array, Array]:
    """Return integers and scales, as `integers` does, of all rows in the way that was chosen."""
    believed = None if way.ridge is None else Believed(seen.gram, ridge=way.ridge)
    return integers(aimed_at(rows, seen, way), limits, believed, way.method, least=least)


def aimed_at(rows: Array, seen: Moments, way: Way) -> Array:
    """Return what is to be rounded: the rows, or what makes up for the layers in front."""
    return target(rows, seen, way.ridge) if way.aimed and way.ridge is not None else rows


def _spread(rows: Array, seen: Moments) -> Array:
    """Return the places of the rows to try with: of large layers some of each group, spread."""
    if len(rows) * rows.shape[1] ** 2 <= _LARGE:
        return np.arange(len(rows))
    groups = len(seen.gram) if seen.gram.ndim == 3 else 1
    places = np.arange(len(rows)).reshape(groups, -1)
    each = places.shape[1]
    few = np.unique(np.linspace(0, each - 1, min(each, _TRIED)).astype(int))
    return np.asarray(places[:, few].reshape(-1))
