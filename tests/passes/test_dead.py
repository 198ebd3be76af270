import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import dead, shapes
from onnxopt.testing import operators, run
from tests.passes.graphs import CONFIG, apply, info, model_of, node, ops
from tests.passes.nested import (
    BOOL,
    CONDITION,
    EITHER,
    INT64,
    K,
    X,
    assert_exact,
    branch,
    graph,
    initializers,
    loop,
    model,
    scan,
    values,
)

# nodes and initializers


def test_what_nobody_reads_goes_and_inputs_and_outputs_stay():
    nodes = [
        node("Exp", ["x"], "a"),
        node("Add", ["a", "k"], "b"),
        node("Split", ["x"], ["p", "q", "r"]),
        node("Neg", ["p"], "y"),
    ]
    proto = model(nodes, ["x", "unread"], [info("y", [1]), "shown"], {"k": K, "l": K, "shown": K})
    result, done = assert_exact(proto, dead, feeds=[{"x": X, "unread": X}])
    assert done == {"remove_dead_nodes": 2, "remove_dead_initializers": 1}
    assert ops(result) == ["Split", "Neg"]
    assert initializers(result) == ["shown"]


def test_a_default_that_the_caller_can_override_stays():
    proto = model([node("Neg", ["x"], "y")], ["x", "k"], ["y"], {"k": K})
    result, done = assert_exact(proto, dead)
    assert not done
    assert initializers(result) == ["k"]


def test_what_a_dead_branch_captured_dies_with_it():
    inner = branch("d", "i", graph([node("Mul", ["a", "k"], "t")], ["t"]),
                   graph([node("Add", ["b", "l"], "e")], ["e"], constants={"l": K}))  # fmt: skip
    nodes = [
        node("Exp", ["x"], "a"),
        node("Neg", ["x"], "b"),
        node("Not", ["c"], "d"),
        branch("c", "o", graph([inner], ["i"]), graph([node("Abs", ["a"], "u")], ["u"])),
        node("Relu", ["x"], "y"),
    ]
    result, done = assert_exact(model(nodes, ["x", CONDITION], ["y"], {"k": K}), dead, feeds=EITHER)
    assert ops(result) == ["Relu"]
    assert not initializers(result)
    assert done["remove_dead_nodes"] == 4


def test_dead_parts_inside_a_living_branch_go_and_free_what_they_captured():
    then = graph(
        [node("Mul", ["a", "k"], "unread"), node("Neg", ["x"], "t")], ["t"], constants={"l": K}
    )
    nodes = [
        node("Exp", ["x"], "a"),
        branch("c", "y", then, graph([node("Abs", ["x"], "e")], ["e"])),
    ]
    result, done = assert_exact(model(nodes, ["x", CONDITION], ["y"], {"k": K}), dead, feeds=EITHER)
    assert done == {"remove_dead_nodes": 2, "remove_dead_initializers": 1}
    assert operators(result) == {"If": 1, "Neg": 1, "Abs": 1}


def test_a_node_without_outputs_is_there_for_its_side_effect():
    loaded = ir.serde.deserialize_model(
        model(
            [
                node("Exp", ["x"], "a"),
                helper.make_node("Print", ["a"], [], domain="far"),
                node("Strange", ["x"], "b", domain="far"),
                node("Neg", ["x"], "y"),
            ],
            ["x"], ["y"], domains=["far"],
        )
    )  # fmt: skip
    assert dead.run(Editor(loaded), CONFIG) == {"remove_dead_nodes": 1}
    assert [n.op_type for n in loaded.graph] == ["Exp", "Print", "Neg"]


