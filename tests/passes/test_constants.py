import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import constants
from tests.passes.graphs import CONFIG, info, node, ops
from tests.passes.nested import BOOL, INT64, assert_exact, branch, graph, model


def test_every_dense_form_becomes_an_initializer_under_its_name():
    made = {
        "t": {"value": numpy_helper.from_array(np.arange(3, dtype=np.float16))},
        "f": {"value_float": 1.5},
        "fs": {"value_floats": [1.5, -0.0]},
        "i": {"value_int": -7},
        "is": {"value_ints": [1, 2, 3]},
        "s": {"value_string": "é\0"},
        "ss": {"value_strings": ["a\0", "ß", ""]},
    }
    nodes = [node("Constant", [], name, **form) for name, form in made.items()]
    nodes += [node("Identity", [name], f"{name}_out") for name in made]
    kinds = [TensorProto.FLOAT16, 1, 1, INT64, INT64, TensorProto.STRING, TensorProto.STRING]
    shapes = [[3], [], [2], [], [3], [], [3]]
    outputs = [info(f"{n}_out", s, k) for n, s, k in zip(made, shapes, kinds, strict=True)]
    result, done = assert_exact(model(nodes, [], outputs), constants)
    assert done == {"lift_constants": 7}
    assert ops(result) == ["Identity"] * 7
    assert [t.name for t in result.graph.initializer] == list(made)
    assert [t.data_type for t in result.graph.initializer] == kinds
    assert result.graph.initializer[5].string_data == ["é\0".encode()]


def test_constants_that_are_outputs_stay_in_the_main_graph_and_in_branches():
    one = numpy_helper.from_array(np.ones(3, np.float32))
    two = numpy_helper.from_array(np.full(3, 2, np.float32))
    nodes = [
        node("Constant", [], "k", value=one),
        branch(
            "c", "b", graph([node("Constant", [], "t", value=one)], ["t"]),
            graph([node("Constant", [], "e", value=two)], ["e"]),
        ),
        node("Add", ["b", "k"], "y"),
    ]  # fmt: skip
    proto = model(nodes, [info("c", [], BOOL)], ["y", "k"])
    feeds = [{"c": np.array(flag)} for flag in (True, False)]
    _, done = assert_exact(proto, constants, feeds=feeds)
    assert not done


def test_branches_get_initializers_of_their_own_and_function_bodies_none():
    two = numpy_helper.from_array(np.full(3, 2, np.float32))
    body = [helper.make_node("Constant", [], ["k"], value=two),
            helper.make_node("Mul", ["a", "k"], ["b"])]  # fmt: skip
    double = helper.make_function("my", "double", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    inner = [node("Constant", [], "k", value=two), node("Mul", ["x", "k"], "t")]
    other = [node("Constant", [], "k", value=two), node("Div", ["x", "k"], "e")]
    nodes = [
        branch("c", "b", graph(inner, ["t"]), graph(other, ["e"])),
        node("double", ["b"], "y", domain="my"),
    ]
    proto = model(nodes, ["x", info("c", [], BOOL)], ["y"], functions=[double], domains=["my"])
    x = np.arange(3, dtype=np.float32)
    feeds = [{"x": x, "c": np.array(flag)} for flag in (True, False)]
    result, done = assert_exact(proto, constants, feeds=feeds)
    assert done == {"lift_constants": 2}
    for attr in result.graph.node[0].attribute:
        assert [t.name for t in attr.g.initializer] == ["k"]
    assert [n.op_type for n in result.functions[0].node] == ["Constant", "Mul"]


def test_sparse_constants_and_old_ir_versions_are_left_alone():
    dense = numpy_helper.from_array(np.ones(3, np.float32))
    proto = model([node("Constant", [], "k", value=dense), node("Add", ["x", "k"], "y")], ["x"],
                  ["y"], opset=8)  # fmt: skip
    proto.ir_version = 3
    _, done = assert_exact(proto, constants)
    assert not done
    held = ir.Value(name="s")
    sparse = ir.Attr("sparse_value", ir.AttributeType.SPARSE_TENSOR, None)
    made = ir.Node("", "Constant", [], [sparse], outputs=[held])
    read = ir.Node("", "Relu", [held], name="r")
    loaded = ir.Model(
        ir.Graph([], read.outputs, nodes=[made, read], opset_imports={"": 17}), ir_version=8
    )
    assert not constants.run(Editor(loaded), CONFIG)
    assert facts.tensor(held) is None


def test_a_constant_that_a_function_was_handed_is_no_constant():
    body = [helper.make_node("Constant", [], ["k"]), helper.make_node("Mul", ["a", "k"], ["b"])]
    reference = body[0].attribute.add(name="value_float", type=onnx.AttributeProto.FLOAT)
    reference.ref_attr_name = "factor"
    scale = helper.make_function(
        "my", "scale", ["a"], ["b"], body, [helper.make_opsetid("", 17)], ["factor"]
    )
    nodes = [node("scale", ["x"], "y", domain="my", factor=3.0)]
    _, done = assert_exact(model(nodes, ["x"], ["y"], functions=[scale], domains=["my"]), constants)
    assert not done
