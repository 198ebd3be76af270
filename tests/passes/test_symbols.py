import numpy as np
from onnx import TensorProto

from onnxopt.passes import arithmetic, shapes, symbols
from tests.passes.graphs import apply, info, model_of, node, ops, same

I64 = TensorProto.INT64


def embedded(sizes, tail):
    """Build what exporters write for a text model: words and positions, summed, then reshaped."""
    nodes = [
        node("Shape", ["ids"], "s"),
        node("Gather", ["s", "one"], "length", axis=0),
        node("Unsqueeze", ["length", "axes"], "stop"),
        node("Slice", ["positions", "axes", "stop", "one1"], "cut"),
        node("Gather", ["table", "cut"], "p"),
        node("Gather", ["table", "ids"], "w"),
        node("Add", ["w", "p"], "x"),
        node("Shape", ["x"], "t"),
        node("Slice", ["t", "axes", "two"], "lead"),
        node("Concat", ["lead", "tail"], "target", axis=0),
        node("Reshape", ["x", "target"], "y"),
    ]
    constants = {
        "one": np.int64(1),
        "one1": np.array([1], np.int64),
        "two": np.array([2], np.int64),
        "axes": np.array([0], np.int64),
        "tail": np.array(tail, np.int64),
        "positions": np.arange(16, dtype=np.int64)[None],
        "table": np.random.default_rng(0).standard_normal((16, 8)).astype(np.float32),
    }
    return model_of(nodes, [info("ids", sizes, I64)], [info("y", None)], constants)


def test_a_name_goes_through_a_slice_of_positions_and_a_sum():
    model = embedded(["N", "S"], [2, 4])
    result, (_, done) = apply(model, shapes, arithmetic)
    assert done["constant_reshape_target"] == 1
    for batch, length in ((1, 5), (3, 16), (2, 1)):
        ids = np.random.default_rng(1).integers(0, 16, (batch, length))
        same(model, result, {"ids": ids})


def test_a_bounded_size_is_no_name_where_nothing_is_broadcast_against_it():
    assert symbols.joined("S", symbols.at_most("S", 16)) == "S"
    assert symbols.joined(symbols.at_most("S", 16), "S") == "S"
    assert symbols.joined("S", symbols.at_most("T", 16)) is None
    assert symbols.joined("S", None) is None
    assert symbols.joined(symbols.at_most("S", 16), symbols.at_most("S", 8)) is None


def test_sizes_are_broadcast():
    assert symbols.joined(1, "N") == "N"
    assert symbols.joined("N", 4) == 4
    assert symbols.joined(None, 4) == 4
    assert symbols.joined("N", "M") is None
    assert symbols.broadcast([("N", 1, 4), ("S", 4)]) == ("N", "S", 4)
    assert symbols.broadcast([("N", 4), None]) is None


def test_what_a_reshape_leaves_open_is_the_quotient():
    nodes = [
        node("Shape", ["x"], "s"),
        node("Slice", ["s", "zero", "one"], "n"),
        node("Concat", ["n", "open"], "t", axis=0),
        node("Reshape", ["x", "t"], "y"),
        node("Shape", ["y"], "u"),
        node("Reshape", ["x", "u"], "z"),
    ]
    constants = {"zero": [0], "one": [1], "open": [-1]}
    constants = {name: np.array(content, np.int64) for name, content in constants.items()}
    model = model_of(nodes, [info("x", ["N", "S"])], [info("z", None)], constants)
    result, _ = apply(model, shapes, arithmetic)
    same(model, result, {"x": np.random.rand(3, 5).astype(np.float32)})
    assert ops(result) == ["Reshape"]


def test_reshape_with_literal_zeros_gets_a_target_without():
    nodes = [
        node("Shape", ["x"], "s"),
        node("Slice", ["s", "zero", "one"], "n"),
        node("Concat", ["n", "tail"], "t", axis=0),
        node("Reshape", ["x", "t"], "y", allowzero=1),
    ]
    constants = {
        "zero": np.array([0], np.int64),
        "one": np.array([1], np.int64),
        "tail": np.array([-1, 4], np.int64),
    }
    model = model_of(nodes, [info("x", ["N", 8])], [info("y", None)], constants)
    result, (_, done) = apply(model, shapes, arithmetic)
    assert done["constant_reshape_target"] == 1
    assert ops(result) == ["Reshape"]
    same(model, result, {"x": np.random.rand(3, 8).astype(np.float32)})


def test_reshape_to_nothing_keeps_its_literal_zero():
    nodes = [
        node("Shape", ["x"], "s"),
        node("Concat", ["s", "zero"], "t", axis=0),
        node("Reshape", ["x", "t"], "y", allowzero=1),
    ]
    model = model_of(
        nodes, [info("x", ["N"])], [info("y", None)], {"zero": np.array([0], np.int64)}
    )
    _, (_, done) = apply(model, shapes, arithmetic)
    assert not done
