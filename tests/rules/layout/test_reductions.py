import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.rules.layout import reductions
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, operators, run
from tests.rules.graphs import Graph

SINCE = [11, 13, 18]


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("opset", SINCE)
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceL2"])
def test_axes_that_are_put_back_are_kept(opset, op_type):
    for axes in ([1], [-1], [1, 2]):
        g = Graph(opset=opset)
        small = g.axes(op_type, g.input("x", "N", 3, 4), axes, keepdims=0)
        model = g.model(g.axes("Unsqueeze", small, axes))
        assert_rewrites(reductions.keep_reduced_axes, model, becomes=[op_type])


def test_a_reshape_puts_axes_back_too():
    g = Graph()
    small = g.axes("ReduceMax", g.input("x", "N", 3), [1], keepdims=0)
    model = g.model(g.Reshape(small, ints(-1, 1)))
    assert_rewrites(reductions.keep_reduced_axes, model, becomes=["ReduceMax"])
    for target in ((1, -1), (-1,), (0, 1, 1)):
        g = Graph()
        small = g.axes("ReduceMax", g.input("x", "N", 3), [1], keepdims=0)
        model = g.model(g.Reshape(small, ints(*target)))
        assert_untouched(reductions.keep_reduced_axes, model)


def test_axes_are_put_back_without_a_known_rank():
    g = Graph()
    g.inputs.append(helper.make_tensor_value_info("x", TensorProto.FLOAT, None))
    small = g.axes("ReduceSum", "x", [1], keepdims=0)
    model = g.model(g.axes("Unsqueeze", small, [1]))
    result, _ = apply_rules(model, [reductions.keep_reduced_axes])
    assert operators(result) == {"ReduceSum": 1}
    feeds = {"x": np.ones((2, 3, 4), np.float32)}
    np.testing.assert_array_equal(run(result, feeds)[0], run(model, feeds)[0])


@pytest.mark.parametrize("opset", SINCE)
def test_axes_that_are_taken_away_are_not_kept(opset):
    g = Graph(opset=opset)
    kept = g.axes("ReduceMean", g.input("x", "N", 3, 4), [-1, 1], keepdims=1)
    model = g.model(g.axes("Squeeze", kept, [1, 2]))
    assert_rewrites(reductions.drop_reduced_axes, model, becomes=["ReduceMean"])
    g = Graph(opset=opset)
    kept = g.axes("ReduceMean", g.input("x", 2, 3, 1), [1], keepdims=1)
    assert_untouched(reductions.drop_reduced_axes, g.model(g.axes("Squeeze", kept, [2])))


@pytest.mark.parametrize("opset", SINCE)
@pytest.mark.parametrize("perm", [[0, 2, 3, 1], [3, 1, 0, 2]])
@pytest.mark.parametrize("axes", [[1, 2], [3], [0, -1]])
def test_reductions_need_no_transposed_data(opset, perm, axes):
    for keepdims in (0, 1):
        g = Graph(opset=opset)
        t = g.Transpose(g.input("x", 2, 3, 4, 5), perm=perm)
        model = g.model(g.axes("ReduceMax", t, axes, keepdims=keepdims))
        assert_rewrites(reductions.reduce_before_transpose, model, loses=["free batch"])


def test_a_global_mean_of_channels_last_leaves_one_node():
    g = Graph()
    t = g.Transpose(g.input("x", 2, 3, 4, 5), perm=[0, 2, 3, 1])
    model = g.model(g.axes("ReduceMean", t, [1, 2], keepdims=0))
    assert_rewrites(reductions.reduce_before_transpose, model, becomes=["ReduceMean"])


def test_a_transpose_that_others_read_stays():
    g = Graph()
    t = g.Transpose(g.input("x", 2, 3, 4), perm=[0, 2, 1])
    model = g.model(g.axes("ReduceMean", t, [1]), g.Relu(t))
    assert_untouched(reductions.reduce_before_transpose, model)
