"""Loops of a known number of turns, unrolled or left alone."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.config import OptimizeConfig
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import dead, unroll
from onnxopt.pipeline import transform
from onnxopt.testing import operators, random_feeds, run
from tests.passes.graphs import CONFIG, info, node, ops
from tests.passes.nested import (
    BOOL,
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
)

YES = np.array(True)


def trips(count):
    return np.array(count, np.int64)


def left_alone(proto):
    loaded = ir.serde.deserialize_model(proto)
    return not unroll.run(Editor(loaded), CONFIG)["unroll_loops"]


ADD = [node("Add", ["a0", "x"], "m"), node("Mul", ["m", "w"], "a1")]


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("condition", ["", "yes"])
def test_turns_follow_each_other(count, condition):
    made = loop(["n", condition, "z"], ["y"], ADD, {"a0": "a1"})
    made.attribute[0].g.initializer.append(ir.serde.serialize_tensor(ir.tensor(K, name="w")))
    nodes = [node("Sin", ["x"], "z"), made]
    proto = model(nodes, ["x"], ["y"], {"n": trips(count), "yes": YES})
    result, done = assert_exact(proto, unroll, dead, feeds=[{"x": X}])
    assert done["unroll_loops"] == 1
    assert ops(result) == ["Sin", *["Add", "Mul"] * count]
    assert initializers(result) == ["w"]


def test_rows_are_stacked_and_the_number_of_the_turn_is_a_constant():
    body = [
        node("Cast", ["i"], "f", to=TensorProto.FLOAT),
        node("Mul", ["a0", "f"], "s1"),
        node("Add", ["a0", "x"], "a1"),
    ]
    for count, opset in ((1, 17), (3, 17), (3, 12)):
        made = loop(["n", "", "x"], ["a", "s"], body, {"a0": "a1"}, ["s1"])
        outputs = ["a", info("s", [None, 3])]
        proto = model([made], ["x"], outputs, {"n": trips(count)}, opset=opset)
        result, done = assert_exact(proto, unroll, dead, feeds=[{"x": X}])
        assert done["unroll_loops"] == 1
        assert operators(result)["Unsqueeze"] == count
        assert operators(result)["Concat"] == (count > 1)


def test_what_hands_on_as_it_is_or_from_outside():
    body = [node("Identity", ["b0"], "a1"), node("Identity", ["a0"], "b1")]
    made = loop(["n", "", "x", "z"], ["a", "b"], body, {"a0": "a1", "b0": "b1"})
    nodes = [node("Neg", ["x"], "z"), made]
    for count in (1, 2, 3):
        proto = model(nodes, ["x"], ["a", "b"], {"n": trips(count)})
        _, done = assert_exact(proto, unroll, dead, feeds=[{"x": X}])
        assert done["unroll_loops"] == 1


def test_a_body_that_says_stop_runs_once():
    made = loop(["", "yes", "x"], ["y"], ADD, {"a0": "a1"})
    del made.attribute[0].g.node[-1]
    made.attribute[0].g.node.append(
        helper.make_node("Constant", [], ["on"], value=ir.serde.serialize_tensor(ir.tensor(False)))
    )
    proto = model([made], ["x"], ["y"], {"yes": YES, "w": K})
    result, _ = assert_exact(proto, unroll, dead, feeds=[{"x": X}])
    assert ops(result) == ["Add", "Mul"]


def test_a_body_that_decides_for_itself_runs_once_where_it_may_run_once():
    def deciding(count):
        made = loop(["n", "", "x"], ["y"], ADD, {"a0": "a1"})
        del made.attribute[0].g.node[-1]
        made.attribute[0].g.node.extend(
            [node("ReduceSum", ["a1"], "sum", keepdims=0), node("Less", ["sum", "limit"], "on")]
        )
        constants = {"n": trips(count), "limit": np.float32(5), "w": K}
        return model([made], ["x"], ["y"], constants)

    result, _ = assert_exact(deciding(1), unroll, dead, feeds=[{"x": X}])
    assert ops(result) == ["Add", "Mul"]
    assert left_alone(deciding(2))


def test_what_is_nested_in_a_turn_is_copied_with_names_of_its_own():
    inner = branch(
        "even", "a1", graph([node("Add", ["a0", "k"], "t")], ["t"], constants={"k": K}),
        graph([node("Exp", ["a0"], "u"), node("Neg", ["u"], "e")], ["e"]),
    )  # fmt: skip
    body = [node("Equal", ["j", "i"], "even"), inner]
    made = loop(["n", "", "x"], ["y"], body, {"a0": "a1"})
    inputs = ["x", info("j", [], INT64)]
    proto = model([made], inputs, ["y"], {"n": trips(3)})
    feeds = [{"x": X, "j": trips(turn)} for turn in range(4)]
    result, _ = assert_exact(proto, unroll, dead, feeds=feeds)
    assert operators(result)["If"] == 3


def test_inner_loops_go_first_and_the_nodes_stay_few():
    def nest(depth, counts):
        nodes, carried = [node("Neg", [f"a{depth}"], f"b{depth}")], f"b{depth}"
        for level in range(depth, 0, -1):
            made = loop(
                [counts[level - 1], "", f"a{level - 1}"], [f"c{level}"], nodes,
                {f"a{level}": carried},
            )  # fmt: skip
            body = made.attribute[0].g
            for name, value in zip((f"i{level}", f"go{level}"), body.input, strict=False):
                value.name = name
            body.node[-1].input[0], body.node[-1].output[0] = f"go{level}", f"on{level}"
            body.output[0].name = f"on{level}"
            nodes, carried = [made], f"c{level}"
        nodes[0].input[2] = "x"
        return model(nodes, ["x"], ["c1"], {"two": trips(2), "nine": trips(9)})

    result, done = assert_exact(nest(3, ["two"] * 3), unroll, dead, feeds=[{"x": X}])
    assert done["unroll_loops"] == 3
    assert ops(result) == ["Neg"] * 8
    result, done = assert_exact(nest(4, ["nine"] * 4), unroll, dead, feeds=[{"x": X}])
    assert done["unroll_loops"] == 1
    assert operators(result) == {"Loop": 3, "Neg": 9, "Identity": 3}


def test_what_is_not_known_or_too_much_stays_a_loop():
    made = loop(["n", "c", "x"], ["y"], ADD, {"a0": "a1"})
    constants = {"w": K}
    number, condition = info("n", [], INT64), info("c", [], BOOL)
    assert left_alone(model([made], ["x", number], ["y"], {**constants, "c": YES}))
    assert left_alone(model([made], ["x", condition], ["y"], {**constants, "n": trips(2)}))
    overridable = {**constants, "n": trips(2), "c": YES}
    assert left_alone(model([made], ["x", number], ["y"], overridable))
    assert left_alone(model([made], ["x"], ["y"], {**constants, "n": trips(100), "c": YES}))


def test_random_numbers_are_drawn_anew_each_turn():
    body = [node("RandomNormalLike", ["a0"], "r", seed=1.0), node("Add", ["a0", "r"], "a1")]
    made = loop(["n", "", "x"], ["y"], body, {"a0": "a1"})
    assert left_alone(model([made], ["x"], ["y"], {"n": trips(2)}))
    assert not left_alone(model([made], ["x"], ["y"], {"n": trips(1)}))


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("backwards", [0, 1])
@pytest.mark.parametrize("opset", [11, 17])
def test_scan_goes_through_rows_or_columns_from_either_end(length, backwards, opset):
    body = [node("Mul", ["a0", "p"], "s1"), node("Add", ["s1", "q"], "a1")]
    made = scan(
        ["z", "u", "v"], ["a", "s"], body, {"a0": "a1"}, ["p", "q"], ["s1"],
        scan_input_axes=[1, 0], scan_input_directions=[backwards, 0],
        scan_output_axes=[1], scan_output_directions=[1 - backwards],
    )  # fmt: skip
    inputs = [info("z", [2]), info("u", [2, length]), info("v", [length, 2])]
    outputs = [info("a", [2]), info("s", [2, length])]
    result, done = assert_exact(model([made], inputs, outputs, opset=opset), unroll, dead)
    assert done["unroll_loops"] == 1
    assert not operators(result)["Scan"]


def test_scan_of_unknown_length_or_with_axes_from_the_back_stays():
    body = [node("Add", ["a0", "p"], "a1"), node("Neg", ["p"], "s1")]
    outputs = [info("a", [2]), info("s", [None, 2])]

    def made(**attributes):
        scanned = scan(["z", "u"], ["a", "s"], body, {"a0": "a1"}, ["p"], ["s1"], **attributes)
        length = "n" if not attributes else 2
        return model([scanned], [info("z", [2]), info("u", [length, 2])], outputs)

    assert left_alone(made())
    assert left_alone(made(scan_input_axes=[-2]))


def test_shapes_that_grow_from_turn_to_turn_are_inferred_again():
    body = [node("Concat", ["a0", "x"], "a1", axis=0), node("Relu", ["a1"], "r")]
    made = loop(["n", "", "x"], ["a"], [*body, node("Neg", ["r"], "t")], {"a0": "t"}, shape=["n"])
    proto = model([made], ["x"], [info("a", ["m"])], {"n": trips(3)})
    model_ = io.from_proto(proto)
    transform(model_, OptimizeConfig())
    result = io.to_proto(model_)
    feeds = random_feeds(proto)
    np.testing.assert_array_equal(run(result, feeds)[0], run(proto, feeds)[0])
    assert not operators(result)["Loop"]
