"""What inspect says of a real model."""

import onnx
import pytest
from onnx import TensorProto, helper

import onnxopt
from tests.rules.graphs import Graph


def test_nodes_have_their_outputs_their_work_and_their_provider(tmp_path):
    g = Graph()
    x = g.input("x", "n", 8)
    onnx.save(g.model(g.Relu(g.MatMul(x, g.weight(8, 4)))), tmp_path / "m.onnx")
    report = onnxopt.inspect(tmp_path / "m.onnx")
    product, relu = report.nodes
    assert (product.op, product.macs, product.parameters) == ("MatMul", 8 * 4, 32)
    assert product.outputs[0].shape == ("n", 4)
    assert relu.macs is None
    assert product.provider == "CPUExecutionProvider"
    assert report.placement == {"cpu": {"CPUExecutionProvider": 2}}
    assert report.profile.dynamic_dims == ("n",)


def test_a_provider_that_cannot_take_it_says_why(tmp_path):
    node = helper.make_node("Mystery", ["x"], ["y"], domain="my.ops")
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my.ops", 1)]
    graph = helper.make_graph([node], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / "odd.onnx")
    report = onnxopt.inspect(tmp_path / "odd.onnx")
    assert "cannot run" in report.placement["cpu"]
    assert report.warnings == ("operators of unknown domains were left as they are: my.ops",)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_said(tmp_path, value):
    g = Graph()
    x = g.input("x", 3)
    onnx.save(g.model(g.Add(x, g.const([1.0, value, 2.0]))), tmp_path / "m.onnx")
    assert any("NaN or infinity" in text for text in onnxopt.inspect(tmp_path / "m.onnx").warnings)
