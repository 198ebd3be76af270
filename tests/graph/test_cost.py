"""The cost model: no more than an order, but that one should be right."""

import pytest
from onnx import TensorProto, helper

from onnxopt.graph import io
from onnxopt.graph.cost import costs, predict
from onnxopt.graph.editor import RULE_KEY
from onnxopt.graph.profile import profile
from onnxopt.passes import shapes
from onnxopt.passes.concrete import concrete
from tests.rules.graphs import Graph


def seconds(g, *outputs, provider="cpu", **given):
    model = io.from_proto(g.model(*outputs))
    shapes.infer(model)
    return predict(model, concrete(model, given), provider)


def test_multiplications_cost_what_they_are():
    def product(width, tokens=64):
        g = Graph()
        x = g.input("x", "N", 1024)
        return seconds(g, g.MatMul(x, g.weight(1024, width)), x=(tokens, 1024))[""]

    assert product(4096) == pytest.approx(4 * product(1024), rel=0.1)
    assert product(1024, tokens=640) > 5 * product(1024)


def test_bytes_cost_where_they_move_and_only_there():
    def chain(*ops):
        g = Graph()
        x = value = g.input("x", 1024, 1024)
        for op_type in ops:
            value = g.node(op_type, value) if op_type != "Reshape" else g.Reshape(value, [-1])
        return seconds(g, value, x=(1024, 1024))[""] if value != x else 0.0

    assert chain("Relu", "Relu") == pytest.approx(2 * chain("Relu"))
    assert chain("Reshape") < chain("Relu") / 100
    assert chain("Relu", "Reshape") == pytest.approx(chain("Relu"), rel=0.01)


def test_picking_costs_what_is_picked():
    g = Graph()
    x = g.input("x", 2, dtype=TensorProto.INT64)
    assert seconds(g, g.Gather(g.weight(4096, 256), x), x=(2,))[""] < 1e-5


def test_seconds_are_told_by_the_rule_that_made_the_node():
    g = Graph()
    x = g.input("x", 64, 64)
    model = io.from_proto(g.model(g.Relu(g.Exp(x))))
    exp = model.graph[0]
    exp.metadata_props[RULE_KEY] = "make_exp"
    shapes.infer(model)
    found = predict(model, {}, "cpu")
    assert found["make_exp"] == pytest.approx(found[""])
    assert predict(model, {}, "cuda")[""] != found[""]


@pytest.mark.parametrize("domain", ["", "com.microsoft"])
def test_attention_keeps_its_multiplications_when_it_is_fused(domain):
    tokens, width = 10, 8
    apart = Graph(23)
    q, k, v = (apart.input(name, 1, tokens, width) for name in "qkv")
    scores = apart.MatMul(q, apart.Transpose(k, perm=[0, 2, 1]))
    proto = apart.model(apart.MatMul(apart.Softmax(scores), v))
    name, heads = ("MultiHeadAttention", "num_heads") if domain else ("Attention", "q_num_heads")
    kv = {} if domain else {"kv_num_heads": 1}
    fused = helper.make_node(name, list("qkv"), ["y"], domain=domain, **{heads: 1}, **kv)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, tokens, width))
    graph = helper.make_graph([fused], "g", proto.graph.input, [y])
    imports = [helper.make_opsetid("", 23), helper.make_opsetid("com.microsoft", 1)]
    other = helper.make_model(graph, opset_imports=imports, ir_version=10)

    def macs(proto):
        model = io.from_proto(proto)
        shapes.infer(model)
        return profile(model).macs

    assert macs(proto) == macs(other) == 2 * tokens * tokens * width


def test_each_node_has_its_work_and_what_holds_graphs_leaves_it_to_the_nodes_inside():
    g = Graph()
    x = g.input("x", "N", 8)
    product = g.MatMul(x, g.weight(8, 4))
    model = io.from_proto(g.model(g.Relu(product)))
    shapes.infer(model)
    found = {
        cost.node.op_type: cost for cost in costs(model, concrete(model, {"x": (6, 8)}), "cpu")
    }
    assert (found["MatMul"].macs, found["MatMul"].bytes) == (6 * 8 * 4, 4 * (48 + 32 + 24))
    assert (found["Relu"].macs, found["Relu"].bytes) == (0, 4 * (24 + 24))


def test_what_cannot_be_told_is_not_claimed():
    g = Graph()
    x = g.input("x", 8)
    proto = g.model(g.Relu(x))
    proto.graph.node[0].domain = "my.ops"
    proto.opset_import.add(domain="my.ops", version=1)
    model = io.from_proto(proto)
    model.graph[0].outputs[0].shape = None
    (cost,) = costs(model, {}, "cpu")
    assert cost.macs is None
    assert cost.bytes is None
    assert cost.seconds > 0