def test_functions_never_called_go_and_bodies_are_swept():
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("my", 1)]
    unused = helper.make_function(
        "other", "unused", ["a"], ["b"], [helper.make_node("used", ["a"], ["b"], domain="my")],
        opsets,
    )  # fmt: skip
    body = [helper.make_node("Exp", ["a"], ["unread"]), helper.make_node("Neg", ["a"], ["b"])]
    used = helper.make_function("my", "used", ["a"], ["b"], body, opsets)
    proto = model([node("used", ["x"], "y", domain="my")], ["x"], ["y"],
                  functions=[unused, used], domains=["my", "other"])  # fmt: skip
    result, done = assert_exact(proto, dead)
    assert done == {"remove_dead_nodes": 1, "remove_dead_functions": 1}
    assert [f.name for f in result.functions] == ["used"]
    assert [n.op_type for n in result.functions[0].node] == ["Neg"]
    assert [entry.domain for entry in result.opset_import] == ["", "my"]


# optional outputs


def recurrent(read):
    rng = np.random.default_rng(0)
    constants = {"w": rng.standard_normal((1, 8, 3)), "r": rng.standard_normal((1, 8, 2))}
    constants = {name: array.astype(np.float32) for name, array in constants.items()}
    shapes = {"Y": [4, 1, 1, 2], "Yh": [1, 1, 2], "Yc": [1, 1, 2]}
    nodes = [node("LSTM", ["s", "w", "r"], list(shapes), hidden_size=2)]
    outputs = [info(name, shapes[name]) for name in read]
    return model(nodes, [info("s", [4, 1, 3])], outputs, constants)


@pytest.mark.parametrize(
    ("read", "left"),
    [(["Y"], ["Y"]), (["Yc"], ["", "", "Yc"]), (["Y", "Yh"], ["Y", "Yh"])],
)
def test_outputs_of_lstm_that_nobody_reads_are_left_out(read, left):
    result, done = assert_exact(recurrent(read), dead)
    assert list(result.graph.node[0].output) == left
    assert done == {"omit_outputs": 3 - len(read)}


def test_masks_and_indices_that_nobody_reads_are_left_out():
    nodes = [
        node("MaxPool", ["i"], ["m", "indices"], kernel_shape=[2]),
        node("Dropout", ["m"], ["y", "mask"]),
    ]
    proto = model(nodes, [info("i", [1, 2, 4])], [info("y", [1, 2, 3])])
    result, done = assert_exact(proto, dead)
    assert done == {"omit_outputs": 2}
    assert [len(n.output) for n in result.graph.node] == [1, 1]


@pytest.mark.parametrize(("opset", "training", "left"), [(17, 0, 1), (17, 1, 3), (13, None, 5)])
def test_outputs_of_batchnormalization_go_only_where_they_do_not_tell_the_mode(
    opset, training, left
):
    outputs = ["y", "m", "v", "sm", "sv"] if opset < 14 else ["y", "m", "v"]
    attributes = {} if training is None else {"training_mode": training}
    nodes = [node("BatchNormalization", ["x", "k", "k", "k", "k"], outputs, **attributes)]
    shape = [1, 3, 2]
    proto = model(nodes, [info("x", shape)], [info("y", shape)], {"k": K}, opset=opset)
    loaded = ir.serde.deserialize_model(proto)
    dead.run(Editor(loaded), CONFIG)
    assert len(loaded.graph[0].outputs) == left


# If


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("shape", [(), (1,)])
def test_a_constant_condition_leaves_the_branch_in_place(taken, shape):
    nodes = [
        node("Exp", ["x"], "a"),
        node("Neg", ["x"], "b"),
        branch(
            "k", ["p", "q"],
            graph([node("Mul", ["a", "w"], "t")], ["t", "w"], constants={"w": K}),
            graph([node("Mul", ["b", "w"], "e")], ["e", "w"], constants={"w": K + 1}),
        ),
        node("Add", ["p", "q"], "y"),
    ]  # fmt: skip
    proto = model(nodes, ["x"], ["y", "q"], {"k": np.full(shape, taken)})
    result, done = assert_exact(proto, dead, feeds=[{"x": X}])
    assert done["take_constant_branch"] == 1
    assert ops(result) == ["Exp" if taken else "Neg", "Mul", "Identity", "Add"]
    assert len(initializers(result)) == 1


