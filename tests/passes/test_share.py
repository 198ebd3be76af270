import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import share
from onnxopt.testing import operators
from tests.passes.graphs import CONFIG, info, node, ops
from tests.passes.nested import (
    BOOL,
    CONDITION,
    EITHER,
    K,
    assert_exact,
    branch,
    graph,
    initializers,
    model,
    signature,
    values,
)


def shared(proto):
    """Run the pass without running the model; return what was done and the nodes left."""
    loaded = ir.serde.deserialize_model(proto)
    done = share.run(Editor(loaded), CONFIG)
    return done, [n.op_type for n in loaded.graph]


# expressions


def test_chains_of_equal_expressions_become_one():
    nodes = [
        node("Exp", ["x"], "a"), node("Add", ["a", "k"], "b"), node("Neg", ["b"], "d"),
        node("Exp", ["x"], "e"), node("Add", ["l", "e"], "f"), node("Neg", ["f"], "g"),
        node("Mul", ["d", "g"], "y"),
    ]  # fmt: skip
    result, done = assert_exact(model(nodes, ["x"], ["y"], {"k": K, "l": K}), share)
    assert done == {"share_initializers": 1, "share_expressions": 3}
    assert ops(result) == ["Exp", "Add", "Neg", "Mul"]
    assert initializers(result) == ["k"]


@pytest.mark.parametrize(
    ("op_type", "one", "other", "merged"),
    [
        ("Add", ["x", "z"], ["z", "x"], True),
        ("Max", ["x", "z", "k"], ["k", "x", "z"], True),
        ("Sub", ["x", "z"], ["z", "x"], False),
        ("Sum", ["x", "z", "k"], ["k", "z", "x"], False),  # sums of three are rounded in order
        ("Mul", ["x", "x"], ["x", "z"], False),
        ("Mul", ["x", "x"], ["x", "x"], True),
    ],
)
def test_operands_may_be_exchanged_where_that_is_exact(op_type, one, other, merged):
    nodes = [node(op_type, one, "a"), node(op_type, other, "b"), node("Pow", ["a", "b"], "y")]
    _, done = assert_exact(model(nodes, ["x", "z"], ["y"], {"k": K}), share)
    assert done == ({"share_expressions": 1} if merged else {})


def test_addends_of_old_operator_sets_are_not_exchanged():
    nodes = [
        node("Add", ["x", "z"], "a", broadcast=1),
        node("Add", ["z", "x"], "b", broadcast=1),
        node("Mul", ["a", "b"], "y"),
    ]
    done, _ = shared(model(nodes, ["x", "z"], ["y"], opset=6))
    assert not done


def test_a_default_attribute_is_as_good_as_an_absent_one():
    nodes = [
        node("LeakyRelu", ["x"], "a"), node("LeakyRelu", ["x"], "b", alpha=0.01),
        node("LeakyRelu", ["x"], "d", alpha=0.02), node("Softmax", ["x"], "e", axis=-1),
        node("Softmax", ["x"], "f"), node("Sum", ["a", "b", "d", "e", "f"], "y"),
    ]  # fmt: skip
    result, done = assert_exact(model(nodes, ["x"], ["y"]), share)
    assert done == {"share_expressions": 2}
    assert list(result.graph.node[-1].input) == ["a", "a", "d", "e", "e"]
    # Before opset 13 the default axis was 1.
    old = model([*nodes[3:5], node("Add", ["e", "f"], "y")], [info("x", [2, 3])],
                [info("y", [2, 3])], opset=11)  # fmt: skip
    old.graph.node[0].attribute[0].i = 1
    _, done = assert_exact(old, share)
    assert done == {"share_expressions": 1}


def test_tensors_in_attributes_count_by_content():
    def filled(number, output):
        value = numpy_helper.from_array(np.array([number], np.float32), f"name_{output}")
        return node("ConstantOfShape", ["s"], output, value=value)

    nodes = [filled(2, "a"), filled(2, "b"), filled(-0.0, "d"), filled(0.0, "e"),
             node("Sum", ["x", "a", "b", "d", "e"], "y")]  # fmt: skip
    result, done = assert_exact(model(nodes, ["x"], ["y"], {"s": np.array([3])}), share)
    assert done == {"share_expressions": 1}
    assert list(result.graph.node[-1].input) == ["x", "a", "a", "d", "e"]


