"""What any runtime that reads Q/DQ can run as int8: the plain part of what the CPU takes.

Activations are uint8 with a zero point and weights int8 per channel, as onnxruntime on all
processors, OpenVINO and QNN read them; TensorRT wants another form. All nodes are of the standard
domain, in the forms of operator set 13. Operators that few runtimes have in int8, or that need a
scale of their own (Sigmoid, Softmax, Mul, LeakyRelu and rare moves), stay float.
"""

from __future__ import annotations

from dataclasses import replace

from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.placement import cpu
from onnxopt.quantizing.placement.plan import Placement

TARGET = "portable"

_PLAIN = {
    "Conv", "Gemm", "MatMul", "Add", "Concat", "AveragePool", "GlobalAveragePool", "MaxPool",
    "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Resize",
}  # fmt: skip


def place(model: ir.Model) -> Placement:
    """Return the int8 units of a model that runtimes have in common; see `cpu.place`."""
    whole = cpu.place(model)
    rare = {unit.name: unit.op for unit in whole.units if unit.op not in _PLAIN}
    found = whole.only({unit.name for unit in whole.units} - rare.keys())
    why = {name: f"few runtimes have {op} in int8" for name, op in rare.items()}
    return replace(found, target=TARGET, left={**whole.left, **why})