def test_nested_constant_branches_are_taken_all_the_way():
    innermost = branch(
        "no", "i", graph([node("Exp", ["x"], "u")], ["u"]), graph([node("Abs", ["a"], "v")], ["v"])
    )
    outer = graph([node("Neg", ["x"], "a"), innermost, node("Mul", ["i", "a"], "t")], ["t"])
    other = graph([node("Sqrt", ["b"], "e")], ["e"])
    nodes = [node("Sin", ["x"], "b"), branch("yes", "y", outer, other)]
    constants = {"yes": np.array(True), "no": np.array(False)}
    result, done = assert_exact(model(nodes, ["x"], ["y"], constants), dead, feeds=[{"x": X}])
    assert done["take_constant_branch"] == 2
    assert ops(result) == ["Neg", "Abs", "Mul"]
    assert not initializers(result)


def test_names_of_a_branch_that_moves_out_clash_with_nothing():
    # 'n' also lives in both branches of the If that stays, 'w' in the branch that goes.
    def clashing(op_type, out):
        return graph(
            [node(op_type, ["x"], "n"), node("Mul", ["n", "w"], out)], [out], constants={"w": K}
        )

    nodes = [
        branch("k", "p", clashing("Neg", "t"), clashing("Abs", "e")),
        branch("c", "q", clashing("Sin", "t2"), clashing("Cos", "e2")),
        node("Add", ["p", "q"], "y"),
    ]
    proto = model(nodes, ["x", CONDITION], ["y"], {"k": np.array(True)})
    result, _ = assert_exact(proto, dead, feeds=EITHER)
    assert ops(result) == ["Neg", "Mul", "If", "Add"]
    assert not {"n", "w"} & set(values(result))


def test_a_condition_that_the_caller_can_override_is_not_constant():
    nodes = [
        branch("c", "y", graph([node("Exp", ["x"], "t")], ["t"]),
               graph([node("Abs", ["x"], "e")], ["e"])),
    ]  # fmt: skip
    proto = model(nodes, ["x", CONDITION], ["y"], {"c": np.array(True)})
    _, done = assert_exact(proto, dead, feeds=EITHER)
    assert not done


def test_branches_that_compute_the_same_become_one():
    def same(prefix, op_type="Mul", factor=K):
        inner = graph([node("Neg", ["a"], f"{prefix}i")], [f"{prefix}i"])
        other = graph([node("Abs", [f"{prefix}m"], f"{prefix}j")], [f"{prefix}j"])
        nodes = [
            node(op_type, ["a", f"{prefix}w"], f"{prefix}m"),
            branch("c", f"{prefix}o", inner, other),
        ]
        return graph(nodes, [f"{prefix}o"], constants={f"{prefix}w": factor})

    for changes, merged in (({}, True), ({"op_type": "Div"}, False), ({"factor": K + 1}, False)):
        nodes = [node("Exp", ["x"], "a"), branch("d", "y", same("t"), same("e", **changes))]
        proto = model(nodes, ["x", CONDITION, info("d", [], BOOL)], ["y"])
        feeds = [{"x": X, "c": np.array(i > 1), "d": np.array(i % 2 > 0)} for i in range(4)]
        result, done = assert_exact(proto, dead, feeds=feeds)
        assert done == ({"merge_equal_branches": 1} if merged else {})
        assert len(ops(result)) == (3 if merged else 2)


