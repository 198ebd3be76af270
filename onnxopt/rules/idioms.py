"""Constants that belong to an activation or a normalisation, and stay where they are.

A GELU ends in ·½, a HardSwish in ·⅙ or /6, a normalisation in ·γ + β. Our own rules and ONNX
Runtime, when it loads a model, look for these forms as a whole; a linear layer that swallowed the
last constant would save one node and cost the fusion.
"""

from __future__ import annotations

import math

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

_CLAMPS = frozenset({"Clip", "Min", "Max", "Relu"})
_CURVES = frozenset({"Erf", "Tanh", "Add"})
_ROOTS = frozenset({"Sqrt", "Reciprocal", "ReduceL2", "Pow", "Div", "Max", "Clip"})


def ends_idiom(node: ir.Node) -> bool:
    """Tell whether a node with a constant operand may end an activation or a normalisation."""
    return ends_activation(node) or ends_normalization(node)


def ends_activation(node: ir.Node) -> bool:
    """Tell whether a node may be the ·½ of a GELU, or the /6 of a HardSwish or HardSigmoid."""
    above, number = _operand(node), _number(node)
    if above is None or number is None:
        return False
    if math.isclose(number, 0.5, rel_tol=1e-3) and node.op_type == "Mul":
        return above.op_type == "Mul" and _reads(above, _CURVES)
    if math.isclose(number, 6 if node.op_type == "Div" else 1 / 6, rel_tol=1e-2):
        return above.op_type in _CLAMPS or (above.op_type == "Mul" and _reads(above, _CLAMPS))
    return False


def ends_normalization(node: ir.Node) -> bool:
    """Tell whether a node may be the ·γ or the + β behind a division by a standard deviation."""
    above = _operand(node)
    if above is None:
        return False
    if node.op_type in ("Add", "Sub"):
        return above.op_type == "Mul" and ends_normalization(above)
    if _number(node) is not None:
        return False
    if above.op_type == "Div":
        maker = None if above.inputs[1] is None else above.inputs[1].producer()
        return maker is not None and maker.op_type in _ROOTS
    return above.op_type == "Mul" and _reads(above, _ROOTS)


def starts_hard_sigmoid(node: ir.Node) -> bool:
    """Tell whether a node is the x + 3 of clip(x + 3, 0, 6)/6."""
    number = _number(node)
    if number is None or not math.isclose(number, 3, rel_tol=1e-3):
        return False
    clamp = _only_reader(node)
    scale = None if clamp is None or clamp.op_type not in _CLAMPS else _only_reader(clamp)
    return scale is not None and scale.op_type in ("Div", "Mul")


def _number(node: ir.Node) -> float | None:
    """Return the number that is the node's one constant operand."""
    held = [value for value in node.inputs if facts.is_constant(value)]
    number = facts.scalar(held[0]) if len(held) == 1 else None
    return None if number is None else float(number)


def _operand(node: ir.Node) -> ir.Node | None:
    """Return the node that computed the one operand which is no constant."""
    free = [value for value in node.inputs if value is not None and not facts.is_constant(value)]
    above = free[0].producer() if len(free) == 1 else None
    return None if above is None or above.domain else above


def _only_reader(node: ir.Node) -> ir.Node | None:
    value = node.outputs[0]
    return next(iter(value.uses())).node if facts.is_private(value) else None


def _reads(node: ir.Node, op_types: frozenset[str]) -> bool:
    makers = (value.producer() for value in node.inputs if value is not None)
    return any(maker is not None and maker.op_type in op_types for maker in makers)
