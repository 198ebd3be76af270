import numpy as np
import pytest

from onnxopt.rules.layout import transposes
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

NHWC, NCHW = [0, 2, 3, 1], [0, 3, 1, 2]


def test_transposes_that_cancel_go_and_others_become_one():
    for second, becomes in ((NCHW, ["Relu"]), (NHWC, ["Transpose", "Relu"])):
        g = Graph()
        y = g.Transpose(g.Transpose(g.input("x", 2, 3, 4, 5), perm=NHWC), perm=second)
        assert_rewrites(transposes.merge_transposes, g.model(g.Relu(y)), becomes=becomes)


def test_a_reversal_without_perm_is_understood():
    g = Graph()
    y = g.Relu(g.Transpose(g.Transpose(g.input("x", 2, 3, 4)), perm=[2, 1, 0]))
    assert_rewrites(transposes.merge_transposes, g.model(y), becomes=["Relu"])


def test_a_shared_transpose_is_skipped_only_where_that_saves_a_node():
    g = Graph()
    inner = g.Transpose(g.input("x", 2, 3, 4, 5), perm=NHWC)
    model = g.model(g.Transpose(inner, perm=NHWC), g.Exp(inner))
    assert_untouched(transposes.merge_transposes, model)
    g = Graph()
    inner = g.Transpose(g.input("x", 2, 3, 4, 5), perm=NHWC)
    model = g.model(g.Relu(g.Transpose(inner, perm=NCHW)), g.Exp(inner))
    assert_rewrites(transposes.merge_transposes, model, becomes=["Transpose", "Relu", "Exp"])


@pytest.mark.parametrize(
    ("shape", "perm", "becomes"),
    [
        ((2, 3), [0, 1], ["Relu"]),
        ((1, 1, 4), [1, 0, 2], ["Relu"]),
        ((2, 1, 3), [0, 2, 1], ["Reshape", "Relu"]),
        (("N", 1, 3), [1, 0, 2], ["Reshape", "Relu"]),
        (("N", "M", 1), [0, 2, 1], ["Reshape", "Relu"]),
    ],
)
def test_a_transpose_that_moves_no_element_is_none(shape, perm, becomes):
    g = Graph()
    y = g.Relu(g.Transpose(g.input("x", *shape), perm=perm))
    assert_rewrites(transposes.drop_idle_transpose, g.model(y), becomes=becomes)


def test_a_transpose_that_moves_elements_stays():
    for shape, perm in (((2, 3, 1), [1, 0, 2]), (("N", 1, "M"), [1, 2, 0]), ((2, 3), [1, 0])):
        g = Graph()
        model = g.model(g.Transpose(g.input("x", *shape), perm=perm))
        assert_untouched(transposes.drop_idle_transpose, model)


def test_elementwise_operators_between_transposes_that_cancel_work_without_them():
    g = Graph()
    t = g.Transpose(g.input("x", 2, 3, 4, 5), perm=NHWC)
    t = g.Mul(t, g.weight(3))
    t = g.Mul(t, g.Sigmoid(t))
    t = g.Clip(t, 0.0, 6.0)
    model = g.model(g.Transpose(g.Sub(1.0, t), perm=NCHW))
    becomes = ["Mul", "Sigmoid", "Mul", "Clip", "Sub"]
    assert_rewrites(transposes.cancel_transposes_around, model, becomes=becomes)


def test_concat_and_add_between_transposes_that_cancel_work_without_them():
    g = Graph()
    x = g.input("x", 2, 3, 4, 5)
    a = g.Add(g.Transpose(x, perm=NHWC), g.weight(4, 5, 3))
    b = g.Transpose(g.Relu(x), perm=NHWC)
    for axis in (3, -2):
        model = g.model(g.Transpose(g.Concat(a, b, axis=axis), perm=NCHW))
        becomes = ["Relu", "Add", "Concat"]
        assert_rewrites(transposes.cancel_transposes_around, model, becomes=becomes)
        g.nodes = g.nodes[:4]