def squeezed_for_an_lstm(last, *, guarded=True):
    """Write what PyTorch's exporter does with `squeeze(-1)` in front of an LSTM cell."""
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((1, 8, 3)), "r": rng.standard_normal((1, 8, 2))}
    constants = {name: array.astype(np.float32) for name, array in weights.items()}
    constants |= {"last": np.array([-1]), "first": np.array([0]), "two": np.array(2)}
    constants |= {"one": np.array([1]), "place": np.array([2])}
    squeeze = branch(
        "single", "flat",
        graph([node("Squeeze", ["x", "last"], "t")], [info("t", None)]),
        graph([node("Identity", ["x"], "e")], [info("e", None)]),
    )  # fmt: skip
    widen = branch(
        "many", "wide",
        graph([node("Unsqueeze", ["h", "one"], "t2")], [info("t2", None)]),
        graph([node("Identity", ["h"], "e2")], [info("e2", None)]),
    )  # fmt: skip
    nodes = [
        node("Shape", ["x"], "sizes"), node("Gather", ["sizes", "place"], "size"),
        node("Equal", ["size", "one"], "single"), squeeze,
        node("Shape", ["flat"], "flat_sizes"), node("Size", ["flat_sizes"], "rank"),
        node("Equal", ["rank", "two"], "is_flat"), node("Not", ["is_flat"], "many"), widen,
        node("Unsqueeze", ["flat", "first"], "sequence"),
        node("Unsqueeze", ["wide", "first"], "h3"),
        node("LSTM", ["sequence", "w", "r", "", "", "h3"], ["", "y"], hidden_size=2),
    ]  # fmt: skip
    if not guarded:
        nodes[-3:] = [node("Exp", ["flat"], "y"), node("Exp", ["wide"], "z")]
    outputs = [info("y", None)] + ([] if guarded else [info("z", None)])
    inputs = [info("x", ["n", 3, last]), info("h", ["n", 2])]
    return model(nodes, inputs, outputs, constants)


def test_a_branch_whose_rank_no_reader_takes_is_never_taken():
    proto = squeezed_for_an_lstm("length")
    loaded = io.from_proto(proto)
    shapes.infer(loaded)
    done = dead.run(Editor(loaded), CONFIG)
    assert done["take_possible_branch"] == 2
    assert not any(n.op_type in ("If", "Shape", "Not") for n in loaded.graph)
    result = ir.serde.serialize_model(loaded)
    feeds = {"x": np.ones((2, 3, 1), np.float32), "h": np.ones((2, 2), np.float32)}
    np.testing.assert_array_equal(run(result, feeds)[0], run(proto, feeds)[0])


def test_where_no_reader_minds_the_rank_both_branches_stay():
    proto = squeezed_for_an_lstm("length", guarded=False)
    loaded = io.from_proto(proto)
    shapes.infer(loaded)
    assert not dead.run(Editor(loaded), CONFIG)["take_possible_branch"]
    assert sum(n.op_type == "If" for n in loaded.graph) == 2


def test_outputs_of_an_if_that_nobody_reads_go_with_what_computed_them():
    nodes = [
        node("Exp", ["x"], "a"),
        branch(
            "c", ["p", "q", "r"],
            graph([node("Neg", ["a"], "t"), node("Sin", ["x"], "u"), node("Cos", ["x"], "v")],
                  ["t", "u", "v"]),
            graph([node("Abs", ["a"], "e"), node("Tan", ["x"], "f"), node("Erf", ["f"], "g")],
                  ["e", "f", "g"]),
        ),
        node("Relu", ["q"], "y"),
    ]  # fmt: skip
    result, done = assert_exact(model(nodes, ["x", CONDITION], ["y"]), dead, feeds=EITHER)
    assert done == {"drop_branch_outputs": 2}
    assert operators(result) == {"If": 1, "Sin": 1, "Tan": 1, "Relu": 1}
    assert list(result.graph.node[0].output) == ["q"]


def test_an_if_in_a_function_body_is_flattened_without_initializers():
    chosen = branch(
        "k", "b", graph([node("Mul", ["a", "w"], "t")], ["t"], constants={"w": K}),
        graph([node("Abs", ["a"], "e")], ["e"]),
    )  # fmt: skip
    yes = helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(np.array(True)))
    body = helper.make_function(
        "my", "f", ["a"], ["b"], [yes, chosen], [helper.make_opsetid("", 17)]
    )
    proto = model([node("f", ["x"], "y", domain="my")], ["x"], ["y"], functions=[body],
                  domains=["my"])  # fmt: skip
    result, done = assert_exact(proto, dead)
    assert done["take_constant_branch"] == 1
    assert [n.op_type for n in result.functions[0].node] == ["Constant", "Mul"]


# Loop and Scan


N = info("n", [], INT64)
FEEDS = [{"x": X, "n": np.array(count, np.int64)} for count in (0, 1, 3)]