@pytest.mark.parametrize("seed", [{}, {"seed": 1.0}])
@pytest.mark.parametrize(
    ("op_type", "attributes"),
    [
        ("RandomNormalLike", {}),
        ("RandomUniformLike", {}),
        ("Bernoulli", {}),
        ("RandomNormal", {"shape": [3]}),
        ("RandomUniform", {"shape": [3]}),
    ],
)
def test_random_operators_are_never_shared(op_type, attributes, seed):
    reads = ["x"] if "shape" not in attributes else []
    nodes = [node(op_type, reads, "a", **attributes, **seed),
             node(op_type, reads, "b", **attributes, **seed),
             node("Sub", ["a", "b"], "y")]  # fmt: skip
    assert not shared(model(nodes, ["x"], ["y"]))[0]


@pytest.mark.parametrize(
    ("training", "merged"), [(None, True), (False, True), (True, False), ("input", False)]
)
def test_dropout_is_shared_only_where_it_drops_nothing(training, merged):
    third = [] if training is None else ["t"]
    nodes = [node("Dropout", ["x", "r", *third], name) for name in ("a", "b")]
    nodes.append(node("Sub", ["a", "b"], "y"))
    inputs, constants = ["x"], {"r": np.float32(0.5)}
    if training == "input":
        inputs.append(info("t", [], BOOL))
    elif training is not None:
        constants["t"] = np.array(training)
    assert bool(shared(model(nodes, inputs, ["y"], constants))[0]) == merged


@pytest.mark.parametrize(
    ("opset", "test", "merged"), [(6, 0, False), (6, 1, True), (10, None, True)]
)
def test_dropout_of_old_operator_sets(opset, test, merged):
    attributes = {} if test is None else {"is_test": test}
    nodes = [node("Dropout", ["x"], name, **attributes) for name in ("a", "b")]
    nodes.append(node("Sub", ["a", "b"], "y"))
    assert bool(shared(model(nodes, ["x"], ["y"], opset=opset))[0]) == merged


def test_operators_that_nobody_knows_are_left_alone():
    def twice(op_type, domain):
        nodes = [node(op_type, ["x"], name, domain=domain) for name in ("a", "b")]
        nodes.append(node("Sub", ["a", "b"], "y"))
        return shared(model(nodes, ["x"], ["y"], domains=[domain]))[1]

    for domain in ("far", "com.microsoft"):
        assert twice("Sampling", domain) == ["Sampling", "Sampling", "Sub"]
    assert twice("Gelu", "com.microsoft") == ["Gelu", "Sub"]


