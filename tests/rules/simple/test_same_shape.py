import numpy as np
import pytest

from onnxopt.rules.simple import same_shape
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

END = 2**63 - 1


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize("shape", [(2, 3, 1), ("N", 3, 1)])
def test_reshape_to_the_same_shape_goes(shape):
    for target in ((0, 0, 0), (0, 3, -1), (-1, 3, 1)):
        g = Graph()
        y = g.Relu(g.Reshape(g.input("x", *shape), ints(*target)))
        model = g.model(y)
        assert_rewrites(same_shape.drop_reshape_to_same_shape, model, becomes=["Relu"])


def test_flatten_of_a_matrix_and_squeeze_of_nothing_go():
    g = Graph()
    y = g.Relu(g.Flatten(g.input("x", 2, 3)))
    assert_rewrites(same_shape.drop_reshape_to_same_shape, g.model(y), becomes=["Relu"])
    g = Graph()
    y = g.Relu(g.Squeeze(g.input("x", 2, 3)))
    assert_rewrites(same_shape.drop_reshape_to_same_shape, g.model(y), becomes=["Relu"])


def test_reshape_to_another_or_an_unknown_shape_stays():
    g = Graph()
    assert_untouched(
        same_shape.drop_reshape_to_same_shape, g.model(g.Reshape(g.input("x", 2, 3), ints(3, 2)))
    )
    g = Graph()
    y = g.Reshape(g.input("x", "N", "M"), ints(-1, 2))
    assert_untouched(same_shape.drop_reshape_to_same_shape, g.model(y))


@pytest.mark.parametrize("shape", [(2, 3), ("N", 3)])
def test_expand_and_tile_that_repeat_nothing_go(shape):
    for op_type, sizes in (("Expand", (1, 3)), ("Expand", (1,)), ("Tile", (1, 1))):
        g = Graph()
        y = g.Relu(g.node(op_type, g.input("x", *shape), ints(*sizes)))
        assert_rewrites(same_shape.drop_expand_to_same_shape, g.model(y), becomes=["Relu"])
    for op_type, sizes in (("Expand", (1, 2, 3)), ("Expand", (2, 3)), ("Tile", (2, 1))):
        g = Graph()
        y = g.node(op_type, g.input("x", "N", 3), ints(*sizes))
        assert_untouched(same_shape.drop_expand_to_same_shape, g.model(y))


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(0, END, 1), (0, 3, 1), (-3, END, 1), (-9, 99, 1), (0, 10**9, 1)]
)
def test_slice_of_all_goes(start, stop, step):
    g = Graph()
    y = g.Relu(g.Slice(g.input("x", 2, 3), ints(start), ints(stop), ints(1), ints(step)))
    assert_rewrites(same_shape.drop_slice_of_all, g.model(y), becomes=["Relu"])


def test_slice_of_all_goes_in_its_attribute_form_and_along_an_axis_of_unknown_size():
    g = Graph(opset=9)
    y = g.Relu(g.Slice(g.input("x", "N", 3), starts=[0, 0], ends=[END, 3]))
    assert_rewrites(same_shape.drop_slice_of_all, g.model(y), becomes=["Relu"])


def test_a_stop_that_no_tensor_could_reach_counts_as_the_end():
    for rows, stays in ((1024, False), (4, True)):
        g = Graph()
        y = g.Relu(g.Slice(g.input("x", "N", rows), ints(0), ints(2**30), ints(0)))
        if stays:
            assert_untouched(same_shape.drop_slice_of_all, g.model(y))
        else:
            assert_rewrites(same_shape.drop_slice_of_all, g.model(y), becomes=["Relu"])


@pytest.mark.parametrize(
    ("start", "stop", "step"), [(1, END, 1), (0, 2, 1), (0, -1, 1), (-1, -END, -1), (0, END, 2)]
)
def test_slice_of_a_part_or_backwards_stays(start, stop, step):
    for size in (3, "M"):
        g = Graph()
        y = g.Slice(g.input("x", 2, size), ints(start), ints(stop), ints(1), ints(step))
        assert_untouched(same_shape.drop_slice_of_all, g.model(y))


