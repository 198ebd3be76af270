"""Initial states of recurrent layers: ONNX starts at zero where none is given.

PyTorch's exporter spells zeros out: Shape, Gather, Concat, ConstantOfShape, and a Slice per layer.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op
from onnxopt.rewrite.rule import Builder, rule

_INITIAL_STATES = (5, 6)
"""Where LSTM, GRU and RNN take the initial hidden state and the initial cell."""

_REARRANGES = frozenset({
    "Expand", "Flatten", "Gather", "Identity", "Neg", "Reshape", "Slice", "Split", "Squeeze",
    "Tile", "Transpose", "Unsqueeze",
})  # fmt: skip
"""Operators that make nothing but zeros of zeros in their first input."""

_STEPS = 8


@rule(
    op.LSTM(bind="node")
    | op.GRU(bind="node")
    | op.RNN(bind="node")
    | op.of("com.microsoft").DynamicQuantizeLSTM(bind="node")
)
def drop_zero_initial_state(new: Builder, node: ir.Node) -> Any:
    """An initial state that is all zeros is left out of LSTM, GRU and RNN."""
    inputs = list(node.inputs)
    places = [place for place in _INITIAL_STATES if place < len(inputs)]
    zeros = [place for place in places if _is_zero(inputs[place], node)]
    if not zeros:
        return None
    for place in zeros:
        inputs[place] = None
    while inputs[-1] is None:
        inputs.pop()
    return new.node(
        node.op_type,
        *inputs,
        domain=node.domain,
        outputs=len(node.outputs),
        **node.attributes,
    )


def _is_zero(value: ir.Value | None, reader: ir.Node) -> bool:
    """Tell whether a value holds nothing but zeros, whatever its shape."""
    for _ in range(_STEPS):
        held = facts.constant(value)
        if held is not None:
            return not held.any()
        node = value.producer() if value is not None else None
        if node is None or node.domain or node.graph is not reader.graph:
            return False
        if node.op_type == "ConstantOfShape":
            filling = node.attributes.get("value")
            return filling is None or not (filling.is_ref() or filling.as_tensor().numpy().any())
        if node.op_type not in _REARRANGES:
            return False
        value = node.inputs[0]
    return False
