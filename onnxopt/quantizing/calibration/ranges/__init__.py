"""How much of a tensor's range is worth its numbers: the methods by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from onnxopt.errors import DataError
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges.entropy import entropy
from onnxopt.quantizing.calibration.ranges.minmax import minmax
from onnxopt.quantizing.calibration.ranges.mse import mse
from onnxopt.quantizing.calibration.ranges.percentile import percentile
from onnxopt.quantizing.spec import Spec, qparams

Method = Literal["minmax", "percentile", "entropy", "mse"]

METHODS: dict[str, Callable[..., tuple[float, float]]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}


def range_of(
    observers: Observer | Sequence[Observer], method: Method, spec: Spec, **options: float
) -> tuple[float, float]:
    """Return the range that `qparams` should cover: low ≤ 0 ≤ high.

    Several observers are those of tensors that share one scale. A tensor of which nothing but
    zeros was seen has the range (0, 0). `options` are those of the method. Raises `DataError`
    where a method needs a histogram and the statistics hold ranges only.
    """
    if spec.fixed is not None:
        return qparams(0.0, 0.0, spec).range
    seen = observers if isinstance(observers, Observer) else _union(observers)
    if not seen.count or not (seen.low or seen.high):
        return 0.0, 0.0
    if method != "minmax" and (seen.histogram is None or seen.hidden):
        raise DataError(
            f"the statistics hold ranges only, and the method {method} needs histograms",
            "take the statistics again, or use the method minmax",
        )
    return METHODS[method](seen, spec, **options)


def _union(observers: Sequence[Observer]) -> Observer:
    together = Observer(histogram=all(seen.histogram is not None for seen in observers))
    for seen in observers:
        together.merge(seen)
    return together
