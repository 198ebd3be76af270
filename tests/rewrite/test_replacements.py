"""What a build function may return, and the forms that depend on the operator set."""

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.config import find_target
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.rewrite.engine import rewrite
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import rule
from tests.rules.graphs import Graph

PORTABLE = find_target("portable")


def apply(proto, *rules):
    model = ir.serde.deserialize_model(proto)
    outcome = rewrite(Editor(model), rules, PORTABLE)
    assert not outcome.crashed, outcome.crashed
    return model, outcome


@rule(op.Neg(var("x"), bind="node"))
def replace_all_negations(new, node, x):
    """Every Neg of x becomes one Sub from zero."""
    made = new.Sub(np.zeros((), np.float32), x)
    return {use.node.outputs[0]: made for use in x.uses() if use.node.op_type == "Neg"}


def test_a_dict_replaces_nodes_beside_the_root_and_leaves_the_graph_sorted():
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="first"),
        helper.make_node("Exp", ["a"], ["b"], name="reader of the first"),
        helper.make_node("Neg", ["x"], ["c"], name="second"),
        helper.make_node("Add", ["b", "c"], ["y"], name="sum"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model, outcome = apply(proto, replace_all_negations)
    assert outcome.done == {"replace_all_negations": 1}
    assert [node.op_type for node in model.graph] == ["Sub", "Exp", "Add"]


@rule(op.Neg(op.Neg(var("x"))))
def build_more_than_needed(new, x):
    """Neg(Neg(x)) becomes Abs(x), of which a Sqrt is made that nobody reads."""
    made = new.Abs(x)
    new.Sqrt(new.Exp(made))
    return made


def test_what_a_rule_builds_in_vain_does_not_enter_the_graph():
    nodes = [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Neg", ["a"], ["y"])]
    infos = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])] for name in "xy"]
    graph = helper.make_graph(nodes, "g", *infos)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model, _ = apply(proto, build_more_than_needed)
    assert [node.op_type for node in model.graph] == ["Abs"]
    assert len(model.graph.inputs[0].uses()) == 1


@rule(op.Slice(op.Relu(var("x")), ..., bind="cut"))
def slice_before_relu(new, cut, x):
    """Slice(Relu(x)) becomes Relu(Slice(x))."""
    return new.Relu(new.Slice(x, *cut.inputs[1:]))


def test_an_ellipsis_matches_the_further_inputs_whatever_they_are():
    for further in (2, 3, 4):
        g = Graph()
        x = g.input("x", 4, 4)
        rows = [np.array([value], np.int64) for value in (1, 3, 0, 1)]
        proto = g.model(g.Slice(g.Relu(x), *rows[:further]))
        model, _ = apply(proto, slice_before_relu)
        assert [node.op_type for node in model.graph] == ["Slice", "Relu"]


@rule(op.Relu(var("x")))
def take_a_mean(new, x):
    """Relu(x) becomes a mean that is squeezed."""
    return new.with_axes("Squeeze", new.with_axes("ReduceMean", x, [1], keepdims=1), [1])


@pytest.mark.parametrize(("opset", "mean", "squeeze"), [(11, 1, 1), (13, 1, 2), (18, 2, 2)])
def test_axes_are_an_attribute_or_an_input_as_the_operator_set_wants(opset, mean, squeeze):
    g = Graph(opset=opset)
    model, _ = apply(g.model(g.Relu(g.input("x", 2, 3))), take_a_mean)
    assert [len(node.inputs) for node in model.graph] == [mean, squeeze]


def test_inside_a_function_its_own_operator_set_decides():
    body = [helper.make_node("Relu", ["x"], ["y"], name="relu")]
    function = helper.make_function(
        "local", "F", ["x"], ["y"], body, [helper.make_opsetid("", 11)], []
    )
    call = helper.make_node("F", ["x"], ["y"], domain="local", name="call")
    graph = helper.make_graph(
        [call],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
        [numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    imports = [helper.make_opsetid("", 18), helper.make_opsetid("local", 1)]
    proto = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=8)
    model, _ = apply(proto, take_a_mean)
    (made,) = model.functions.values()
    assert [len(node.inputs) for node in made] == [1, 1]
