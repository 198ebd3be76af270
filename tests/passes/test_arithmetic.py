import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto

from onnxopt.passes import arithmetic, shapes
from tests.passes.graphs import apply, info, model_of, node, ops, same

I64 = TensorProto.INT64


def reshape_to_shape_of_input(tail, dims=("N", 8, 16)):
    """Reshape x to [its first dimension, *tail], as exporters compute it."""
    nodes = [
        node("Shape", ["x"], "s"),
        node("Gather", ["s", "zero"], "g", axis=0),
        node("Unsqueeze", ["g", "axes"], "u"),
        node("Concat", ["u", "tail"], "t", axis=0),
        node("Reshape", ["x", "t"], "y"),
    ]
    constants = {
        "zero": np.int64(0),
        "axes": np.array([0], np.int64),
        "tail": np.array(tail, np.int64),
    }
    return model_of(nodes, [info("x", dims)], [info("y", None)], constants)


def test_named_dimension_becomes_as_it_was():
    model = reshape_to_shape_of_input([16, 8])
    result, (_, done) = apply(model, shapes, arithmetic)
    assert done["constant_reshape_target"] == 1
    assert ops(result) == ["Reshape"]
    for size in (1, 3):
        same(model, result, {"x": np.random.rand(size, 8, 16).astype(np.float32)})


def test_static_shape_becomes_a_constant():
    model = reshape_to_shape_of_input([-1], dims=(2, 8, 16))
    result, _ = apply(model, shapes, arithmetic)
    assert ops(result) == ["Reshape"]
    same(model, result, {"x": np.random.rand(2, 8, 16).astype(np.float32)})


def test_unknown_dimension_that_stands_alone_is_inferred():
    model = reshape_to_shape_of_input([16, 8], dims=(None, 8, 16))
    result, _ = apply(model, shapes, arithmetic)
    assert ops(result) == ["Reshape"]
    same(model, result, {"x": np.random.rand(3, 8, 16).astype(np.float32)})


def test_two_unknown_dimensions_are_left_alone():
    nodes = [node("Shape", ["z"], "t"), node("Reshape", ["x", "t"], "y")]
    model = model_of(nodes, [info("x", ["A"]), info("z", ["N", "M"])], [info("y", None)])
    result, (_, done) = apply(model, shapes, arithmetic)
    assert not done
    assert ops(result) == ["Shape", "Reshape"]


def test_placeholder_names_are_not_equal_to_each_other():
    nodes = [node("Shape", ["z"], "t"), node("Reshape", ["x", "t"], "y")]
    model = model_of(nodes, [info("x", ["?", "?"]), info("z", ["?", "?"])], [info("y", None)])
    _, (_, done) = apply(model, shapes, arithmetic)
    assert not done


def test_expand_to_own_shape_goes_where_the_tail_asks_for_minus_one():
    """torch writes expand(-1, 8) as Where(Equal(target, -1), shape, target)."""
    nodes = [
        node("Abs", ["x"], "a"),
        node("Shape", ["a"], "s"),
        node("Equal", ["t", "minus"], "e"),
        node("Where", ["e", "s", "t"], "w"),
        node("Expand", ["a", "w"], "b"),
        node("Neg", ["b"], "y"),
    ]
    constants = {"t": np.array([-1, 8], np.int64), "minus": np.array(-1, np.int64)}
    model = model_of(nodes, [info("x", ["N", 8])], [info("y", ["N", 8])], constants)
    result, _ = apply(model, shapes, arithmetic)
    assert ops(result) == ["Abs", "Neg"]


def test_overridable_constant_is_no_number():
    model = reshape_to_shape_of_input([16, 8])
    model.graph.input.append(info("tail", [2], I64))
    result, _ = apply(model, shapes, arithmetic)
    assert "Concat" in ops(result)


def test_integer_cast_that_wraps_is_left_alone():
    nodes = [
        node("Add", ["big", "one"], "a"),
        node("Cast", ["a"], "y0", to=TensorProto.INT32),
        node("Add", ["y0", "x"], "y"),
    ]
    constants = {"big": np.array([2**40], np.int64), "one": np.array([1], np.int64)}
    model = model_of(
        nodes, [info("x", [1], TensorProto.INT32)], [info("y", [1], TensorProto.INT32)], constants
    )
    result, _ = apply(model, shapes, arithmetic)
    assert "Cast" in ops(result)


BINARY = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Div": None, "Equal": np.equal}


@pytest.mark.parametrize("op_type", BINARY)
@given(
    left=st.lists(st.integers(-50, 50), min_size=1, max_size=4),
    right=st.integers(-50, 50),
)
def test_integer_arithmetic_is_that_of_onnxruntime(op_type, left, right):
    if op_type == "Div" and right == 0:
        right = 7
    kind = TensorProto.BOOL if op_type == "Equal" else I64
    nodes = [node(op_type, ["a", "b"], "r"), node("Identity", ["r"], "y")]
    constants = {"a": np.array(left, np.int64), "b": np.int64(right)}
    model = model_of(nodes, [], [info("y", [len(left)], kind)], constants)
    result, (_, done) = apply(model, shapes, arithmetic)
    assert done["fold_shape_arithmetic"] >= 1
    same(model, result, {})


def test_name_on_an_output_is_no_proof():
    """An author calls the rows of x N and those of Concat(x, x) N as well."""
    nodes = [
        node("Concat", ["x", "x"], "a", axis=0),
        node("Shape", ["a"], "s"),
        node("Relu", ["a"], "b"),
        node("Shape", ["b"], "t"),
        node("Concat", ["z", "z"], "c", axis=0),
        node("Reshape", ["c", "s"], "y"),
        node("Reshape", ["c", "t"], "w"),
    ]
    inputs = [info("x", ["N", "M"]), info("z", ["N", "M"])]
    outputs = [info(name, ["N", "M"]) for name in ("a", "y", "w")]
    model = model_of(nodes, inputs, outputs)
    result, _ = apply(model, shapes, arithmetic)
    x = np.random.rand(2, 3).astype(np.float32)
    same(model, result, {"x": x, "z": x})
