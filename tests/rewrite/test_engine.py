"""The engine: what fires, what must not, and why."""

import math

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.config import find_target
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import RULE_KEY, Editor
from onnxopt.rewrite.engine import rewrite
from onnxopt.rewrite.pattern import const, op, product, total, var
from onnxopt.rewrite.rule import rule

PORTABLE = find_target("portable")


def model_of(nodes, inputs, outputs, constants=None, opset=20):
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in outputs.items()]
    tensors = [
        numpy_helper.from_array(np.asarray(a, np.float32), n) for n, a in (constants or {}).items()
    ]
    graph = helper.make_graph(nodes, "g", infos, outs, tensors)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


def ops(model):
    return [node.op_type for node in model.graph]


def apply(model, *rules, tracing=False, target=PORTABLE):
    return rewrite(Editor(model), rules, target, tracing=tracing)


@rule(op.Exp(op.Log(var("x"))))
def drop_exp_of_log(new, x):
    """exp(log(x)) is x."""
    return x


def node(op_type, inputs, output, **attributes):
    return helper.make_node(op_type, inputs, [output], name=f"node_{output}", **attributes)


def test_graph_output_keeps_its_name_when_a_value_takes_its_place():
    model = model_of(
        [node("Relu", ["x"], "a"), node("Log", ["a"], "b"), node("Exp", ["b"], "y")],
        {"x": [2]},
        {"y": [2]},
    )
    assert apply(model, drop_exp_of_log).done == {"drop_exp_of_log": 1}
    assert ops(model) == ["Relu"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_identity_keeps_an_output_that_would_become_an_input():
    model = model_of([node("Log", ["x"], "b"), node("Exp", ["b"], "y")], {"x": [2]}, {"y": [2]})
    apply(model, drop_exp_of_log)
    assert ops(model) == ["Identity"]
    assert [value.name for value in model.graph.inputs] == ["x"]
    assert [value.name for value in model.graph.outputs] == ["y"]


def test_inner_value_that_somebody_else_reads_refuses_with_its_name():
    model = model_of(
        [node("Log", ["x"], "b"), node("Exp", ["b"], "y"), node("Neg", ["b"], "z")],
        {"x": [2]},
        {"y": [2], "z": [2]},
    )
    outcome = apply(model, drop_exp_of_log)
    assert not outcome.done
    assert "'b' is also read by 'node_z'" in outcome.refused["drop_exp_of_log"][0]


def test_shared_inner_node_stays():
    @rule(op.Neg(op.Neg(var("x"), shared=True)))
    def drop_double_negation(new, x):
        """-(-x) is x."""
        return x

    model = model_of(
        [node("Neg", ["x"], "a"), node("Neg", ["a"], "b"), node("Add", ["a", "b"], "y")],
        {"x": [2]},
        {"y": [2]},
    )
    assert apply(model, drop_double_negation).done
    assert ops(model) == ["Neg", "Add"]
    assert [value.name for value in model.graph.node("node_y").inputs] == ["a", "x"]


def test_new_nodes_say_which_rule_made_them():
    @rule(op.Sqrt(op.Sqrt(var("x"))))
    def fuse_roots(new, x):
        """√√x is x to the power of ¼."""
        return new.Pow(x, np.float32(0.25))

    model = model_of([node("Sqrt", ["x"], "a"), node("Sqrt", ["a"], "y")], {"x": [2]}, {"y": [2]})
    apply(model, fuse_roots)
    (made,) = model.graph
    assert made.metadata_props[RULE_KEY] == "fuse_roots"
    assert made.outputs[0].name == "y"


@pytest.mark.parametrize("grouping", range(3))
def test_product_is_found_in_any_grouping(grouping):
    @rule(product(var("x"), 0.5, op.Tanh(var("z")), const("c")))
    def fuse(new, x, z, c):
        """A product of four."""
        return new.Sum(x, z, c)

    t = node("Tanh", ["z"], "t")
    nodes = [
        [node("Mul", ["x", "h"], "a"), node("Mul", ["a", "t"], "b"), node("Mul", ["b", "c"], "y")],
        [node("Mul", ["h", "t"], "a"), node("Mul", ["c", "x"], "b"), node("Mul", ["b", "a"], "y")],
        [node("Mul", ["c", "t"], "a"), node("Mul", ["h", "a"], "b"), node("Mul", ["x", "b"], "y")],
    ][grouping]
    constants = {"h": 0.5, "c": [1.0, 2.0]}
    model = model_of([t, *nodes], {"x": [2], "z": [2]}, {"y": [2]}, constants)
    assert apply(model, fuse).done == {"fuse": 1}
    assert ops(model) == ["Sum"]


def test_same_name_twice_is_the_same_value():
    @rule(total(var("x"), op.Neg(var("x"))))
    def drop_difference_to_itself(new, x):
        """x + (-x), where it is the same x."""
        return new.Sub(x, x)

    same = model_of([node("Neg", ["x"], "a"), node("Add", ["a", "x"], "y")], {"x": [2]}, {"y": [2]})
    other = model_of(
        [node("Neg", ["x"], "a"), node("Add", ["a", "z"], "y")], {"x": [2], "z": [2]}, {"y": [2]}
    )
    assert apply(same, drop_difference_to_itself).done
    assert not apply(other, drop_difference_to_itself).done


def test_constant_that_raises_the_rank_is_no_plain_number():
    @rule(op.Mul(var("x"), 1))
    def drop_times_one(new, x):
        """x·1 is x."""
        return x

    plain = model_of(
        [node("Mul", ["a", "c"], "y"), node("Relu", ["x"], "a")][::-1],
        {"x": [2, 2]},
        {"y": [2, 2]},
        {"c": [1.0]},
    )
    raising = model_of(
        [node("Relu", ["x"], "a"), node("Mul", ["a", "c"], "y")],
        {"x": [2, 2]},
        {"y": [1, 2, 2]},
        {"c": [[[1.0]]]},
    )
    assert apply(plain, drop_times_one).done
    assert not apply(raising, drop_times_one).done


def test_several_outputs_are_replaced_together():
    @rule(op.Relu(op.Neg(var("x"), bind="neg")), also=("neg",))
    def swap(new, x, neg):
        """Replaces the root and an inner value that others read."""
        again = new.Mul(x, np.float32(-1))
        return new.Max(again, np.float32(0)), again

    model = model_of(
        [node("Neg", ["x"], "a"), node("Exp", ["a"], "z"), node("Relu", ["a"], "y")],
        {"x": [2]},
        {"y": [2], "z": [2]},
    )
    assert apply(model, swap).done == {"swap": 1}
    assert sorted(ops(model)) == ["Exp", "Max", "Mul"]
    onnx.checker.check_model(ir.serde.serialize_model(model))


def test_opset_window_and_targets_hold():
    @rule(op.Relu(var("x")), since=18, until=19, targets=("cuda",))
    def never_here(new, x):
        """Only for cuda and two operator sets."""
        return new.Abs(x)

    for opset, target, fires in ((18, "cuda", 1), (20, "cuda", 0), (17, "cuda", 0), (18, "cpu", 0)):
        model = model_of([node("Relu", ["x"], "y")], {"x": [2]}, {"y": [2]}, opset=opset)
        done = apply(model, never_here, target=find_target(target)).done
        assert sum(done.values()) == fires


def test_rule_that_crashes_is_named_and_the_rest_goes_on():
    @rule(op.Exp(var("x")))
    def broken(new, x):
        """Divides by zero."""
        return 1 // 0

    model = model_of([node("Log", ["x"], "b"), node("Exp", ["b"], "y")], {"x": [2]}, {"y": [2]})
    outcome = apply(model, broken, drop_exp_of_log)
    assert outcome.crashed == {"broken": "ZeroDivisionError: integer division or modulo by zero"}
    assert outcome.done == {"drop_exp_of_log": 1}
    assert all(use.node.graph is not None for use in model.graph.inputs[0].uses())


def test_tracing_tells_the_near_miss():
    @rule(product(var("x"), 0.5, 1 + op.Erf(var("x") / math.sqrt(2))))
    def gelu(new, x):
        """Erf GELU."""
        return new.Gelu(x)

    model = model_of(
        [
            node("Div", ["x", "r"], "a"),
            node("Erf", ["a"], "b"),
            node("Add", ["b", "o"], "c"),
            node("Mul", ["x", "c"], "d"),
            node("Mul", ["d", "h"], "y"),
        ],
        {"x": [2]},
        {"y": [2]},
        {"r": 1.5, "o": 1.0, "h": 0.5},
    )
    outcome = apply(model, gelu, tracing=True)
    assert "the constant is 1.5 where 1.41421 is expected" in outcome.refused["gelu"][0]


def test_parameters_are_checked_against_the_pattern_at_import():
    with pytest.raises(TypeError, match="binds no w"):

        @rule(op.Relu(var("x")))
        def wrong(new, x, w):
            """Wants what the pattern does not bind."""

    for given in ({"targets": ("gpu",)}, {"targets": ("cuda",), "unsure": ("cpu",)}):
        with pytest.raises(TypeError, match=r"target is called gpu|not for cpu at all"):
            rule(op.Relu(var("x")), **given)(lambda new, x: None)


def test_rule_fires_in_every_branch_and_reads_what_it_captured():
    branch = helper.make_graph(
        [node("Log", ["x"], "b"), node("Exp", ["b"], "t"), node("Neg", ["t"], "o")],
        "then",
        [],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, [2])],
    )
    other = helper.make_graph(
        [node("Neg", ["x"], "p")],
        "else",
        [],
        [helper.make_tensor_value_info("p", TensorProto.FLOAT, [2])],
    )
    condition = helper.make_tensor_value_info("k", TensorProto.BOOL, [])
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    graph = helper.make_graph(
        [helper.make_node("If", ["k"], ["y"], then_branch=branch, else_branch=other)],
        "g",
        [x, condition],
        [y],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model = ir.serde.deserialize_model(proto)
    assert apply(model, drop_exp_of_log).done == {"drop_exp_of_log": 1}
    onnx.checker.check_model(ir.serde.serialize_model(model), full_check=True)


def test_rule_fires_in_functions_whose_constants_are_nodes():
    @rule(op.Sqrt(op.Sqrt(var("x"))))
    def fuse_roots(new, x):
        """√√x is x to the power of ¼."""
        return new.Pow(x, np.float32(0.25))

    function = helper.make_function(
        "own",
        "Roots",
        ["x"],
        ["y"],
        [node("Sqrt", ["x"], "a"), node("Sqrt", ["a"], "y")],
        [helper.make_opsetid("", 17)],
    )
    graph = helper.make_graph(
        [helper.make_node("Roots", ["x"], ["y"], domain="own")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])],
    )
    proto = helper.make_model(
        graph,
        functions=[function],
        ir_version=8,
        opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid("own", 1)],
    )
    model = ir.serde.deserialize_model(proto)
    assert apply(model, fuse_roots).done == {"fuse_roots": 1}
    (body,) = model.functions.values()
    assert [n.op_type for n in body] == ["Constant", "Pow"]
    onnx.checker.check_model(ir.serde.serialize_model(model))
