"""A model for TensorRT is held against its rules where TensorRT is not at hand."""

import pytest

from onnxopt.graph import io
from onnxopt.quantizing.audit import audit
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.placement.table import placement_for
from tests.quantizing.audit.written import WEIGHT, of, pair, written
from tests.quantizing.small import pictures, solved, tokens


def made(model, target):
    insert(model, solved(model, placement_for(target, model)))
    return audit(io.to_proto(model).SerializeToString(), "tensorrt")


@pytest.mark.parametrize("model", [pictures, tokens])
def test_what_is_placed_for_it_has_no_fault(model):
    result = made(model(), "tensorrt")
    assert result.engine == "TensorRT"
    assert "not loaded" in result.reason
    assert (result.left_over, result.faults) == (0, 0)
    assert result.fused == len(result.entries)


def test_every_int8_operator_is_counted():
    assert made(pictures(), "tensorrt").kernels == {"Conv": 3, "Gemm": 1}


def test_a_model_for_the_cpu_has_faults_here():
    result = made(pictures(), "cpu")
    reasons = " ".join(entry.reason for entry in result.entries)
    assert "no uint8" in reasons
    assert "biases in float" in reasons
    assert "both inputs of Add" in reasons


ZERO = {"z": WEIGHT["wz"][0], **WEIGHT}
CONV = f"{pair('x')} wd = DequantizeLinear<axis=0>(w, ws, wz) c = Conv(x_d, wd)"


def reason(body, tensor, **constants):
    text = f"(float[1,4,8,8] x) => (float[1,4,8,8] y) {{ {body} }}"
    model = written(text, **{**ZERO, **constants})
    return of(audit(model.SerializeToString(), "tensorrt"), tensor).reason


def test_pairs_that_break_a_fusion_are_faults():
    assert "cuts Conv 'n3' off from Relu" in reason(f"{CONV} {pair('c')} y = Relu(c_d)", "c")
    assert "Tanh 'n6' runs in float" in reason(f"{CONV} {pair('c')} y = Tanh(c_d)", "c")
    both = f"{CONV} {pair('c')} y = Add(c_d, x_d)"
    assert "both inputs of Add" in reason(both, "c")
    assert reason(f"{CONV} y = Add(c, x_d)", "x") == ""
    attention = f"{pair('x')} y = MatMul(x_d, x_d)"
    assert "fused attention" in reason(attention, "x")


def test_weights_beside_float_are_faults():
    body = "wd = DequantizeLinear<axis=0>(w, ws, wz) y = Conv(x, wd)"
    assert "does not read int8 beside it" in reason(body, "w")


def test_zero_points_are_zero():
    assert "zero point is not 0" in reason(f"{CONV} y = Relu(c)", "x", z=WEIGHT["wz"][0] + 3)
