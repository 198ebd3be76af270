"""Prints what a sum of 64 products of 255 and 127 comes to, and how long a convolution takes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

EXACT = 64 * 255 * 127
_RUNS = 60


def main() -> None:
    """Print one line: the sum, exact or not, and the convolution's times in milliseconds."""
    total = sum_of_products()
    told = "exact" if total == EXACT else f"saturated, {EXACT} is right"
    fp32, int8 = (median_time(convolution(is_int8)) for is_int8 in (False, True))
    print(f"sum {total} ({told}); conv 3x3 64x64, 56x56: fp32 {fp32:.2f} ms, int8 {int8:.2f} ms, "
          f"{fp32 / int8:.2f}x")  # fmt: skip


def sum_of_products() -> int:
    """Return what MatMulInteger makes of rows of 255 and columns of 127."""
    node = helper.make_node("MatMulInteger", ["x", "w"], ["y"])
    weight = numpy_helper.from_array(np.full((64, 16), 127, np.int8), "w")
    model = _model([node], [weight], ("x", TensorProto.UINT8, [8, 64]), TensorProto.INT32)
    (result,) = _session(model).run(None, {"x": np.full((8, 64), 255, np.uint8)})
    return int(result[0, 0])


def convolution(is_int8: bool) -> Any:
    """Return a session with a 3×3 convolution of 64 channels, and its input."""
    generator = np.random.default_rng(0)
    weight = generator.normal(0, 0.05, (64, 64, 3, 3)).astype(np.float32)
    x = generator.normal(0, 1, (1, 64, 56, 56)).astype(np.float32)
    options = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    if not is_int8:
        node = helper.make_node("Conv", ["x", "w"], ["y"], **options)
        tensors = [numpy_helper.from_array(weight, "w")]
        model = _model([node], tensors, ("x", TensorProto.FLOAT, x.shape), TensorProto.FLOAT)
        return _session(model), x
    names = ["x", "sx", "zx", "w", "sw", "zw", "sy", "zy"]
    node = helper.make_node("QLinearConv", names, ["y"], **options)
    arrays = {
        "sx": np.float32(0.03), "zx": np.uint8(128), "w": np.rint(weight / 0.002).astype(np.int8),
        "sw": np.full(64, 0.002, np.float32), "zw": np.zeros(64, np.int8),
        "sy": np.float32(0.05), "zy": np.uint8(128),
    }  # fmt: skip
    tensors = [numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items()]
    model = _model([node], tensors, ("x", TensorProto.UINT8, x.shape), TensorProto.UINT8)
    return _session(model), np.clip(np.rint(x / 0.03) + 128, 0, 255).astype(np.uint8)


def _model(nodes: Any, tensors: Any, source: tuple[str, int, Any], kind: int) -> bytes:
    inputs = [helper.make_tensor_value_info(*source)]
    outputs = [helper.make_tensor_value_info("y", kind, None)]
    graph = helper.make_graph(nodes, "check", inputs, outputs, tensors)
    opset = [helper.make_opsetid("", 17)]
    made: bytes = helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()
    return made


def _session(model: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def median_time(prepared: tuple[Any, Any]) -> float:
    """Return the median time of a run in milliseconds."""
    session, x = prepared
    times = []
    for _ in range(_RUNS):
        start = time.perf_counter()
        session.run(None, {"x": x})
        times.append(time.perf_counter() - start)
    return float(np.median(times) * 1e3)


if __name__ == "__main__":
    main()
