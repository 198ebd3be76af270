"""Every layer is a matrix times its patches plus a bias, whatever its operator."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph import facts, io
from onnxopt.graph.editor import Editor
from onnxopt.runtime.sessions.session import open_session, run
from onnxopt.sweep import matrix, patches
from tests.quantizing.repair.nets import net, normal

CONV = "(float[2,4,6,6] x) => (float[N,C,H,W] y) { y = Conv <pads=[1,1,1,1]> (x, w) }"
CASES = {
    "conv": (CONV, {"w": normal(5, 4, 3, 3)}),
    "grouped": (CONV.replace("<", "<group=2, "), {"w": normal(6, 2, 3, 3)}),
    "gemm": ("(float[3,4] x) => (float[N,C] y) { y = Gemm(x, w) }", {"w": normal(4, 5)}),
    "turned": (
        "(float[3,4] x) => (float[N,C] y) { y = Gemm <transB=1> (x, w, b) }",
        {"w": normal(5, 4), "b": normal(1)},
    ),
    "matmul": ("(float[2,3,4] x) => (float[N,L,C] y) { y = MatMul(x, w) }", {"w": normal(4, 5)}),
    "biased": (
        "(float[2,3,4] x) => (float[N,L,C] y) { t = MatMul(x, w) y = Add(b, t) }",
        {"w": normal(4, 5), "b": normal(5)},
    ),
    "read twice": (
        "(float[3,4] x) => (float[N,C] y) { t = MatMul(x, w) u = Relu(t) y = Add(t, u) }",
        {"w": normal(4, 5)},
    ),
}


@pytest.fixture(params=CASES)
def layered(request):
    text, constants = CASES[request.param]
    model = io.from_proto(net(text, **constants))
    return model, model.graph[0], constants


def outputs(model, x):
    proto = io.to_proto(model)
    onnx.checker.check_model(proto)
    return run(open_session(proto.SerializeToString(), threads=1), {"x": x})[0]


def test_rows_times_patches_is_what_the_layer_computes(layered):
    model, node, constants = layered
    x = normal(*facts.static_shape(model.graph.inputs[0]), seed=7)
    before = outputs(model, x)
    rows = matrix.rows_of(node, 18)
    read = patches.read_by(x, node, model)
    per_group = np.split(rows, len(read))
    product = np.concatenate([q @ w.T for q, w in zip(read, per_group, strict=True)], axis=1)
    if node.op_type == "Conv":
        found = product.reshape(2, 6, 6, -1).transpose(0, 3, 1, 2)
        np.testing.assert_allclose(found, before, atol=1e-4)
    elif len(model.graph) == 1:
        np.testing.assert_allclose(
            product.reshape(before.shape) + constants.get("b", 0), before, atol=1e-4
        )


def test_a_bias_changes_nothing_and_is_of_its_own(layered):
    model, node, constants = layered
    x = normal(*facts.static_shape(model.graph.inputs[0]), seed=7)
    before = outputs(model, x)
    edge = matrix.biased(Editor(model), node)
    np.testing.assert_allclose(outputs(model, x), before, atol=1e-5)
    reader = next(each for each in model.graph if each.name == edge.node)
    bias = facts.constant(reader.inputs[edge.place])
    np.testing.assert_array_equal(bias, np.broadcast_to(constants.get("b", 0), bias.shape))
    assert bias.shape == (len(matrix.rows_of(node, 18)),)


def test_a_weight_comes_back_as_it_was_and_can_be_another(layered):
    model, node, _ = layered
    editor = Editor(model)
    before = facts.constant(node.inputs[1]).copy()
    rows = matrix.rows_of(node, 18)
    matrix.set_rows(editor, node, rows)
    np.testing.assert_array_equal(facts.constant(node.inputs[1]), before)
    matrix.set_rows(editor, node, 2 * rows)
    np.testing.assert_array_equal(facts.constant(node.inputs[1]), 2 * before)


def test_a_product_whose_result_is_an_output_keeps_its_name():
    text, constants = CASES["matmul"]
    model = io.from_proto(net(text, **constants))
    matrix.biased(Editor(model), model.graph[0])
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert [node.op_type for node in model.graph] == ["MatMul", "Add"]


def test_columns_of_a_convolution_go_by_place_then_channel():
    model = io.from_proto(net(CONV, w=normal(5, 4, 3, 3)))
    units = matrix.columns_of(np.array([0, 1, -1, 2]), model.graph[0])
    rows = matrix.rows_of(model.graph[0], 18)
    weight = facts.constant(model.graph[0].inputs[1])
    assert units.shape == (36,)
    np.testing.assert_array_equal(rows[:, units == 1], weight[:, 1].reshape(5, -1))


def test_what_is_no_layer_is_told():
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"], alpha=0.5)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 5])],
        [numpy_helper.from_array(normal(4, 5), "w")],
    )
    model = io.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))
    assert not matrix.is_layer(model.graph[0], 18)
