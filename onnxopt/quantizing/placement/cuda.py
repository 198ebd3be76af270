"""Why nothing is placed for onnxruntime's CUDA provider: it has no int8 kernels to place it on.

Its registrations (`cuda_execution_provider.cc`, `cuda_contrib_kernels.cc`, as of 1.2x) have
QuantizeLinear and DequantizeLinear, as elementwise nodes, and MatMulInteger of int8 by int8, whose
partner DynamicQuantizeLinear is not there. There is no QLinearConv, QLinearMatMul or any other
QLinear operator, and nothing fuses Q/DQ: a model with pairs computes in float and converts all the
time, or goes over to the CPU node by node (microsoft/onnxruntime#7745, #12229, #24807). QAttention
and the QOrdered operators are for one shape of transformer each; MatMulNBits has integer weights
and float arithmetic. The int8 of NVIDIA's cards is reached through TensorRT.
"""

from __future__ import annotations

from onnxopt.errors import OnnxOptError
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.placement.plan import Placement


def place(model: ir.Model) -> Placement:
    """Raise `OnnxOptError`: on this target int8 could only be slower."""
    del model
    raise OnnxOptError(
        "onnxruntime's CUDA provider has no int8 kernels: Q/DQ would make the model slower",
        "use --target tensorrt, which runs int8 on NVIDIA GPUs, or optimize --target cuda",
    )