def test_values_carried_for_nobody_go_with_what_computed_them():
    body = [
        node("Add", ["a0", "x"], "a1"),      # read outside
        node("Mul", ["b0", "c0"], "b1"),     # only for c
        node("Sub", ["c0", "b0"], "c1"),     # only for b
        node("Exp", ["d0"], "d1"),           # for the scan, which is read
        node("Neg", ["d0"], "s1"),
        node("Abs", ["a0"], "s2"),           # a scan that nobody reads
    ]  # fmt: skip
    carried = {"a0": "a1", "b0": "b1", "c0": "c1", "d0": "d1"}
    nodes = [
        node("Sin", ["x"], "z"),
        loop(["n", "", "x", "z", "z", "x"], ["a", "b", "c", "d", "s", "u"], body, carried,
             ["s1", "s2"]),
        node("Relu", ["a"], "y"),
    ]  # fmt: skip
    proto = model(nodes, ["x", N], ["y", info("s", [None, 3])])
    result, done = assert_exact(proto, dead, feeds=FEEDS)
    assert done["drop_loop_outputs"] == 3
    made = next(n for n in result.graph.node if n.op_type == "Loop")
    assert list(made.output) == ["a", "d", "s"]
    assert list(made.input) == ["n", "", "x", "x"]
    body = made.attribute[0].g
    assert [value.name for value in body.input] == ["i", "go", "a0", "d0"]
    assert [n.op_type for n in body.node] == ["Add", "Exp", "Neg", "Identity"]
    assert ops(result) == ["Loop", "Relu"]


def test_a_value_that_decides_when_the_loop_ends_is_needed():
    body = [
        node("ReduceSum", ["b0"], "sum", keepdims=0),
        node("Less", ["sum", "limit"], "on"),
        node("Add", ["b0", "x"], "b1"),
        node("Add", ["a0", "x"], "a1"),
    ]
    made = loop(["n", "", "x", "x"], ["a", "b"], body, {"a0": "a1", "b0": "b1"})
    del made.attribute[0].g.node[-1]
    proto = model([made], ["x", N], ["a"], {"limit": np.float32(5)})
    feeds = [{"x": abs(X), "n": np.array(9, np.int64)}]
    _, done = assert_exact(proto, dead, feeds=feeds)
    assert not done


def test_a_value_that_a_branch_inside_reads_is_needed():
    inner = branch(
        "positive", "a1", graph([node("Add", ["a0", "b0"], "t")], ["t"]),
        graph([node("Neg", ["a0"], "e")], ["e"]),
    )  # fmt: skip
    body = [node("Cast", ["i"], "positive", to=BOOL), inner, node("Exp", ["b0"], "b1")]
    nodes = [loop(["n", "", "x", "x"], ["a", "b"], body, {"a0": "a1", "b0": "b1"})]
    _, done = assert_exact(model(nodes, ["x", N], ["a"]), dead, feeds=FEEDS)
    assert not done


@pytest.mark.parametrize(("trips", "condition"), [(0, True), (-2, True), (5, False)])
def test_a_loop_that_never_runs_gives_what_it_was_given(trips, condition):
    body = [node("Add", ["a0", "b0"], "a1"), node("Exp", ["b0"], "b1")]
    nodes = [
        node("Neg", ["x"], "z"),
        loop(["n", "k", "x", "z"], ["a", "b"], body, {"a0": "a1", "b0": "b1"}),
        node("Relu", ["b"], "y"),
    ]
    constants = {"n": np.array(trips, np.int64), "k": np.array(condition)}
    proto = model(nodes, ["x"], ["y", "a"], constants)
    result, done = assert_exact(proto, dead, feeds=[{"x": X}])
    assert done["skip_loops"] == 1
    assert ops(result) == ["Neg", "Identity", "Relu"]


def test_a_loop_that_never_runs_still_gives_its_empty_scan():
    body = [node("Add", ["a0", "x"], "a1"), node("Exp", ["a0"], "s1")]
    nodes = [
        loop(["n", "", "x"], ["a", "s"], body, {"a0": "a1"}, ["s1"]),
        node("Relu", ["a"], "y"),
    ]
    proto = model(nodes, ["x"], ["y", info("s", [None, 3])], {"n": np.array(0, np.int64)})
    result, done = assert_exact(proto, dead, feeds=[{"x": X}])
    assert done["skip_loops"] == 1
    assert ops(result) == ["Identity", "Relu"]


