"""Quantized models are recognized, and float models are not taken for them."""

from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from onnxopt.graph import io
from onnxopt.quantizing.detect import is_quantized

MODELS = Path(__file__).parents[2] / "models"


def model(body, **constants):
    made = parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18, "com.microsoft" : 1, "trt" : 1]> agraph {body}'
    )
    for name, array in constants.items():
        made.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return io.from_proto(made)


SCALE = {"s": np.float32(0.1), "z": np.uint8(3)}
PAIR = "(float[4] x) => (float[4] y) {q = QuantizeLinear(x, s, z) y = DequantizeLinear(q, s, z)}"


@pytest.mark.parametrize("path", sorted(MODELS.glob("*.onnx")), ids=lambda path: path.stem)
def test_float_models_are_not_quantized(path):
    assert is_quantized(io.load(path)) == ""


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (PAIR, "1 DequantizeLinear, 1 QuantizeLinear"),
        (
            """(float[4, 4] x) => (int32[4, 4] y) {
                q, qs, qz = DynamicQuantizeLinear(x)
                y = MatMulInteger(q, w, qz)}""",
            "1 DynamicQuantizeLinear, 1 MatMulInteger",
        ),
        (
            "(uint8[4, 4] x) => (uint8[4, 4] y) {y = QLinearMatMul(x, s, z, w, s, zi, s, z)}",
            "1 QLinearMatMul",
        ),
        (
            """(float[4, 64] x) => (float[4, 64] y) {
                y = com.microsoft.MatMulNBits<K=64, N=64, bits=4, block_size=32>(x, w, s)}""",
            "1 MatMulNBits",
        ),
        (
            """(float[4] x) => (float[4] y) {
                q = trt.TRT_FP8QuantizeLinear(x, s)
                y = trt.TRT_FP8DequantizeLinear(q, s)}""",
            "1 TRT_FP8DequantizeLinear, 1 TRT_FP8QuantizeLinear",
        ),
    ],
)
def test_it_says_what_is_quantized(body, said):
    held = model(body, **SCALE, zi=np.int8(0), w=np.ones((4, 4), np.int8))
    assert is_quantized(held) == said


def test_weights_behind_a_dequantize_are_quantized():
    held = model(
        "(float[4, 4] x) => (float[4, 4] y) {d = DequantizeLinear(w, s) y = MatMul(x, d)}",
        s=np.float32(0.1),
        w=np.ones((4, 4), np.int8),
    )
    assert is_quantized(held) == "1 DequantizeLinear"


def test_weights_that_are_stored_as_integers_and_cast_are_float():
    held = model(
        "(float[4, 4] x) => (float[4, 4] y) {c = Cast<to=1>(w) d = Mul(c, s) y = MatMul(x, d)}",
        s=np.float32(0.1),
        w=np.ones((4, 4), np.int8),
    )
    assert is_quantized(held) == ""


def test_bytes_at_the_edges_are_no_quantization():
    held = model(
        "(uint8[4] x) => (uint8[4] y)"
        " {f = DequantizeLinear(x, s, z) r = Relu(f) y = QuantizeLinear(r, s, z)}",
        **SCALE,
    )
    assert is_quantized(held) == ""


def test_bodies_and_functions_are_looked_at():
    inner = model(PAIR, **SCALE)
    branch = io.to_proto(inner).graph
    del branch.input[:]
    node = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    made = helper.make_model(
        helper.make_graph(
            [node],
            "outer",
            [
                helper.make_tensor_value_info("c", TensorProto.BOOL, []),
                helper.make_tensor_value_info("x", TensorProto.FLOAT, [4]),
            ],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
    )
    assert is_quantized(io.from_proto(made)) == "2 DequantizeLinear, 2 QuantizeLinear"
