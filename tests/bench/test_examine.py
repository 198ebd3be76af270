"""Results are counted and compared from the file itself."""

import onnx
from examine import differences, nodes, size
from onnx import TensorProto, helper


def value(name, shape=("batch", 4), kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model(inputs, outputs, graph_nodes=(), initializers=(), functions=()):
    graph = helper.make_graph(graph_nodes, "g", inputs, outputs, initializers)
    return helper.make_model(graph, functions=functions)


def test_nodes_of_branches_and_functions_count():
    inner = helper.make_graph([helper.make_node("Relu", ["x"], ["r"])], "b", [], [value("r")])
    opsets = [helper.make_opsetid("", 20)]
    body = [helper.make_node("Neg", ["a"], ["m"]), helper.make_node("Abs", ["m"], ["b"])]
    function = helper.make_function("own", "f", ["a"], ["b"], body, opsets)
    branch = helper.make_node("If", ["c"], ["y"], then_branch=inner, else_branch=inner)
    found = model([value("x")], [value("y")], [branch], functions=[function])
    assert [node.op_type for node in nodes(found)] == ["If", "Relu", "Relu", "Neg", "Abs"]


def test_same_signature_has_no_differences():
    one = model([value("x"), value("w")], [value("y")])
    assert differences(one, one) == []


def test_initializer_among_the_inputs_is_no_part_of_what_callers_see():
    held = helper.make_tensor("w", TensorProto.FLOAT, [1], [0.0])
    one = model([value("x"), value("w", [1])], [value("y")], initializers=[held])
    assert differences(one, model([value("x")], [value("y")], initializers=[held])) == []


def test_unknown_dimensions_are_alike_however_they_are_written():
    one, two = model([value("x", [None, 4])], []), model([value("x", [-1, 4])], [])
    assert differences(one, two) == []


def test_lost_reordered_renamed_and_retyped_values_are_told():
    one = model([value("a"), value("b")], [value("y")])
    assert differences(one, model([value("a")], [value("y")])) == ["inputs ['a', 'b'] became ['a']"]
    assert differences(one, model([value("b"), value("a")], [value("y")]))
    assert differences(one, model([value("a"), value("b")], [value("y2")]))
    retyped = model([value("a"), value("b", kind=TensorProto.FLOAT16)], [value("y", (1, 4))])
    assert differences(one, retyped) == [
        "inputs b: float[batch,4] became float16[batch,4]",
        "outputs y: float[batch,4] became float[1,4]",
    ]


def test_external_data_count_as_part_of_the_file(tmp_path):
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1000], b"\0" * 4000, raw=True)
    node = helper.make_node("Mul", ["x", "w"], ["y"])
    found = model([value("x", [1000])], [value("y", [1000])], [node], [weight])
    inside, outside = tmp_path / "inside.onnx", tmp_path / "outside.onnx"
    onnx.save(found, inside)
    onnx.save(found, outside, save_as_external_data=True, location="weights")
    assert outside.stat().st_size < 1000
    assert size(outside) >= 4000
    assert size(inside) == inside.stat().st_size
