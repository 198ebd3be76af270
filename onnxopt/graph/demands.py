"""What readers demand of a value: in a run that succeeds it has the rank that they take.

A recurrent layer takes three dimensions, Transpose as many as it permutes, and so on backwards
through what keeps or shifts the rank. Only readers in the graph that computes the value count: they
run whenever it is computed. Where a demand is not met, runtimes stop with an error.
"""

from __future__ import annotations

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

_DEPTH = 8
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})
_OF_RANK_3 = (0, 5, 6)  # X, initial_h, initial_c
_CONVOLUTIONS = frozenset({"Conv", "ConvTranspose"})
_KEEP_RANK = frozenset(
    {
        *("Identity", "Cast", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Neg", "Abs", "Sqrt", "Exp"),
        *("Log", "Erf", "Clip", "Softmax", "LogSoftmax", "Gelu", "HardSwish", "HardSigmoid"),
    }
)


def rank(value: ir.Value, opset: int, depth: int = _DEPTH) -> int | None:
    """Return the rank that what reads a value takes, or None where nothing is demanded."""
    maker = value.producer()
    if maker is None or depth == 0:
        return None
    for reader, index in facts.uses(value):
        if reader.graph is maker.graph and not reader.domain:
            found = _taken(reader, index, opset, depth)
            if found is not None:
                return found
    return None


def _taken(reader: ir.Node, index: int, opset: int, depth: int) -> int | None:
    """Return the rank that one reader takes at one of its inputs."""
    kind = reader.op_type
    if kind in _RECURRENT:
        return 3 if index in _OF_RANK_3 else None
    if kind in _CONVOLUTIONS:
        return facts.rank(reader.inputs[1]) if index == 0 else None
    if index != 0:
        return None
    if kind == "Transpose" and "perm" in reader.attributes:
        order = facts.attribute(reader, "perm", opset)
        return None if order is None else len(order)
    if kind in _KEEP_RANK:
        return rank(reader.outputs[0], opset, depth - 1)
    if kind in ("Squeeze", "Unsqueeze"):
        axes = facts.axes(reader, opset)
        after = rank(reader.outputs[0], opset, depth - 1)
        if not axes or after is None:
            return None
        return after + len(axes) if kind == "Squeeze" else after - len(axes)
    return None
