import numpy as np
import onnx
import onnx.reference
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.errors import ModelError
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import dead, inline
from onnxopt.testing import operators, run
from tests.passes.graphs import CONFIG, info, node, ops
from tests.passes.nested import (
    BOOL,
    INT64,
    assert_exact,
    branch,
    graph,
    model,
    values,
)

X = np.array([-1, 2, -3], np.float32)
V17 = [helper.make_opsetid("", 17)]


def function(name, inputs, outputs, body, attributes=(), defaults=(), opsets=V17, domain="my"):
    made = helper.make_function(domain, name, inputs, outputs, body, opsets, list(attributes))
    made.attribute_proto.extend(defaults)
    return made


def refer(proto, name, parameter, kind):
    """Give a node an attribute that stands for a parameter of the function around it."""
    added = proto.attribute.add(name=name, type=kind)
    added.ref_attr_name = parameter
    return proto


def call(name, inputs, outputs, **attributes):
    return helper.make_node(
        name, inputs, [outputs] if isinstance(outputs, str) else outputs,
        name=f"call_{name}_{outputs[0]}", domain=attributes.pop("domain", "my"), **attributes,
    )  # fmt: skip


def test_functions_that_call_functions_are_inlined_and_gone():
    negate = function("negate", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"], name="n")])
    twice = function(
        "twice", ["a"], ["b"],
        [helper.make_node("negate", ["a"], ["m"], domain="my"),
         helper.make_node("negate", ["m"], ["b"], domain="my")],
        opsets=[*V17, helper.make_opsetid("my", 1)],
    )  # fmt: skip
    nodes = [call("twice", ["x"], "m"), call("twice", ["m"], "n"), node("Relu", ["n"], "y")]
    proto = model(nodes, ["x"], ["y"], functions=[twice, negate], domains=["my"])
    result, done = assert_exact(proto, inline)
    assert done == {"inline_functions": 6, "remove_dead_functions": 2}
    assert ops(result) == ["Neg"] * 4 + ["Relu"]
    assert not result.functions
    assert [entry.domain for entry in result.opset_import] == [""]
    assert len(set(values(result))) == 5
    assert [n.output[0] for n in result.graph.node][1::2] == ["m", "n"]
    assert all(n.name.startswith("call_twice_") for n in result.graph.node[:4])


def test_attributes_come_from_the_call_or_the_default_or_are_left_out():
    leaky = refer(helper.make_node("LeakyRelu", ["a"], ["l"]), "alpha", "slope", 1)
    cast = refer(helper.make_node("ReduceSum", ["l"], ["b"]), "keepdims", "keep", 2)
    quiet = refer(helper.make_node("Elu", ["b"], ["e"]), "alpha", "missing", 1)
    body = function(
        "body", ["a"], ["e"], [leaky, cast, quiet], ["slope", "missing"],
        [helper.make_attribute("keep", 0)],
    )  # fmt: skip
    nodes = [
        call("body", ["x"], "p", slope=0.5),
        call("body", ["x"], "q", slope=0.25, keep=1, missing=2.0),
        node("Add", ["p", "q"], "y"),
    ]
    proto = model(nodes, ["x"], [info("y", [1])], functions=[body], domains=["my"])
    result, done = assert_exact(proto, inline, feeds=[{"x": X}])
    assert done["inline_functions"] == 2
    found = [{a.name: helper.get_attribute_value(a) for a in n.attribute} for n in
             result.graph.node]  # fmt: skip
    assert found[:3] == [{"alpha": 0.5}, {"keepdims": 0}, {}]
    assert found[3:6] == [{"alpha": 0.25}, {"keepdims": 1}, {"alpha": 2.0}]


def test_attributes_reach_nested_graphs_and_inner_calls():
    inner = refer(helper.make_node("Elu", ["a"], ["b"]), "alpha", "slope", 1)
    elu = function("elu", ["a"], ["b"], [inner], ["slope"])
    then = refer(helper.make_node("elu", ["a"], ["t"], domain="my"), "slope", "alpha", 1)
    chosen = branch(
        "c", "b", graph([then], ["t"]), graph([helper.make_node("Abs", ["a"], ["e"])], ["e"])
    )
    outer = function(
        "outer", ["a", "c"], ["b"], [chosen], ["alpha"],
        opsets=[*V17, helper.make_opsetid("my", 1)],
    )  # fmt: skip
    proto = model(
        [call("outer", ["x", "c"], "y", alpha=0.5)], ["x", info("c", [], BOOL)], ["y"],
        functions=[outer, elu], domains=["my"],
    )  # fmt: skip
    feeds = [{"x": X, "c": np.array(flag)} for flag in (True, False)]
    result, done = assert_exact(proto, inline, feeds=feeds)
    assert done["inline_functions"] == 2
    assert operators(result) == {"If": 1, "Elu": 1, "Abs": 1}


def looped():
    """Return a function with a Loop whose body uses the commonest of names."""
    body = helper.make_graph(
        [helper.make_node("Add", ["v", "k"], ["w"]), helper.make_node("Identity", ["c"], ["d"])],
        "x",
        [info("i", [], INT64), info("c", [], BOOL), info("v", [3])],
        [info("d", [], BOOL), info("w", [3])],
        [numpy_helper.from_array(np.ones(3, np.float32), "k")],
    )
    trips = helper.make_node(
        "Constant", [], ["n"], value=numpy_helper.from_array(np.array(2, np.int64))
    )
    loop = helper.make_node("Loop", ["n", "", "x"], ["y"], body=body, name="loop")
    return function("looped", ["x"], ["y"], [trips, loop])


def test_names_never_collide_with_those_around_or_inside():
    nodes = [
        node("Neg", ["x"], "v"),
        node("Abs", ["x"], "w"),
        branch(
            "c", "b",
            graph([call("looped", ["v"], "y1")], ["y1"]),
            graph([node("Sub", ["v", "w"], "n"), call("looped", ["n"], "e")], ["e"]),
        ),
        call("looped", ["b"], "k"),
        node("Add", ["k", "i"], "y"),
    ]  # fmt: skip
    proto = model(
        nodes, ["x", info("c", [], BOOL), "i"], ["y"], functions=[looped()], domains=["my"]
    )
    loaded = ir.serde.deserialize_model(proto)
    assert inline.run(Editor(loaded), CONFIG)["inline_functions"] == 3
    result = ir.serde.serialize_model(loaded)
    onnx.checker.check_model(result, full_check=True)
    assert not result.functions
    for flag, chosen in ((True, -X), (False, -X - abs(X))):
        # onnxruntime's own inlining fails on the original: what it should give is plain.
        got = run(result, {"x": X, "i": X, "c": np.array(flag)})
        np.testing.assert_array_equal(got[0], chosen + 4 + X)


def test_a_function_that_hands_an_input_through_renames_no_input():
    through = function("through", ["a", "b"], ["b", "a", "a"], [])
    nodes = [call("through", ["x", "z"], ["p", "q", "r"]), node("Neg", ["r"], "s")]
    proto = model(nodes, ["x", "z"], ["p", "q", "r", "s"], functions=[through], domains=["my"])
    loaded = ir.serde.deserialize_model(proto)
    assert inline.run(Editor(loaded), CONFIG)["inline_functions"] == 1
    result = ir.serde.serialize_model(loaded)
    # onnxruntime refuses a function without nodes: what it should give is plain.
    assert [v.name for v in result.graph.input] == ["x", "z"]
    assert [v.name for v in result.graph.output] == ["p", "q", "r", "s"]
    onnx.checker.check_model(result, full_check=True)
    got = onnx.reference.ReferenceEvaluator(result).run(None, {"x": X, "z": X + 1})
    for found, want in zip(got, [X + 1, X, X, -X], strict=True):
        np.testing.assert_array_equal(found, want)


def test_one_result_given_twice_gives_two_outputs():
    double = function("double", ["a"], ["b", "b"], [helper.make_node("Neg", ["a"], ["b"])])
    proto = model(
        [call("double", ["x"], ["p", "q"])], ["x"], ["p", "q"], functions=[double], domains=["my"]
    )
    loaded = ir.serde.deserialize_model(proto)
    inline.run(Editor(loaded), CONFIG)
    result = ir.serde.serialize_model(loaded)
    assert [v.name for v in result.graph.output] == ["p", "q"]
    assert ops(result) == ["Neg", "Identity"]


def test_inputs_and_outputs_may_be_left_out():
    body = [
        helper.make_node("Clip", ["a", "low", "high"], ["b"]),
        helper.make_node("Neg", ["a"], ["c"]),
    ]
    clip = function("clip", ["a", "low", "high"], ["b", "c"], body)
    nodes = [
        call("clip", ["x", "", "k"], ["p"]),
        call("clip", ["x"], ["", "q"]),
        node("Add", ["p", "q"], "y"),
    ]
    proto = model(nodes, ["x"], ["y"], {"k": np.float32(1)}, functions=[clip], domains=["my"])
    loaded = ir.serde.deserialize_model(proto)  # onnxruntime fails on a call with fewer outputs
    for module in (inline, dead):
        module.run(Editor(loaded), CONFIG)
    result = ir.serde.serialize_model(loaded)
    assert sorted(ops(result)) == ["Add", "Clip", "Neg"]
    np.testing.assert_array_equal(run(result, {"x": X})[0], np.minimum(X, 1) - X)


def test_a_body_of_another_operator_set_is_inlined_only_if_it_means_the_same():
    v18 = [helper.make_opsetid("", 18)]
    same = function("same", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])], opsets=v18)
    other = function(
        "other", ["a"], ["b"],
        [helper.make_node("ReduceMean", ["a"], ["m"], axes=[0]),
         helper.make_node("Sub", ["a", "m"], ["b"])],
    )  # fmt: skip
    nodes = [call("same", ["x"], "m"), call("other", ["m"], "y")]
    proto = model(nodes, ["x"], ["y"], functions=[same, other], domains=["my"], opset=18)
    loaded = ir.serde.deserialize_model(proto)
    done = inline.run(Editor(loaded), CONFIG)
    assert done == {"inline_functions": 1, "remove_dead_functions": 1}
    assert [n.op_type for n in loaded.graph] == ["Neg", "other"]


