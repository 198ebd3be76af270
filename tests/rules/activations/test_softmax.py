import pytest
from onnx import TensorProto

from onnxopt.rules.activations import softmax
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph


@pytest.mark.parametrize(
    ("opset", "axis"), [(12, None), (12, 1), (12, 2), (13, None), (17, 1), (17, -2)]
)
def test_log_softmax(opset, axis):
    g = Graph(opset)
    options = {} if axis is None else {"axis": axis}
    model = g.model(g.Log(g.Softmax(g.input("x", 2, 3, 4), **options)))
    assert_rewrites(softmax.fuse_log_softmax, model, becomes=["LogSoftmax"])


def argmax_of_softmax(opset, along, taken, kind="Softmax", **options):
    g = Graph(opset)
    x = g.input("x", 2, 3, 4)
    y = g.ArgMax(g.node(kind, x, axis=along), axis=taken, **options)
    return g.model(y, dtype=TensorProto.INT64)


@pytest.mark.parametrize(
    ("opset", "along", "taken"), [(17, -1, 2), (17, 1, -2), (12, 1, 1), (12, 1, 2), (11, 0, 2)]
)
def test_argmax_does_not_need_softmax(opset, along, taken):
    for kind in ("Softmax", "LogSoftmax"):
        model = argmax_of_softmax(opset, along, taken, kind, keepdims=0)
        assert_rewrites(softmax.drop_softmax_before_argmax, model, becomes=["ArgMax"])


def test_argmax_along_another_axis_does():
    for opset, along, taken in ((17, 2, 1), (17, 1, 2), (12, 2, 1)):
        model = argmax_of_softmax(opset, along, taken)
        assert_untouched(softmax.drop_softmax_before_argmax, model)


def exponentials(opset=17, axis=-1, other=None, keepdims=1):
    g = Graph(opset)
    x = g.input("x", 2, 3, 3)
    exp = g.Exp(g.Sub(x, g.axes("ReduceMax", x, (axis,), keepdims=keepdims)))
    total = g.axes("ReduceSum", exp, (axis if other is None else other,), keepdims=keepdims)
    return g.model(g.Div(exp, total))


def test_softmax():
    for opset, axis in ((13, -1), (17, 1), (18, 0)):
        assert_rewrites(softmax.fuse_softmax, exponentials(opset, axis), becomes=["Softmax"])
    for model in (exponentials(12), exponentials(other=1), exponentials(axis=0, keepdims=0)):
        assert_untouched(softmax.fuse_softmax, model)
