import numpy as np
from onnx import TensorProto, helper

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import shapes
from onnxopt.passes.declared import declare
from tests.passes.graphs import info, model_of, node


def inferred(proto):
    model = ir.serde.deserialize_model(proto)
    shapes.infer(model)
    return {v.name: facts.shape(v) for graph in model.graphs() for n in graph for v in n.outputs}


def test_named_dimensions_keep_their_names():
    nodes = [node("Relu", ["x"], "a"), node("MatMul", ["a", "w"], "b"), node("Neg", ["b"], "y")]
    model = model_of(
        nodes,
        [info("x", ["batch", "time", 64])],
        [info("y", None)],
        {"w": np.zeros((64, 100), np.float32)},
    )
    found = inferred(model)
    assert found["a"] == ("batch", "time", 64)
    assert found["b"] == ("batch", "time", 100)


def test_unknown_operator_costs_only_its_own_outputs():
    nodes = [
        node("Relu", ["x"], "a"),
        node("Mystery", ["a"], "m", domain="elsewhere"),
        node("Relu", ["m"], "b"),
        node("Neg", ["a"], "c"),
    ]
    model = model_of(nodes, [info("x", ["N", 4])], [info("b", None), info("c", None)])
    model.opset_import.append(helper.make_opsetid("elsewhere", 1))
    found = inferred(model)
    assert found["c"] == ("N", 4)
    assert found["m"] is None


def test_placeholders_are_unknown_not_equal():
    nodes = [node("Transpose", ["x"], "y", perm=[0, 2, 1])]
    model = model_of(nodes, [info("x", ["N", "?", "?"])], [info("y", None)])
    assert inferred(model)["y"][0] == "N"
    assert not any(isinstance(dim, str) and dim == "?" for dim in inferred(model)["y"])


def test_nested_graphs_learn_too():
    branches = {
        name: helper.make_graph([node(op, ["x"], f"{name}_o")], name, [], [info(f"{name}_o", None)])
        for name, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    nodes = [node("If", ["k"], "y", **branches)]
    model = model_of(
        nodes, [info("x", ["N", 4]), info("k", [], TensorProto.BOOL)], [info("y", None)]
    )
    assert inferred(model)["then_branch_o"] == ("N", 4)


def test_slice_with_computed_bounds_keeps_the_axes_that_it_does_not_cut():
    nodes = [
        node("Shape", ["x"], "s"),
        node("Slice", ["table", "zero", "s", "one"], "a"),
        node("Add", ["a", "x"], "y"),
    ]
    constants = {
        "table": np.zeros((1, 512), np.float32),
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
    }
    model = model_of(nodes, [info("x", ["n"])], [info("y", None)], constants)
    assert inferred(model)["a"][0] == 1


def test_invented_names_of_two_runs_are_never_taken_for_equal():
    nodes = [node("NonZero", ["x"], "a"), node("Relu", ["x"], "b"), node("NonZero", ["b"], "c")]
    model = ir.serde.deserialize_model(
        model_of(nodes, [info("x", ["n"])], [info("c", None, TensorProto.INT64)])
    )
    shapes.infer(model)
    first = facts.shape(model.graph.node("node_a").outputs[0])[1]
    model.graph.node("node_c").outputs[0].shape = None
    shapes.infer(model)
    last = facts.shape(model.graph.node("node_c").outputs[0])[1]
    assert first != last
    shapes.forget(model, everything=False)
    assert facts.shape(model.graph.node("node_a").outputs[0]) == (1, None)


def choice(then_branch, else_branch, then_output="t", else_output="e"):
    """Return a model of an If whose branches, lists of nodes, read x of shape [N, 4]."""
    branches = {
        "then_branch": helper.make_graph(then_branch, "then", [], [info(then_output, None)]),
        "else_branch": helper.make_graph(else_branch, "else", [], [info(else_output, None)]),
    }
    nodes = [node("If", ["k"], "chosen", **branches), node("Relu", ["chosen"], "y")]
    given = [info("x", ["N", 4]), info("k", [], TensorProto.BOOL)]
    return model_of(nodes, given, [info("y", None)], {"w": np.zeros((4, 9), np.float32)})


def test_an_if_gives_what_its_branches_have_in_common():
    model = choice([node("Neg", ["x"], "t")], [node("MatMul", ["x", "w"], "e")])
    found = inferred(model)
    assert found["t"] == ("N", 4)
    assert found["e"] == ("N", 9)
    assert found["chosen"][0] == "N"
    assert not isinstance(found["chosen"][1], int)


def test_branches_of_different_rank_say_nothing_of_their_if():
    found = inferred(choice([node("Neg", ["x"], "t")], [node("Size", ["w"], "e")]))
    assert found["t"] == ("N", 4)
    assert found["chosen"] is None


def test_branches_that_use_the_same_names_are_not_mistaken_for_each_other():
    then_branch = [node("Neg", ["x"], "inner"), node("Relu", ["inner"], "t")]
    else_branch = [node("MatMul", ["x", "w"], "inner"), node("Relu", ["inner"], "e")]
    model = ir.serde.deserialize_model(choice(then_branch, else_branch))
    shapes.infer(model)
    graphs = {graph.name: graph for graph in model.graphs()}
    assert facts.shape(graphs["then"][0].outputs[0]) == ("N", 4)
    assert facts.shape(graphs["else"][0].outputs[0]) == ("N", 9)


def test_a_branch_that_hands_on_a_value_from_outside():
    model = choice([], [node("Neg", ["x"], "e")], then_output="x")
    assert inferred(model)["chosen"] == ("N", 4)


def test_ifs_within_ifs_learn_and_tell():
    deep = choice([node("Neg", ["x"], "t2")], [node("Exp", ["x"], "e2")], "t2", "e2").graph.node[0]
    deep.output[0] = "deep"
    found = inferred(choice([deep], [node("Abs", ["x"], "e")], then_output="deep"))
    assert found["deep"] == found["chosen"] == found["y"] == ("N", 4)


def test_no_if_holds_a_graph_when_onnx_gets_to_see_it():
    # onnx copies all that it knows for each nested graph: the time would grow with the square.
    model = ir.serde.deserialize_model(choice([node("Neg", ["x"], "t")], [node("Exp", ["x"], "e")]))
    told = declare(model).proto.graph
    assert [n.op_type for n in told.node][-4:] == ["Exp", "SequenceConstruct", "SequenceAt", "Relu"]
    assert not any(attribute.HasField("g") for n in told.node for attribute in n.attribute)
