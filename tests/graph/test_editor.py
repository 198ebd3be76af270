import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import RULE_KEY, Editor, is_dead
from tests.passes.graphs import info, node
from tests.passes.nested import BOOL, branch, graph, model

K = np.array([4, 5, 6], np.float32)
CONDITION = info("c", [], BOOL)


def edit(nodes, inputs, outputs, constants=None, **options):
    loaded = ir.serde.deserialize_model(model(nodes, inputs, outputs, constants, **options))
    return Editor(loaded), loaded.graph


def valid(editor):
    proto = ir.serde.serialize_model(editor.model)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def nested(node):
    return list(facts.nested_graphs(node))


def test_fresh_names_are_free_everywhere_and_stay_close():
    then = graph([node("Neg", ["x"], "inner")], ["inner"])
    other = graph([node("Mul", ["x", "w"], "e")], ["e"], constants={"w": K})
    editor, _ = edit([branch("c", "y", then, other)], ["x", CONDITION], ["y"])
    assert editor.fresh("new") == "new"
    assert editor.fresh("new") == "new_1"
    assert editor.fresh("inner") == "inner_1"
    assert editor.fresh("w") == "w_1"
    assert editor.fresh("x") == "x_1"
    assert editor.fresh("node_inner") == "node_inner_1"
    assert editor.fresh("") == "value"