def test_pad_by_nothing_goes():
    for opset in (7, 13, 18):
        g = Graph(opset=opset)
        x = g.input("x", 2, 3)
        padded = g.Pad(x, pads=[0] * 4) if opset < 11 else g.Pad(x, ints(0, 0, 0, 0))
        assert_rewrites(same_shape.drop_empty_pad, g.model(g.Relu(padded)), becomes=["Relu"])
    g = Graph()
    y = g.Pad(g.input("x", 2, 3), ints(1, 0, -1, 0))
    assert_untouched(same_shape.drop_empty_pad, g.model(y))


def test_pools_and_blocks_of_one_go():
    for op_type in ("AveragePool", "MaxPool"):
        g = Graph()
        y = g.node(op_type, g.input("x", 1, 2, 4, 4), kernel_shape=[1, 1], strides=[1, 1])
        assert_rewrites(same_shape.drop_pool_of_one, g.model(g.Relu(y)), becomes=["Relu"])
    g = Graph()
    y = g.Relu(g.SpaceToDepth(g.input("x", 1, 2, 4, 4), blocksize=1))
    assert_rewrites(same_shape.drop_pool_of_one, g.model(y), becomes=["Relu"])


@pytest.mark.parametrize(
    "attributes",
    [{"strides": [2, 2]}, {"pads": [1, 1, 1, 1]}, {"kernel_shape": [2, 1]}],
)
def test_pools_that_stride_pad_or_pool_stay(attributes):
    g = Graph()
    y = g.AveragePool(g.input("x", 1, 2, 4, 4), **{"kernel_shape": [1, 1], **attributes})
    assert_untouched(same_shape.drop_pool_of_one, g.model(y))


def test_a_global_pool_over_one_position_goes():
    for op_type in ("GlobalAveragePool", "GlobalMaxPool"):
        g = Graph()
        y = g.Relu(g.node(op_type, g.input("x", 2, 3, 1, 1)))
        assert_rewrites(same_shape.drop_global_pool_of_one, g.model(y), becomes=["Relu"])
        g = Graph()
        y = g.node(op_type, g.input("x", 2, 3, 1, "W"))
        assert_untouched(same_shape.drop_global_pool_of_one, g.model(y))


def test_resize_by_one_goes_in_every_form():
    ones = np.ones(4, np.float32)
    for opset, operands in (
        (10, (ones,)),
        (13, (None, ones)),
        (13, (None, None, ints(1, 2, 4, 4))),
        (19, (None, ones)),
    ):
        g = Graph(opset=opset)
        y = g.Relu(g.Resize(g.input("x", 1, 2, 4, 4), *operands, mode="linear"))
        model = g.model(y)
        assert_rewrites(
            same_shape.drop_resize_to_same_size, model, becomes=["Relu"], loses=["half"]
        )
    g = Graph()
    y = g.Resize(g.input("x", 1, 2, 4, 4), None, np.array([1, 1, 2, 1], np.float32))
    assert_untouched(same_shape.drop_resize_to_same_size, g.model(y))
    g = Graph()
    mode = {"coordinate_transformation_mode": "tf_crop_and_resize"}
    roi = np.array([0, 0, 0, 0, 1, 1, 0.5, 0.5], np.float32)
    y = g.Resize(g.input("x", 1, 2, 4, 4), roi, ones, **mode)
    assert_untouched(same_shape.drop_resize_to_same_size, g.model(y))


@pytest.mark.parametrize("opset", [11, 13, 18])
@pytest.mark.parametrize("op_type", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceProd"])
def test_a_reduction_of_one_element_goes_or_becomes_squeeze(opset, op_type):
    for keepdims, becomes in ((1, ["Relu"]), (0, ["Squeeze", "Relu"])):
        g = Graph(opset=opset)
        y = g.Relu(g.axes(op_type, g.input("x", 2, 1, 3), [-2], keepdims=keepdims))
        assert_rewrites(same_shape.drop_reduction_of_one, g.model(y), becomes=becomes)
    g = Graph(opset=opset)
    y = g.axes(op_type, g.input("x", 2, 1, 3), [1, 2])
    assert_untouched(same_shape.drop_reduction_of_one, g.model(y))
