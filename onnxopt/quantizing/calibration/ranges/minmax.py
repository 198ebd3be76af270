"""The range that was seen, all of it."""

from __future__ import annotations

from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.spec import Spec


def minmax(observer: Observer, spec: Spec) -> tuple[float, float]:
    """Return the least and the greatest number seen, and 0 between them.

    Jacob et al. 2018, arXiv:1712.05877, without their moving average: nothing is clipped.
    """
    low, high = min(observer.low, 0.0), max(observer.high, 0.0)
    return (min(low, -high), max(high, -low)) if spec.symmetric else (low, high)
