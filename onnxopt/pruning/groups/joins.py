"""Elementwise operators: places that meet go together, whatever is computed of them.

What a removed unit becomes does not matter, nor what f(0) is: its readers are masked. Of operands
that are broadcast only the axes matter along which they have more than one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.walk import Step
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim
from onnxopt.pruning.groups.units import Meeting, Reason, Units, because, size_along, varying

_UNARY = (
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu",
    "Cos", "Cosh", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg", "Not", "Reciprocal", "Relu",
    "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
    "Swish", "Tan", "Tanh", "ThresholdedRelu",
)  # fmt: skip
_JOINING = (
    "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Clip", "Div", "Equal",
    "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or",
    "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
)  # fmt: skip


class Part(NamedTuple):
    """An operand: its labels, its sizes where it is broadcast, and which input it comes from."""

    labels: Array
    sizes: tuple[Dim, ...] | None
    place: int


def joined(walk: Units, node: ir.Node, parts: Sequence[Part]) -> Array:
    """Tie operands that are broadcast together; return the labels of what comes of them.

    Constants are cut along.
    """
    active = [part for part in parts if not facts.is_constant(node.inputs[part.place])]
    differ = [part for part in active if varying(part.labels)]
    if not differ:
        return np.full((), 0)
    bearer = max(differ, key=lambda part: len(varying(part.labels)))
    result, axes = bearer.labels, varying(bearer.labels)
    for part in active:
        if part is not bearer:
            result = _met(walk, node, result, axes, part)
    for part in parts:
        if facts.is_constant(node.inputs[part.place]):
            walk.cut(node, part.place, result, "follows")
    return result


def _met(walk: Units, node: ir.Node, result: Array, axes: Sequence[int], part: Part) -> Array:
    """Tie one more operand to a result whose labels differ along some axes."""
    labels = part.labels
    more = [axis for axis in varying(labels) if axis not in axes]
    two = because(node, f"{node.op_type} spreads these channels over two axes")
    labels = walk.flat(labels, more, two)
    why = walk.keeps(node.inputs[part.place], node)
    if varying(labels):
        walk.tie(result, labels, why)
        return result
    whole = [size_along(part.sizes, axis) != 1 for axis in axes]
    if all(whole):
        walk.stay(result, why)
    elif any(whole):
        sizes = tuple(size_along(part.sizes, axis - result.ndim) for axis in range(result.ndim))
        walk.meetings.append(Meeting(Reason(result, why), sizes))
    return result


def part_of(walk: Units, node: ir.Node, place: int) -> Part:
    """Return an operand as it is."""
    return Part(walk.read(node, place), facts.shape(node.inputs[place]), place)


def _join(walk: Units, node: ir.Node) -> bool:
    places = [place for place, value in enumerate(node.inputs) if value is not None]
    made = joined(walk, node, [part_of(walk, node, place) for place in places])
    walk.write(node.outputs[0], made)
    for place in places:
        source = node.inputs[place]
        if not made.any() and source in walk.origins:
            walk.origins.setdefault(node.outputs[0], walk.origins[source])
    return True


def _unary(walk: Units, node: ir.Node) -> bool:
    walk.hand_on(node)
    return True


STEPS: dict[str, Step[Units]] = {
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_JOINING, _join),
}
