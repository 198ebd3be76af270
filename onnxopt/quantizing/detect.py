"""Finds out whether a model is quantized already: then there is nothing left to be done to it.

It is quantized when integers take part in its arithmetic, or when Q/DQ nodes tell a runtime to let
them. What merely stores weights as integers, and makes them float again with Cast and Mul, is a
float model in a small file: no runtime computes that in int8, and it gains as any other does.
"""

from __future__ import annotations

from collections import Counter

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

_STANDARD = frozenset({
    "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "DynamicQuantizeLinear",
})  # fmt: skip
# Of onnxruntime, OpenVINO and QONNX; their other operators have names that begin so.
_CONTRIBUTED = frozenset({
    "MatMulNBits", "MatMulBnb4", "MatMulFpQ4", "MatMulIntegerToFloat", "GatherBlockQuantized",
    "QAttention", "QEmbedLayerNormalization", "QGemm", "QMoE", "FakeQuantize", "Quant",
    "BipolarQuant",
})  # fmt: skip
_BEGINNINGS = ("QLinear", "QOrdered", "DynamicQuantize", "NhwcQLinear")
_ENDINGS = ("DequantizeLinear", "QuantizeLinear")


def is_quantized(model: ir.Model) -> str:
    """Say which quantized operators a model has and how many, or nothing where it has none.

    A conversion at the very edge of the model (an input of bytes that becomes float, an output
    that becomes bytes) does not count. Nested graphs and functions are looked at.
    """
    found: Counter[str] = Counter()
    for graph, _ in facts.scopes(model):
        for node in graph:
            if computes_with_integers(node) or (_is_conversion(node) and not _at_the_edge(node)):
                found[node.op_type] += 1
    return ", ".join(f"{count} {name}" for name, count in sorted(found.items()))


def computes_with_integers(node: ir.Node) -> bool:
    """Tell whether an operator computes with integers that stand for real numbers."""
    if not node.domain:
        return node.op_type in _STANDARD
    return node.op_type in _CONTRIBUTED or node.op_type.startswith(_BEGINNINGS)


def _is_conversion(node: ir.Node) -> bool:
    return node.op_type.endswith(_ENDINGS)


def _at_the_edge(node: ir.Node) -> bool:
    """Tell whether a conversion only gives the caller bytes, or takes them."""
    value, made = node.inputs[0], node.outputs[0]
    if node.op_type.endswith("DequantizeLinear"):
        return value is not None and value.is_graph_input()
    return made.is_graph_output() and not facts.uses(made)