def test_a_scan_of_no_rows_of_unknown_size_stays():
    body = [node("Compress", ["x", "b"], "s1"), node("Not", ["b"], "b1")]
    made = loop(["n", "", "k"], ["b", "s"], body, {"b0": "b1"}, ["s1"])
    made.attribute[0].g.output[2].type.tensor_type.shape.dim[0].Clear()
    nodes = [made, node("Shape", ["s"], "y")]
    constants = {"n": np.array(0, np.int64), "k": np.array([True, False, True])}
    proto = model(nodes, ["x"], [info("y", [2], INT64)], constants)
    loaded = ir.serde.deserialize_model(proto)
    dead.run(Editor(loaded), CONFIG)
    assert [n.op_type for n in loaded.graph] == ["Loop", "Shape"]


def test_scan_loses_states_and_scans_with_what_its_attributes_say_of_them():
    body = [
        node("Add", ["a0", "p"], "a1"),
        node("Mul", ["b0", "q"], "b1"),
        node("Neg", ["p"], "s1"),
        node("Sub", ["a1", "q"], "s2"),
    ]
    made = scan(
        ["k", "k", "x", "x"], ["a", "b", "s", "t"], body, {"a0": "a1", "b0": "b1"}, ["p", "q"],
        ["s1", "s2"], scan_output_directions=[0, 1], scan_output_axes=[0, 1],
    )  # fmt: skip
    shape = ["rows", 2]
    proto = model(
        [made], [info("x", shape)], [info("a", [2]), info("t", [2, "rows"])],
        {"k": np.ones(2, np.float32)},
    )  # fmt: skip
    result, done = assert_exact(proto, dead)
    assert done["drop_loop_outputs"] == 2
    found = result.graph.node[0]
    assert list(found.output) == ["a", "t"]
    lists = {a.name: list(a.ints) for a in found.attribute if a.ints}
    assert lists == {"scan_output_directions": [1], "scan_output_axes": [1]}
    proto.graph.output.pop()
    result, done = assert_exact(proto, dead)
    assert done["drop_loop_outputs"] == 3
    assert {a.name for a in result.graph.node[0].attribute} == {"body", "num_scan_inputs"}


def test_the_first_scan_with_its_other_layout_is_left_alone():
    body = [node("Add", ["a0", "p"], "a1"), node("Neg", ["p"], "s1")]
    made = scan(["", "k", "x"], ["a", "s"], body, {"a0": "a1"}, ["p"], ["s1"])
    proto = model(
        [made], [info("x", [1, 3, 2])], [info("a", [1, 2])], {"k": np.ones((1, 2), np.float32)},
        opset=8,
    )  # fmt: skip
    loaded = ir.serde.deserialize_model(proto)
    assert not dead.run(Editor(loaded), CONFIG)
    assert run(proto, {"x": np.ones((1, 3, 2), np.float32)})[0].shape == (1, 2)


def test_random_operators_that_nobody_reads_may_go():
    nodes = [
        node("RandomNormalLike", ["x"], "r", dtype=TensorProto.FLOAT),
        node("Neg", ["x"], "y"),
    ]
    result, _ = assert_exact(model(nodes, ["x"], ["y"]), dead)
    assert ops(result) == ["Neg"]


def test_empty_inputs_at_the_end_are_left_out():
    nodes = [node("LayerNormalization", ["x", "s", ""], "y"), node("Clip", ["x", "", "m"], "z")]
    constants = {"s": np.ones(4, np.float32), "m": np.float32(1)}
    outputs = [info("y", [2, 4]), info("z", [2, 4])]
    result, _ = apply(model_of(nodes, [info("x", [2, 4])], outputs, constants), dead)
    assert [list(n.input) for n in result.graph.node] == [["x", "s"], ["x", "", "m"]]
