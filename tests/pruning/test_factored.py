"""Layers in two steps compute what their factors say, and keep names, biases and signature."""

import numpy as np
import onnx
import pytest

from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.graph.signature import signature_of
from onnxopt.pruning.factored import factor_layer, factor_layers, factorable, siblings
from onnxopt.pruning.weights.rank import Factors
from onnxopt.sweep import matrix
from tests.pruning.blocks.nets import built, sentences, transformer
from tests.quantizing.repair.nets import normal, outputs

NETS = {
    "matmul": ("y = MatMul(x, w)", "float[2,5,20] x", {"w": normal(20, 18)}),
    "matmul and bias": (
        "h = MatMul(x, w)\ny = Add(b, h)", "float[2,5,20] x", {"w": normal(20, 18), "b": normal(18)}
    ),
    "gemm": ("y = Gemm(x, w)", "float[3,20] x", {"w": normal(20, 18)}),
    "turned gemm": (
        "y = Gemm <transB=1> (x, w, b)", "float[3,20] x", {"w": normal(18, 20), "b": normal(18)}
    ),
    "1x1": ("y = Conv(x, w, b)", "float[1,20,3,4] x", {"w": normal(18, 20, 1, 1), "b": normal(18)}),
    "kxk": (
        "y = Conv <strides=[2,1], pads=[1,0,1,1], dilations=[1,2]> (x, w)", "float[1,4,9,9] x",
        {"w": normal(18, 4, 3, 2)},
    ),
    "same": (
        'y = Conv <auto_pad="SAME_UPPER", strides=[2]> (x, w)', "float[1,6,9] x",
        {"w": normal(18, 6, 3)},
    ),
}  # fmt: skip
RANKS = {"matmul": "5", "kxk": "[1,18,5,8]"}


def net(name):
    text, given, constants = NETS[name]
    return built(f"({given}) => (float[] y) {{ {text} }}", **constants)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("rank", [3, 18])
def test_a_layer_in_two_steps_is_its_product_of_factors(name, rank):
    model, other = net(name), net(name)
    (node,) = factorable(model).values()
    opset = model.opset_imports[""]
    rows = matrix.rows_of(node, opset)
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    rank = min(rank, len(values))
    made = Factors(up=left[:, :rank] * values[:rank], down=right[:rank], shift=normal(18, seed=3))
    wanted = factorable(other)[node.name]
    matrix.biased(Editor(other), wanted)
    matrix.set_rows(Editor(other), wanted, made.up @ made.down)
    factor_layer(Editor(model), node, made)
    proto = io.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    feed = {
        "x": normal(*(dim.dim_value for dim in proto.graph.input[0].type.tensor_type.shape.dim))
    }
    (found,), (expected,) = outputs(proto, feed), outputs(io.to_proto(other), feed)
    channels = 1 if "k" in name or "1" in name or name == "same" else -1
    shift = np.moveaxis(np.broadcast_to(made.shift, (*([1] * (found.ndim - 1)), 18)), -1, channels)
    np.testing.assert_allclose(found, expected + shift, rtol=1e-3, atol=1e-3)
    assert signature_of(model) == signature_of(net(name))
    assert node.name in {one.name for one in model.graph}


def test_layers_in_groups_narrow_ones_and_computed_weights_stay_whole():
    text = """(float[1,32,6] x, float[6,20] c) => (float[] y) {
        a = Conv <group=2> (x, w0)
        b = Conv (a, w1)
        d = MatMul(b, c)
        y = MatMul(d, w2)
    }"""
    model = built(text, w0=normal(32, 16, 1), w1=normal(8, 32, 1), w2=normal(20, 4))
    assert factorable(model) == {}


def test_layers_that_read_the_same_share_a_factor():
    model, other = transformer(1, 32), transformer(1, 32)
    groups = siblings(factorable(model).values())
    assert sorted(map(len, groups)) == [1, 1, 3]
    (three,) = (group for group in groups if len(group) == 3)
    before = len(model.graph)
    rows = np.concatenate([matrix.rows_of(node, 18) for node in three])
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    made = Factors(up=left * values, down=right, shift=np.zeros(96))
    factor_layers(Editor(model), three, made)
    onnx.checker.check_model(io.to_proto(model), full_check=True)
    # One node for the factor, and three that add biases.
    assert len(model.graph) == before + 4
    feed = sentences(1)[0]
    (found,), (expected,) = (outputs(io.to_proto(one), feed) for one in (model, other))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_convolutions_with_other_windows_share_nothing():
    text = """(float[1,16,8,8] x) => (float[] y) {
        a = Conv <strides=[2,2]> (x, w)
        b = Conv <strides=[2,2]> (x, w)
        c = Conv <strides=[2,2], pads=[1,1,1,1]> (x, v)
        d = Add(a, b)
        y = Add(d, c)
    }"""
    model = built(text, w=normal(16, 16, 1, 1), v=normal(16, 16, 3, 3))
    assert [len(group) for group in siblings(factorable(model).values())] == [2, 1]
