"""Finds the integers and the bias of one layer, from what it gets in both models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.quantizing.solution import QuantizedWeight
from onnxopt.quantizing.spec import QParams
from onnxopt.quantizing.sweeping import Layer
from onnxopt.quantizing.weights import gram as grams
from onnxopt.quantizing.weights import rounding
from onnxopt.quantizing.weights.limits import Limits, Plain
from onnxopt.quantizing.weights.matrix import from_rows, to_rows
from onnxopt.quantizing.weights.scales import least_scales
from onnxopt.report import PairSums
from onnxopt.sweep.moments import Moments

LimitsOf = Callable[[Layer, Array], Limits]
"""Gives the limits of a layer, whose weight is a matrix [rows, columns]."""

KEPT_MEAN = 0.1
"""The bias makes up for the mean, on the samples it was found on: a share of it still counts."""


def plain(layer: Layer, rows: Array) -> Limits:
    """Return no limits but those of int8."""
    del layer, rows
    return Plain()


_RIDGES = (0.3,)
"""Others gain a tenth of a dB, and each takes as long."""


@dataclass(kw_only=True)
class Solver:
    """Solves layer after layer; called with each by `walk`.

    `method` is how integers are rounded, `correct` whether biases make up for the mean error.
    `sums` keeps by unit what was mended for the sake of 16-bit sums.
    """

    limits: LimitsOf = plain
    method: rounding.Method = "descent"
    correct: bool = True
    use_samples: bool = True
    sums: dict[str, PairSums] = field(default_factory=dict)

    def __call__(self, layer: Layer) -> tuple[QuantizedWeight | None, Array | None]:
        """Return a layer's integers and its bias; the bias of a MatMul is what is to be added."""
        unit, weight = layer.unit, layer.unit.weight
        assert weight is not None
        array = facts.constant(layer.node.inputs[weight.edge.place])
        assert array is not None
        rows = to_rows(np.asarray(array, np.float32), weight)
        bias = _bias(layer, len(rows))
        limits = self.limits(layer, rows)
        least = (
            None
            if layer.input_params is None
            else least_scales(bias, float(layer.input_params.scale))
        )
        integers, scales = self.integers(layer, rows, limits, least)
        seen = layer.fit.samples + layer.held.samples > 0
        if self.correct and seen:
            made = integers * scales[:, None]
            whole = layer.fit.merged(layer.held)
            bias = bias + _missing(rows, made, whole)
        params = QParams(
            scale=scales, zero_point=np.zeros(len(scales), np.int8), axis=weight.spec.axis
        )
        found = QuantizedWeight(
            integers=from_rows(integers, array.shape, weight).astype(np.int8), params=params
        )
        wanted = (self.correct and seen) or unit.bias is not None
        return found, bias.astype(np.float32) if wanted else None

    def integers(
        self, layer: Layer, rows: Array, limits: Limits, least: Array | None
    ) -> tuple[Array, Array]:
        """Return integers [rows, columns] and scales [rows]."""
        if not self.use_samples or not layer.fit.samples + layer.held.samples:
            found, scales = rounding.integers(rows, limits, None, least=least)
        else:
            found, scales = rounding.fit(
                self.way(layer, rows, limits, least),
                rows,
                limits,
                _second(layer.fit.merged(layer.held)),
                least=least,
            )
        certificate = getattr(limits, "certificate", None)
        if certificate is not None:
            rounded = np.clip(np.rint(rows / scales[:, None]), -127, 127).astype(np.int32)
            self.sums[layer.unit.name] = certificate(rounded, np.asarray(found, np.int32))
        return found, scales

    def way(self, layer: Layer, rows: Array, limits: Limits, least: Array | None) -> rounding.Way:
        """Return how all rows are to be rounded, on all samples."""
        if not layer.fit.samples:
            return rounding.Way(method="nearest", ridge=rounding.RIDGE)
        if self.method == "nearest" or not layer.held.samples:
            return rounding.Way(method=self.method, ridge=rounding.RIDGE)
        fit, held = _second(layer.fit), _second(layer.held)
        return rounding.choose(
            rows, limits, fit, held, method=self.method, ridges=_RIDGES, least=least
        )


def _second(moments: Moments) -> grams.Moments:
    gram, cross = moments.centred(KEPT_MEAN)
    return grams.Moments(gram=gram, off=cross - gram)


def _bias(layer: Layer, rows: int) -> Array:
    edge = layer.unit.bias
    found = None if edge is None else facts.constant(layer.node.inputs[edge.place])
    return np.zeros(rows, np.float32) if found is None else np.asarray(found, np.float32)


def _missing(rows: Array, made: Array, moments: Moments) -> Array:
    """Return the mean of what the float layer makes less what the integers make, [rows]."""
    each = len(rows) // len(moments.mean)
    mean, seen = (np.repeat(line, each, axis=0) for line in (moments.mean, moments.seen))
    return np.asarray((rows * mean - made * seen).sum(axis=1))
