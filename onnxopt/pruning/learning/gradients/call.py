"""What an operator is called with, and what it returns: its outputs, and its pullback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

Inputs = Sequence[Array | None]
Pull = Callable[[Inputs], Inputs]
"""Takes the gradients with respect to the outputs (None: nothing reads it), returns those with
respect to the inputs (None: none is known, or none can be)."""
Made = tuple[tuple[Array, ...], Pull]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A node that is computed; its attributes have the defaults of the operator set."""

    node: ir.Node
    opset: int

    def get(self, name: str) -> Any:
        """Return an attribute."""
        return facts.attribute(self.node, name, self.opset)

    def value(self, place: int) -> ir.Value | None:
        """Return the input at a place of the node, or None where there is none."""
        return self.node.inputs[place] if place < len(self.node.inputs) else None


Operator = Callable[[Call, Inputs], Made]


def given(gradients: Inputs) -> Array:
    """Return the gradient with respect to the first output."""
    found = gradients[0]
    assert found is not None
    return found


def needed(inputs: Inputs, place: int) -> Array:
    """Return an input that an operator cannot do without."""
    found = inputs[place]
    assert found is not None
    return found


def optional(inputs: Inputs, place: int) -> Array | None:
    """Return an input that may be absent."""
    return inputs[place] if place < len(inputs) else None


def first_alone(gradient: Array, inputs: Inputs) -> Inputs:
    """Return gradients of which only that with respect to the first input is known."""
    return [gradient, *[None] * (len(inputs) - 1)]


def summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """Return the gradient with respect to what was broadcast from a shape."""
    if gradient.shape == shape:
        return gradient
    more = gradient.ndim - len(shape)
    found = gradient.sum(axis=tuple(range(more))) if more else gradient
    axes = tuple(
        axis
        for axis, (have, want) in enumerate(zip(found.shape, shape, strict=True))
        if have > want
    )
    return np.asarray(found.sum(axis=axes, keepdims=True) if axes else found)