def test_calls_of_functions_are_left_alone():
    body = [helper.make_node("RandomNormalLike", ["a"], ["b"])]
    noise = helper.make_function("my", "noise", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    nodes = [node("noise", ["x"], "a", domain="my"), node("noise", ["x"], "b", domain="my"),
             node("Sub", ["a", "b"], "y")]  # fmt: skip
    assert not shared(model(nodes, ["x"], ["y"], functions=[noise], domains=["my"]))[0]


def test_constants_in_function_bodies_are_shared():
    k = numpy_helper.from_array(K)
    body = [
        helper.make_node("Constant", [], ["k"], value=k),
        helper.make_node("Constant", [], ["l"], value_floats=K.tolist()),
        helper.make_node("Mul", ["a", "k"], ["m"]),
        helper.make_node("Mul", ["l", "a"], ["n"]),
        helper.make_node("Sub", ["m", "n"], ["b"]),
    ]
    twice = helper.make_function("my", "twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)])
    proto = model([node("twice", ["x"], "y", domain="my")], ["x"], ["y"], functions=[twice],
                  domains=["my"])  # fmt: skip
    result, done = assert_exact(proto, share)
    assert done == {"share_expressions": 2}
    assert [n.op_type for n in result.functions[0].node] == ["Constant", "Mul", "Sub"]


# outputs


def test_an_output_takes_the_place_of_what_is_shared():
    nodes = [node("Exp", ["x"], "a"), node("Neg", ["a"], "z"), node("Exp", ["x"], "y")]
    result, done = assert_exact(model(nodes, ["x"], ["z", "y"]), share)
    assert done == {"share_expressions": 1}
    assert values(result) == ["y", "z"]


def test_two_outputs_are_both_kept_and_readers_agree_on_one():
    nodes = [
        node("Exp", ["x"], "p"), node("Exp", ["x"], "q"),
        node("Sin", ["p"], "a"), node("Sin", ["q"], "b"), node("Add", ["a", "b"], "y"),
    ]  # fmt: skip
    result, done = assert_exact(model(nodes, ["x"], ["p", "q", "y"]), share)
    assert done == {"share_expressions": 2}
    assert ops(result) == ["Exp", "Exp", "Sin", "Add"]


def test_two_outputs_of_much_work_share_it_by_a_copy():
    nodes = [node("MatMul", ["m", "m"], "p"), node("MatMul", ["m", "m"], "q"),
             node("Neg", ["q"], "r")]  # fmt: skip
    shape = [3, 3]
    proto = model(nodes, [info("m", shape)], [info(name, shape) for name in "qpr"])
    result, done = assert_exact(proto, share)
    assert done == {"share_expressions": 1}
    assert sorted(ops(result)) == ["Identity", "MatMul", "Neg"]
    assert signature(result) == signature(proto)


# nested graphs


def test_a_branch_uses_what_was_computed_around_it_and_never_the_other_branch():
    nodes = [
        node("Exp", ["x"], "a"),
        branch(
            "c", "b",
            graph([node("Exp", ["x"], "t"), node("Sin", ["t"], "u"), node("Cos", ["x"], "v"),
                   node("Sub", ["u", "v"], "w")], ["w"]),
            graph([node("Cos", ["x"], "e"), node("Sin", ["e"], "f")], ["f"]),
        ),
        node("Cos", ["x"], "d"),
        node("Sum", ["a", "b", "d"], "y"),
    ]  # fmt: skip
    result, done = assert_exact(model(nodes, ["x", CONDITION], ["y"]), share, feeds=EITHER)
    assert done == {"share_expressions": 1}
    assert operators(result) == {"Exp": 1, "If": 1, "Sin": 2, "Cos": 3, "Sub": 1, "Sum": 1}


def test_the_output_of_a_branch_is_not_handed_in_from_outside():
    nodes = [
        node("Exp", ["x"], "a"),
        branch("c", "b", graph([node("Exp", ["x"], "t")], ["t"]),
               graph([node("Neg", ["x"], "e")], ["e"])),
        node("Add", ["a", "b"], "y"),
    ]  # fmt: skip
    _, done = assert_exact(model(nodes, ["x", CONDITION], ["y"]), share, feeds=EITHER)
    assert not done


# initializers


def test_equal_initializers_become_the_first_and_unequal_ones_do_not():
    large = np.arange(4000, dtype=np.float32)
    middle = large.copy()
    middle[1500] += 1  # a place that no sample looks at
    constants = {
        "a": large, "b": large.copy(), "m": middle, "i": large.astype(np.int32), "k": K,
        "l": K.copy(), "half": K.astype(np.float16), "flat": K.reshape(1, 3), "n": -K * 0,
        "z": K * 0,
    }  # fmt: skip
    nodes = [node("Identity", [name], f"{name}_out") for name in constants]
    outputs = [
        info(f"{name}_out", array.shape, helper.np_dtype_to_tensor_dtype(array.dtype))
        for name, array in constants.items()
    ]
    loaded = ir.serde.deserialize_model(model(nodes, [], outputs, constants))
    done = share.run(Editor(loaded), CONFIG)
    assert done == {"share_initializers": 2}
    assert list(loaded.graph.initializers) == ["a", "m", "i", "k", "half", "flat", "n", "z"]


def test_text_and_packed_numbers_are_compared_too():
    words = np.array(["a", "b"], object)
    packed = helper.make_tensor("p", TensorProto.INT4, [3], [1, -2, 3])
    other = helper.make_tensor("q", TensorProto.INT4, [3], [1, -2, 3])
    unlike = helper.make_tensor("r", TensorProto.INT4, [3], [1, -2, 4])
    names = ["p", "q", "r", "s", "t"]
    kinds = [TensorProto.INT4] * 3 + [TensorProto.STRING] * 2
    nodes = [node("Identity", [name], f"{name}_out") for name in names]
    outputs = [
        info(f"{n}_out", [3 if n < "s" else 2], k) for n, k in zip(names, kinds, strict=True)
    ]
    proto = model(nodes, [], outputs, {"s": words, "t": words}, opset=21)
    proto.ir_version = 10
    proto.graph.initializer.extend([packed, other, unlike])
    loaded = ir.serde.deserialize_model(proto)
    assert share.run(Editor(loaded), CONFIG)["share_initializers"] == 2
    assert list(loaded.graph.initializers) == ["s", "p", "r"]


def test_defaults_that_callers_override_and_outputs_are_kept():
    nodes = [node("Sum", ["x", "k", "l", "shown", "also"], "y")]
    proto = model(nodes, ["x", "k"], ["y", "shown", "also"],
                  {"k": K, "l": K, "shown": K, "also": K})  # fmt: skip
    result, done = assert_exact(proto, share)
    assert done == {"share_initializers": 1}
    assert initializers(result) == ["k", "shown", "also"]
    assert list(result.graph.node[0].input) == ["x", "k", "shown", "shown", "also"]


def nested_weights(then, other, outer=None):
    """Return a model whose branches multiply by weights of their own."""
    size = then.size
    nodes = [
        branch(
            "c", "b",
            graph([node("Mul", ["x", "w"], "t")], ["t"], constants={"w": then}, shape=(size,)),
            graph([node("Mul", ["x", "w"], "e")], ["e"], constants={"w": other}, shape=(size,)),
        ),
        node("Add", ["b", "v"], "y") if outer is not None else node("Neg", ["b"], "y"),
    ]  # fmt: skip
    constants = {} if outer is None else {"v": outer}
    return model(nodes, [info("x", [size]), CONDITION], [info("y", [size])], constants)


def test_large_weights_are_shared_across_nested_graphs_and_small_ones_stay():
    large = np.arange(1000, dtype=np.float32)
    feeds = [{"x": large, "c": np.array(flag)} for flag in (True, False)]
    result, done = assert_exact(nested_weights(large, large, large), share, feeds=feeds)
    assert done == {"share_initializers": 2}
    assert initializers(result) == ["v"]
    result, done = assert_exact(nested_weights(large, large), share, feeds=feeds)
    assert done == {"share_initializers": 1}
    assert len(initializers(result)) == 1
    assert not any(a.g.initializer for n in result.graph.node for a in n.attribute)
    _, done = assert_exact(nested_weights(large, large + 1), share, feeds=feeds)
    assert not done
    _, done = assert_exact(nested_weights(K, K, K), share, feeds=EITHER)
    assert not done


def test_a_small_constant_of_a_branch_still_counts_as_equal_to_one_outside():
    nodes = [
        node("Unsqueeze", ["x", "axes"], "a"),
        branch(
            "c", "b",
            graph([node("Unsqueeze", ["x", "own"], "t"), node("Exp", ["t"], "u")],
                  [info("u", [1, 3])], constants={"own": np.array([0])}),
            graph([node("Neg", ["a"], "e")], [info("e", [1, 3])]),
        ),
        node("Add", ["a", "b"], "y"),
    ]  # fmt: skip
    proto = model(nodes, ["x", CONDITION], [info("y", [1, 3])], {"axes": np.array([0])})
    _, done = assert_exact(proto, share, feeds=EITHER)
    assert done == {"share_expressions": 1}