def test_operators_of_domains_nobody_knows_need_the_same_version():
    body = [helper.make_node("Strange", ["a"], ["b"], domain="far")]
    opsets = [*V17, helper.make_opsetid("far", 2)]
    strange = function("strange", ["a"], ["b"], body, opsets=opsets)
    for version, inlined in ((1, False), (2, True), (None, True)):
        proto = model([call("strange", ["x"], "y")], ["x"], ["y"], functions=[strange],
                      domains=["my"])  # fmt: skip
        if version:
            proto.opset_import.append(helper.make_opsetid("far", version))
        loaded = ir.serde.deserialize_model(proto)
        assert bool(inline.run(Editor(loaded), CONFIG)) == inlined
        assert loaded.opset_imports["far"] == (1 if version == 1 else 2)


def test_functions_that_runtimes_have_a_kernel_for_stay():
    body = [helper.make_node("Neg", ["a"], ["b"])]  # onnxruntime never looks at it
    gelu = function("Gelu", ["a"], ["b"], body, domain="com.microsoft")
    relu = function("Relu", ["a"], ["b"], body, domain="")
    nodes = [call("Gelu", ["x"], "m", domain="com.microsoft"), call("Relu", ["m"], "y", domain="")]
    proto = model(nodes, ["x"], ["y"], functions=[gelu, relu], domains=["com.microsoft"])
    result, done = assert_exact(proto, inline, check=False)
    assert not done
    assert len(result.functions) == 2