def test_what_would_need_another_transpose_stays():
    g = Graph()
    x, z = g.input("x", 2, 3, 4, 5), g.input("z", 2, 4, 5, 3)
    model = g.model(g.Transpose(g.Add(g.Transpose(x, perm=NHWC), z), perm=NCHW))
    assert_untouched(transposes.cancel_transposes_around, model)
    g = Graph()
    t = g.Relu(g.Transpose(g.input("x", 2, 3, 4, 5), perm=NHWC))
    model = g.model(g.Transpose(t, perm=NCHW), g.Softmax(t))
    assert_untouched(transposes.cancel_transposes_around, model)
    g = Graph()
    t = g.Softmax(g.Transpose(g.input("x", 2, 3, 4, 5), perm=NHWC), axis=3)
    assert_untouched(transposes.cancel_transposes_around, g.model(g.Transpose(t, perm=NCHW)))


@pytest.mark.parametrize(
    ("shape", "first", "target", "last", "becomes"),
    [
        (("S", 2, "N", 4), [0, 2, 1, 3], (0, 0, -1), [1, 0, 2], ["Transpose", "Reshape"]),
        ((2, 3, 4, 5), [1, 0, 2, 3], (3, 8, 5), [2, 0, 1], ["Transpose", "Reshape"]),
        ((2, 3, 4, 5), [2, 3, 0, 1], (20, 6), [1, 0], ["Reshape"]),
    ],
)
def test_transposes_around_a_reshape_that_joins_axes_are_one(shape, first, target, last, becomes):
    g = Graph()
    t = g.Transpose(g.input("x", *shape), perm=first)
    y = g.Transpose(g.Reshape(t, np.array(target)), perm=last)
    chosen = [transposes.merge_transposes_around_reshape, transposes.drop_idle_transpose]
    assert_rewrites(chosen, g.model(y), becomes=becomes)


@pytest.mark.parametrize(
    ("shape", "target", "last"),
    [
        ((4, 3, 2), (3, 2, 4), [1, 0, 2]),
        ((4, 3, 2), (8, 3), [1, 0]),
        ((6, 4), (4, 2, 3), [1, 0, 2]),
        (("N", "M", 2), (-1, 2), [1, 0]),
    ],
)
def test_transposes_around_another_reshape_stay(shape, target, last):
    g = Graph()
    perm = list(reversed(range(len(shape))))
    t = g.Transpose(g.input("x", *shape), perm=perm)
    y = g.Transpose(g.Reshape(t, np.array(target)), perm=last)
    assert_untouched(transposes.merge_transposes_around_reshape, g.model(y))


def test_gemm_transposes_by_itself():
    for flags in ({}, {"transA": 1}, {"transB": 1, "alpha": 0.5}):
        g = Graph()
        a = g.input("a", *((3, 2) if not flags.get("transA") else (2, 3)))
        model = g.model(g.Gemm(g.Transpose(a), g.weight(3, 3), g.weight(3), **flags))
        assert_rewrites(transposes.fold_transpose_into_gemm, model, becomes=["Gemm"])
    g = Graph()
    b = g.Transpose(g.input("b", 4, 3), perm=[1, 0])
    model = g.model(g.Gemm(g.input("a", 2, 3), b))
    assert_rewrites(transposes.fold_transpose_into_gemm, model, becomes=["Gemm"])


def test_a_constant_shared_with_others_is_not_changed_for_them():
    g = Graph()
    weight = g.weight(3)
    x = g.input("x", 2, 3, 4, 5)
    t = g.Mul(g.Transpose(x, perm=NHWC), weight)
    other = g.Add(g.input("z", 2, 3), weight)
    model = g.model(g.Transpose(t, perm=NCHW), other)
    result = assert_rewrites(transposes.cancel_transposes_around, model, becomes=["Mul", "Add"])
    shapes = sorted(tuple(tensor.dims) for tensor in result.graph.initializer)
    assert shapes == [(1, 3, 1, 1), (3,)]
    assert np.prod(shapes[0]) == 3
