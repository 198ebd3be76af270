"""Every Q/DQ pair and every integer weight is found again in what onnxruntime makes of a model."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import ModelError
from onnxopt.quantizing.audit import audit
from tests.quantizing.audit.written import WEIGHT, of, pair, written

CONVS = f"""(float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y_d) {{
    {pair("x")}
    wd = DequantizeLinear<axis=0>(w, ws, wz)
    c = Conv(x_d, wd)
    {pair("c")}
    t = Tanh(c_d)
    {pair("t")}
    y = Conv(t_d, wd)
    {pair("y")}
}}"""


def test_fused_pairs_and_borders(tmp_path):
    path = tmp_path / "model.onnx"
    onnx.save(written(CONVS, **WEIGHT), path)
    result = audit(path)
    assert result.engine.startswith("onnxruntime ")
    assert result.kernels == {"QLinearConv": 2}
    assert (result.fused, result.left_over, result.faults) == (5, 0, 0)
    assert of(result, "x").kernel == "QLinearConv"
    assert of(result, "x").reason == "the caller gives float"
    assert of(result, "c").reason == "Tanh 'n6' reads float"
    assert of(result, "t").reason == "Tanh 'n6' writes float"
    assert of(result, "y").reason == "the caller takes float"
    assert of(result, "w").kernel == "QLinearConv"


def test_a_pair_between_int8_kernels_has_nothing_to_say():
    body = CONVS.replace("t = Tanh(c_d)", "t = Conv(c_d, wd)")
    entry = of(audit(written(body, **WEIGHT).SerializeToString()), "c")
    assert (entry.kernel, entry.reason, entry.fault) == ("QLinearConv → QLinearConv", "", False)


def test_a_clamp_that_is_not_absorbed_leaves_a_weight_to_be_dequantized_each_time():
    body = f"""(float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] r_d) {{
        {pair("x", "s", "z8")}
        wd = DequantizeLinear<axis=0>(w, ws, wz)
        c = Conv(x_d, wd)
        r = Relu(c)
        {pair("r", "s", "z8")}
    }}"""
    result = audit(written(body, z8=np.int8(0), **WEIGHT).SerializeToString())
    assert result.kernels == {}
    assert (result.fused, result.left_over, result.faults) == (0, 3, 3)
    assert "Relu 'n4' stands between it and the pair" in of(result, "w").reason
    assert "dequantized at each run for Conv 'n3'" in of(result, "w").reason
    assert "Conv 'n3' runs in float" in of(result, "x").reason


def test_what_is_left_over_or_only_moved_is_a_fault():
    body = f"""(float[4] x, float[4] f, float[4, 6] m) => (float[4] y_d, float[24] u) {{
        {pair("x")}
        a = Add(x_d, f)
        {pair("a")}
        y = Tanh(a_d)
        {pair("y")}
        {pair("m")}
        v = Reshape(m_d, shape)
        {pair("v")}
        u = Tanh(v_d)
    }}"""
    result = audit(written(body, shape=np.array([24])).SerializeToString())
    assert result.kernels == {"Reshape (8 bits)": 1}
    assert (result.fused, result.left_over, result.faults) == (2, 3, 4)
    assert "its input 'f' is float" in of(result, "x").reason
    assert "Tanh 'n5' runs in float: onnxruntime has no int8 kernel" in of(result, "a").reason
    assert "nothing computes with the integers" in of(result, "m").reason


def test_quantizing_twice_is_a_fault():
    other = {"s2": np.float32(0.07), "z2": np.uint8(3)}
    body = f"""(float[1, 4, 8, 8] x) => (float[1, 4, 8, 8] y_d, float[1, 4, 8, 8] u) {{
        {pair("x")}
        wd = DequantizeLinear<axis=0>(w, ws, wz)
        c = Conv(x_d, wd)
        {pair("c")}
        {pair("c_d", "s2", "z2")}
        y = Conv(c_d_d, wd)
        {pair("y")}
        u = Tanh(c_d)
    }}"""
    entry = of(audit(written(body, **other, **WEIGHT).SerializeToString()), "c")
    assert entry.fault
    assert "become other integers" in entry.reason


def test_pairs_in_bodies_are_accounted_for():
    then = written(
        f"() => (float[1, 4, 8, 8] y_d) {{ {pair('x')} wd = DequantizeLinear<axis=0>(w, ws, wz)"
        f" y = Conv(x_d, wd) {pair('y')} }}",
        **WEIGHT,
    ).graph
    other = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["i"])],
        "other",
        [],
        [helper.make_tensor_value_info("i", TensorProto.FLOAT, [1, 4, 8, 8])],
    )
    outer = helper.make_graph(
        [helper.make_node("If", ["b"], ["out"], then_branch=then, else_branch=other)],
        "outer",
        [
            helper.make_tensor_value_info("b", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4, 8, 8]),
        ],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 4, 8, 8])],
    )
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    result = audit(model.SerializeToString())
    assert result.kernels == {"QLinearConv": 1}
    assert (result.fused, result.left_over) == (3, 0)


def test_weights_beside_the_model_are_found(tmp_path):
    model = written(CONVS, **WEIGHT)
    onnx.save(
        model,
        tmp_path / "model.onnx",
        save_as_external_data=True,
        location="model.data",
        size_threshold=0,
    )
    assert audit(tmp_path / "model.onnx").fused == 5


def test_what_onnxruntime_refuses_is_said(tmp_path):
    body = "(float[4] x) => (float[4] y) { y = nowhere.Unknown(x) }"
    model = written(body)
    model.opset_import.append(helper.make_opsetid("nowhere", 1))
    with pytest.raises(ModelError, match="onnxruntime cannot load"):
        audit(model.SerializeToString())