def test_a_circle_of_functions_is_refused_in_words():
    first = function("first", ["a"], ["b"], [helper.make_node("second", ["a"], ["b"], domain="my")])
    second = function(
        "second", ["a"], ["b"], [helper.make_node("first", ["a"], ["b"], domain="my")]
    )
    proto = model([call("first", ["x"], "y")], ["x"], ["y"], functions=[first, second],
                  domains=["my"])  # fmt: skip
    loaded = ir.serde.deserialize_model(proto)
    with pytest.raises(ModelError, match=r"in a circle: my::\w+ → my::\w+ → my::\w+"):
        inline.run(Editor(loaded), CONFIG)


def test_calls_within_calls_do_not_explode():
    functions = [function("f0", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])])]
    for level in range(1, 40):
        below = f"f{level - 1}"
        body = [helper.make_node(below, ["a"], ["m"], domain="my"),
                helper.make_node(below, ["m"], ["b"], domain="my")]  # fmt: skip
        functions.append(function(f"f{level}", ["a"], ["b"], body))
    proto = model([call("f39", ["x"], "y")], ["x"], ["y"], functions=functions, domains=["my"])
    loaded = ir.serde.deserialize_model(proto)
    assert not inline.run(Editor(loaded), CONFIG)
    assert len(loaded.functions) == 40


