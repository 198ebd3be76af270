"""Costs from shapes alone, against what a run of the same model does."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import onnxopt
from onnxopt.errors import OnnxOptError
from tests.rules.graphs import Graph


@pytest.fixture
def perceptron(tmp_path):
    """Write Softmax(Relu(ids·w)·v) for x[batch, sequence, 32]."""
    g = Graph()
    x = g.input("x", "batch", "sequence", 32)
    hidden = g.Relu(g.MatMul(x, g.weight(32, 64)))
    path = tmp_path / "mlp.onnx"
    onnx.save(g.model(g.Softmax(g.MatMul(hidden, g.weight(64, 8)))), path)
    return path


@pytest.fixture
def padded(tmp_path):
    """Write a Conv behind a Pad whose amounts are computed from constants."""
    weights = {
        "w": np.ones((4, 1, 5), np.float32),
        "half": np.array([0, 0, 2, 0, 0, 2], np.int64),
        "two": np.array([2], np.int64),
    }
    nodes = [
        helper.make_node("Mul", ["half", "two"], ["amounts"]),
        helper.make_node("Pad", ["x", "amounts"], ["p"]),
        helper.make_node("Conv", ["p", "w"], ["y"]),
    ]
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, channels, None])
        for name, channels in (("x", 1), ("y", 4))
    )
    graph = helper.make_graph(
        nodes, "g", [x], [y], [numpy_helper.from_array(a, n) for n, a in weights.items()]
    )
    path = tmp_path / "padded.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_sizes_are_those_given_and_else_what_a_benchmark_would_try_first(perceptron):
    report = onnxopt.inspect(perceptron, costs=True, fix={"batch": 2, "x:1": 10})
    assert report.sizes == {"batch": 2, "x:1": 10}
    assert report.assumed == ()
    products = report.costs["MatMul"]
    assert products.macs == 2 * 10 * (32 * 64 + 64 * 8)
    assert products.bytes == 4 * (20 * (32 + 64 + 64 + 8) + 32 * 64 + 64 * 8)
    assert products.intensity == pytest.approx(2 * products.macs / products.bytes)
    assumed = onnxopt.inspect(perceptron, costs=True, fix={"batch": 2})
    assert assumed.sizes == {"batch": 2, "sequence": 128}
    assert assumed.assumed == ("sequence",)


def test_operators_and_nodes_tell_the_same_the_costliest_first(perceptron):
    report = onnxopt.inspect(perceptron, costs=True)
    costs = [node.cost for node in report.nodes]
    assert sum(cost.share for cost in costs) == pytest.approx(1)
    assert sum(cost.share for cost in report.costs.values()) == pytest.approx(1)
    times = [cost.ms for cost in report.costs.values()]
    assert times == sorted(times, reverse=True)
    assert next(iter(report.costs)) == "MatMul"
    assert report.costs["Relu"].macs == 0
    assert report.to_dict()["costs"]["Relu"]["count"] == 1


def test_shapes_that_follow_from_computed_constants_are_known(padded):
    report = onnxopt.inspect(padded, costs=True, fix={"x:2": 100})
    assert report.costs["Conv"].macs == 4 * (100 + 8 - 4) * 5
    assert report.warnings == ()


def test_without_asking_there_are_no_costs(perceptron):
    report = onnxopt.inspect(perceptron)
    assert (report.costs, report.sizes, report.nodes[0].cost) == ({}, {}, None)


def test_sizes_that_mean_nothing_are_refused(perceptron):
    with pytest.raises(OnnxOptError, match="no dimension 'seq'"):
        onnxopt.inspect(perceptron, costs=True, fix={"seq": 3})
    with pytest.raises(OnnxOptError, match="only for costs"):
        onnxopt.inspect(perceptron, fix={"batch": 3})


def test_what_cannot_be_told_is_said(tmp_path):
    g = Graph()
    x = g.input("x", 4)
    proto = g.model(g.Relu(x))
    proto.graph.node[0].domain = "my.ops"
    proto.opset_import.add(domain="my.ops", version=1)
    onnx.save(proto, tmp_path / "odd.onnx")
    report = onnxopt.inspect(tmp_path / "odd.onnx", costs=True)
    assert report.costs["my.ops::Relu"].macs is None
    assert any("not known" in text for text in report.warnings)
    assert any("unknown domains" in text for text in report.warnings)