def test_a_constant_is_an_initializer_or_in_a_function_a_node():
    body = [helper.make_node("Neg", ["a"], ["b"], name="neg")]
    f = helper.make_function("my", "f", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    editor, main = edit(
        [node("f", ["x"], "y", domain="my")], ["x"], ["y"], functions=[f], domains=["my"]
    )
    held = editor.constant(K, "k", main[0])
    assert held.is_initializer()
    function = next(iter(editor.model.functions.values())).graph
    made = editor.constant(K, "k", function[0])
    assert made.producer().op_type == "Constant"
    assert [n.op_type for n in function] == ["Constant", "Neg"]
    assert not editor.holds_initializers(function)


def test_inserted_nodes_are_named_and_credited_and_told_of():
    editor, main = edit([node("Neg", ["x"], "y")], ["x"], ["y"])
    made = ir.node("Exp", [main.inputs[0]])
    told = []
    with editor.on_change(told.append), editor.on_behalf_of("some_rule"):
        editor.insert([made], main[0])
        editor.set_input(main[1], 0, made.outputs[0])
    assert told == [made, main[1]]
    assert (made.name, made.outputs[0].name) == ("node_y/Exp", "node_y/Exp_output")
    assert made.metadata_props == {RULE_KEY: "some_rule"}
    editor.set_attribute(made, "alpha", 1.0)
    editor.set_attribute(made, "alpha", None)
    assert len(told) == 2
    assert not made.attributes


def test_an_output_keeps_name_type_and_shape_whatever_takes_its_place():
    nodes = [node("Neg", ["x"], "a"), node("Abs", ["a"], "y")]
    editor, main = edit(nodes, ["x"], [info("y", ["N"])])
    old, new = main[1].outputs[0], main[0].outputs[0]
    editor.replace(old, new)
    editor.erase(main[1])
    assert main.outputs[0] is new
    assert (new.name, str(new.shape)) == ("y", "[N]")
    valid(editor)


@pytest.mark.parametrize("taken", ["x", "p", "k"])
def test_what_cannot_be_an_output_is_copied_into_one(taken):
    nodes = [node("Neg", ["x"], "p"), node("Abs", ["x"], "y")]
    editor, main = edit(nodes, ["x"], ["p", "y"], {"k": K})
    known = {"x": main.inputs[0], "p": main[0].outputs[0], "k": main.initializers["k"]}
    editor.replace(main[1].outputs[0], known[taken])
    editor.erase(main[2])
    assert [n.op_type for n in main] == ["Neg", "Identity"]
    assert [v.name for v in (*main.inputs, *main.outputs)] == ["x", "p", "y"]
    assert known[taken].name == taken
    valid(editor)


def test_the_output_of_a_branch_is_copied_in_from_outside():
    then = graph([node("Neg", ["a"], "t")], ["t"])
    other = graph([node("Exp", ["a"], "e")], ["e"])
    nodes = [node("Abs", ["x"], "a"), branch("c", "y", then, other)]
    editor, main = edit(nodes, ["x", CONDITION], ["y"])
    inner = nested(main[1])[0]
    editor.replace(inner[0].outputs[0], main[0].outputs[0])
    editor.erase(inner[1])
    assert [n.op_type for n in inner] == ["Identity"]
    valid(editor)


def test_a_name_goes_over_where_asked_and_to_what_a_rule_made():
    nodes = [node("Neg", ["x"], "a"), node("Exp", ["x"], "b"), node("Abs", ["a"], "y")]
    editor, main = edit(nodes, ["x"], ["y"])
    a, b = main[0].outputs[0], main[1].outputs[0]
    editor.replace(a, b)
    assert (a.name, b.name) == ("a", "b")
    editor.replace(b, a, named=True)
    assert a.name == "b"
    assert b.name != "b"
    made = ir.node("Sin", [main.inputs[0]])
    with editor.on_behalf_of("rule"):
        editor.insert([made], main[0])
    editor.replace(a, made.outputs[0])
    assert made.outputs[0].name == "b"


def test_erasing_takes_along_what_only_the_node_and_its_branches_had_read():
    then = graph([node("Mul", ["a", "k"], "t")], ["t"])
    other = graph([node("Mul", ["b", "w"], "e")], ["e"], constants={"w": K})
    nodes = [
        node("Neg", ["x"], "a"),
        node("Abs", ["x"], "b"),
        branch("c", "i", then, other),
        node("Exp", ["i"], "unread"),
        node("Sin", ["b"], "y"),
    ]
    editor, main = edit(nodes, ["x", CONDITION], ["y"], {"k": K})
    assert not is_dead(main[2])
    assert editor.erase(main[2]) == 0
    assert editor.erase(main[3]) == 3
    assert [n.op_type for n in main] == ["Abs", "Sin"]
    assert not main.initializers
    valid(editor)


def test_initializers_that_someone_sees_stay():
    nodes = [node("Sum", ["x", "read"], "y")]
    held = {"read": K, "input": K, "output": K, "unread": K}
    editor, main = edit(nodes, ["x", "input"], ["y", "output"], held)
    gone = [editor.drop_initializer(value) for value in list(main.initializers.values())]
    assert gone == [False, False, False, True]
    assert not editor.drop_initializer(main.inputs[0])


def test_splice_moves_a_branch_out_with_its_initializers():
    then = graph([node("Mul", ["x", "w"], "t")], ["t", "w"], constants={"w": K})
    other = graph([node("Mul", ["x", "w"], "e")], ["e", "w"], constants={"w": K})
    nodes = [branch("c", ["p", "q"], then, other), node("Add", ["p", "q"], "y")]
    editor, main = edit(nodes, ["x", CONDITION], ["y"])
    graphs = {g[0].outputs[0].name: g for g in nested(main[0])}
    told = []
    with editor.on_change(told.append):
        results = editor.splice(graphs["t"], main[0])
    assert [n.op_type for n in told] == ["Mul"]
    assert [value.name for value in results] == ["t", "w_1"]
    assert list(main.initializers) == ["w_1"]
    assert not graphs["t"].outputs
    assert len(graphs["t"]) == 0
    for old, new in zip(main[1].outputs, results, strict=True):
        editor.replace(old, new)
    editor.erase(main[1])
    assert [n.op_type for n in main] == ["Mul", "Add"]
    valid(editor)


def test_hoist_moves_an_initializer_outwards_under_a_free_name():
    branches = [
        graph([node(op_type, ["x", "w"], name)], [name], constants={"w": K})
        for op_type, name in (("Mul", "t"), ("Div", "e"))
    ]
    editor, main = edit([branch("c", "y", *branches)], ["x", CONDITION], ["y"])
    for inner in nested(main[0]):
        editor.hoist(inner.initializers["w"], main)
    assert sorted(main.initializers) == ["w_1", "w_2"]
    valid(editor)


def test_rebuild_keeps_graphs_names_and_readers():
    branches = [
        graph([node(a, ["x"], f"{a}1"), node(b, ["x"], f"{b}2")], [f"{a}1", f"{b}2"])
        for a, b in (("Neg", "Abs"), ("Sin", "Cos"))
    ]
    editor, main = edit(
        [branch("c", ["p", "q"], *branches), node("Exp", ["q"], "y")], ["x", CONDITION], ["y"]
    )
    old = main[0]
    for inner in nested(old):
        inner.outputs.pop(0)
        editor.sweep(inner)
    made = editor.rebuild(old, inputs=old.inputs, outputs=[old.outputs[1]])
    assert (made.name, made.outputs[0].name, str(made.outputs[0].shape)) == (
        "if_p", "q", str(old.outputs[1].shape),
    )  # fmt: skip
    assert old.graph is None
    assert [len(inner) for inner in nested(made)] == [1, 1]
    valid(editor)


def test_outputs_are_left_out_in_the_middle_and_at_the_end():
    editor, main = edit([node("Split", ["x"], ["a", "b", "d"])], ["x"], [info("a", [1])])
    a, b, d = main[0].outputs
    editor.omit(b)
    assert [v.name for v in main[0].outputs] == ["a", "", "d"]
    editor.omit(d)
    assert list(main[0].outputs) == [a]


def test_operator_sets_are_those_in_force_in_a_graph():
    body = [helper.make_node("Neg", ["a"], ["b"])]
    f = helper.make_function("my", "f", ["a"], ["b"], body, [helper.make_opsetid("", 13)])
    editor, main = edit(
        [node("f", ["x"], "y", domain="my")], ["x"], ["y"], functions=[f], domains=["my"]
    )
    function = next(iter(editor.model.functions.values())).graph
    assert (editor.opset(main), editor.opset(function), editor.opset(None)) == (17, 13, 17)
    assert (editor.opset(main, "my"), editor.opset(function, "my")) == (1, 0)
    editor.import_opset(function, "far", 3)
    assert editor.opset(function, "far") == 3
    assert editor.opset(main, "far") == 0


def test_types_that_only_the_new_value_knows_survive():
    then = graph([node("Shape", ["x"], "s"), node("Cast", ["s"], "t", to=TensorProto.FLOAT)], ["t"])
    other = graph([node("Exp", ["x"], "e")], ["e"])
    editor, main = edit([branch("c", "y", then, other)], ["x", CONDITION], [info("y", None)])
    inner = next(g for g in nested(main[0]) if len(g) == 2)
    inner.outputs[0].type = None
    made = ir.node("Neg", [main.inputs[0]])
    made.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
    editor.insert([made], inner[0])
    editor.replace(inner.outputs[0], made.outputs[0])
    assert inner.outputs[0].dtype == ir.DataType.FLOAT


def test_a_node_can_be_rebuilt_with_an_output_more():
    editor, main = edit([node("Split", ["x"], "y")], ["x"], ["y"])
    old = main[0]
    made = editor.rebuild(old, inputs=old.inputs, outputs=[*old.outputs, None])
    assert list(main) == [made]
    assert [value.name for value in made.outputs] == ["y", f"{made.name}_output"]
    assert main.outputs[0] is made.outputs[0]