def test_overloads_are_told_apart():
    functions = [
        function("f", ["a"], ["b"], [helper.make_node(op_type, ["a"], ["b"])])
        for op_type in ("Neg", "Exp")
    ]
    functions[0].overload, functions[1].overload = "n", "e"
    nodes = [call("f", ["x"], "m"), call("f", ["m"], "y")]
    nodes[0].overload, nodes[1].overload = "n", "e"
    proto = model(nodes, ["x"], ["y"], functions=functions, domains=["my"])
    proto.ir_version = 10
    result, _ = assert_exact(proto, inline)
    assert ops(result) == ["Neg", "Exp"]


def test_a_graph_handed_to_a_function_leaves_the_call_alone():
    chosen = helper.make_node("If", ["c"], ["b"])
    refer(chosen, "then_branch", "then", onnx.AttributeProto.GRAPH)
    refer(chosen, "else_branch", "then", onnx.AttributeProto.GRAPH)
    body = function("choose", ["c"], ["b"], [chosen], ["then"])
    given = graph([node("Neg", ["x"], "t")], ["t"])
    proto = model(
        [call("choose", ["c"], "y", then=given)], ["x", info("c", [], BOOL)], ["y"],
        functions=[body], domains=["my"],
    )  # fmt: skip
    loaded = ir.serde.deserialize_model(proto)
    assert not inline.run(Editor(loaded), CONFIG)


def test_metadata_of_the_call_goes_to_its_nodes_and_unused_functions_go():
    unused = function("unused", ["a"], ["b"], [helper.make_node("Exp", ["a"], ["b"])])
    used = function("used", ["a"], ["b"], [helper.make_node("Neg", ["a"], ["b"])])
    proto = model([call("used", ["x"], "y")], ["x"], ["y"], functions=[unused, used],
                  domains=["my"])  # fmt: skip
    proto.graph.node[0].metadata_props.add(key="namespace", value="encoder")
    result, done = assert_exact(proto, inline)
    assert done == {"inline_functions": 1, "remove_dead_functions": 2}
    assert [(p.key, p.value) for p in result.graph.node[0].metadata_props] == [
        ("namespace", "encoder")
    ]


def test_types_in_a_body_count_only_where_they_cannot_mislead():
    body = function(
        "f", ["a"], ["c"],
        [helper.make_node("Neg", ["a"], ["b"]), helper.make_node("Abs", ["b"], ["c"])],
    )  # fmt: skip
    body.value_info.append(helper.make_tensor_value_info("b", TensorProto.FLOAT, [3]))
    nodes = [call("f", ["x"], "p"), call("f", ["z"], "q")]
    inputs = ["x", info("z", [5])]
    proto = model(nodes, inputs, ["p", info("q", [5])], functions=[body], domains=["my"])
    proto.ir_version = 10
    result, _ = assert_exact(proto, inline)
    assert not result.graph.value_info
    once = model(nodes[:1], ["x"], ["p"], functions=[body], domains=["my"])
    once.ir_version = 10
    result, _ = assert_exact(once, inline)
    assert len(result.graph.value_info) == 1
