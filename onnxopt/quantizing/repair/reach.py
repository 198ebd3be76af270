"""How far the channels of a tensor go at most: what decides whether a clamp behind can matter.

A layer whose input lies in [l, h] writes at most b + Σ max(w·l, w·h), with 0 in the interval
because borders are padded with it.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.repair.walk import Scaling

_CLOSE = 1e-6
"""What comes so near to a clamp, relatively, has reached it."""


def reach(walk: Scaling, node: ir.Node, low: float, high: float) -> tuple[Array, Array]:
    """Return the least and largest number that a Clip between two bounds may be given.

    Both have the shape of the labels of its input; infinite where nothing is known.
    """
    value = node.inputs[0]
    assert value is not None
    shape = walk.read(node, 0).shape
    least, most = np.full(shape, -np.inf), np.full(shape, np.inf)
    known = [_proven(walk, value), _observed(walk, value, -np.inf, np.inf)]
    known.append(_observed(walk, node.outputs[0], low, high))
    for found in known:
        if found is not None and found[0].size == least.size:
            least = np.maximum(least, found[0].reshape(shape))
            most = np.minimum(most, found[1].reshape(shape))
    return least, most


def _observed(
    walk: Scaling, value: ir.Value, low: float, high: float
) -> tuple[Array, Array] | None:
    """Return what was seen, with a margin, where it stays clear of the bounds."""
    seen = walk.observed.get(value.name or "")
    if seen is None:
        return None
    least, most = (np.asarray(part, np.float64) for part in seen)
    least = np.where((least <= low * (1 - _CLOSE)) & (low < 0), -np.inf, least * walk.margin)
    return least, np.where((most >= high * (1 - _CLOSE)) & (high > 0), np.inf, most * walk.margin)


def _proven(walk: Scaling, value: ir.Value) -> tuple[Array, Array] | None:
    """Return what a layer can write at most, by its weights and the bounds of what it reads."""
    node = value.producer()
    if node is None or node.domain or node.op_type != "Conv" or node.inputs[0] is None:
        return None
    weight, bounds = facts.constant(node.inputs[1]), walk.bounds.get(node.inputs[0])
    bias = facts.constant(node.inputs[2]) if len(node.inputs) > 2 else np.zeros(1)
    if weight is None or bounds is None or bias is None:
        return None
    low, high = min(bounds[0], 0.0), max(bounds[1], 0.0)
    axes = tuple(range(1, weight.ndim))
    rises = np.maximum(weight, 0).sum(axes, dtype=np.float64)
    falls = np.minimum(weight, 0).sum(axes, dtype=np.float64)
    return bias + rises * low + falls * high, bias + rises * high + falls * low
