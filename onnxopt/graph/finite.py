"""Finds weights that hold NaN or infinity: kept as they are, but their owner should know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedTensor

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE)


def not_finite(model: ir.Model) -> list[str]:
    """Return the names of the initializers that hold NaN or infinity; a single -∞ masks, as it may.

    A sum tells in one pass whether all its terms are finite, unless it overflows by itself: only
    then every element is looked at. Weights that lie in a file do not stay in memory.
    """
    found = []
    with np.errstate(all="ignore"):
        for graph, _ in facts.scopes(model):
            for value in graph.initializers.values():
                held = value.const_value
                weights = held is not None and held.size > 1 and held.dtype in _FLOATS
                if held is not None and weights and _suspicious(held):
                    found.append(value.name or "")
    return found


def _suspicious(held: ir.TensorProtocol) -> bool:
    for piece in _pieces(held):
        finite = bool(np.isfinite(np.add.reduce(piece, axis=None)))
        if not finite and not bool(np.isfinite(piece).all()):
            return True
    return False


def _pieces(held: ir.TensorProtocol) -> Iterator[np.ndarray[Any, Any]]:
    """Yield the numbers of a tensor; those that lie in a file come piece by piece."""
    if isinstance(held, MappedTensor):
        little = held.dtype.numpy().newbyteorder("<")
        for chunk in held.chunks():
            yield np.frombuffer(chunk, little)
    else:
        yield held.numpy()
