"""The operators of ONNX that gradients are known of: computed in numpy, and pulled back through.

Each is a function of a call and its inputs that returns its outputs and its pullback.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.learning.gradients import (
    arithmetic,
    convolving,
    moving,
    normalizing,
    pooling,
    products,
    reducing,
    resizing,
    steps,
)
from onnxopt.pruning.learning.gradients.call import (
    Call,
    Inputs,
    Made,
    Operator,
    Pull,
    first_alone,
    given,
    needed,
    summed,
)
from onnxopt.pruning.learning.gradients.curves import CURVES

__all__ = ["OPERATORS", "Call", "Pull", "compute", "is_known", "moved_by"]


def compute(call: Call, inputs: Inputs) -> Made:
    """Compute a node of which `is_known` is true, and return what pulls gradients back.

    Outputs that nothing reads are None where they are not made.
    """
    made, pull = _operator(call.node.op_type)(call, inputs)
    absent: Any = None
    return (*made, *[absent] * (len(call.node.outputs) - len(made))), pull


def is_known(call: Call) -> bool:
    """Tell whether gradients can be pulled through an operator."""
    kind = call.node.op_type
    known = kind in OPERATORS or kind in CURVES or kind in moving.MOVES
    if not known or call.node.domain not in ("", "ai.onnx"):
        return False
    return kind not in _WHERE or _WHERE[kind](call)


def moved_by(node: ir.Node) -> Sequence[int]:
    """Return the places of the inputs that a gradient goes back to."""
    kind = node.op_type
    if kind in _SOME:
        return _SOME[kind]
    alone = kind in CURVES or (kind in moving.MOVES and kind != "Concat")
    return (0,) if alone else range(len(node.inputs))


def _operator(kind: str) -> Operator:
    if kind in OPERATORS:
        return OPERATORS[kind]
    return _curve if kind in CURVES else _move


def _curve(call: Call, inputs: Inputs) -> Made:
    made, slope = CURVES[call.node.op_type](call.get, inputs)
    shape = needed(inputs, 0).shape

    def pull(gradients: Inputs) -> Inputs:
        return first_alone(summed(given(gradients) * slope(), shape), inputs)

    return (made,), pull


def _move(call: Call, inputs: Inputs) -> Made:
    places = tuple(moved_by(call.node))
    found = moving.move(ir.to_proto(call.node).SerializeToString(), call.opset, inputs, places)
    arrays = [array for place in places if (array := inputs[place]) is not None]

    def pull(gradients: Inputs) -> Inputs:
        pulled = iter(found.pulled(gradients))
        return [
            next(pulled) if place in places and array is not None else None
            for place, array in enumerate(inputs)
        ]

    return found.made(arrays), pull


def _casts_floats(call: Call) -> bool:
    kinds = (ir.DataType.FLOAT16, ir.DataType.FLOAT, ir.DataType.DOUBLE)
    return facts.dtype(call.value(0)) in kinds and call.get("to") in kinds


def _drops_nothing(call: Call) -> bool:
    training = call.value(2)
    return call.opset >= 7 and (training is None or facts.scalar(training) is False)


OPERATORS: dict[str, Operator] = {
    **reducing.OPERATORS,
    **steps.OPERATORS,
    "Add": arithmetic.add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": normalizing.batch_normalization,
    "Cast": arithmetic.same,
    "Conv": convolving.conv,
    "ConvTranspose": convolving.conv_transpose,
    "Div": arithmetic.divide,
    "Dropout": arithmetic.same,
    "Einsum": products.einsum,
    "Gemm": products.gemm,
    "GroupNormalization": normalizing.group_normalization,
    "InstanceNormalization": normalizing.group_normalization,
    "LayerNormalization": normalizing.layer_normalization,
    "LogSoftmax": normalizing.softmax,
    "MatMul": products.matmul,
    "Max": arithmetic.maximum,
    "MaxPool": pooling.max_pool,
    "Mean": arithmetic.mean,
    "Min": arithmetic.minimum,
    "Mul": arithmetic.multiply,
    "PRelu": arithmetic.prelu,
    "RMSNormalization": normalizing.layer_normalization,
    "Resize": resizing.resize,
    "Softmax": normalizing.softmax,
    "Sub": arithmetic.subtract,
    "Sum": arithmetic.add,
    "Where": arithmetic.where,
}
_WHERE: dict[str, Callable[[Call], bool]] = {
    **dict.fromkeys(reducing.REDUCTIONS, reducing.reduces),
    "BatchNormalization": normalizing.reads_statistics,
    "Cast": _casts_floats,
    "Dropout": _drops_nothing,
    "Einsum": products.is_product,
    "Pad": moving.pads_zeros,
    "Resize": resizing.resizes_by_axis,
}
"""What must be true of an operator that is known in some cases only."""
_SOME: dict[str, Sequence[int]] = {
    **dict.fromkeys((*reducing.REDUCTIONS, "Dropout", "Resize"), (0,)),
    **dict.fromkeys(steps.OPERATORS, ()),
    "BatchNormalization": range(3),
    "Where": (1, 2),
}
"""The places that gradients go back to, where these are neither all nor told by the family."""
