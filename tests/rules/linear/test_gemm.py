import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.linear import gemm
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph


@pytest.mark.parametrize("shape", [(), (1,), (5,), (1, 5)])
@pytest.mark.parametrize("rows", [4, "n"])
def test_fuses_matmul_and_a_row(shape, rows):
    g = Graph()
    y = g.Add(g.MatMul(g.input("x", rows, 3), g.weight(3, 5)), g.weight(*shape))
    assert_rewrites(gemm.fuse_matmul_add, g.model(y), becomes=["Gemm"])


def test_fuses_with_a_weight_and_a_row_that_are_computed():
    g = Graph(opset=7)
    y = g.MatMul(g.input("x", 4, 3), g.input("w", 3, 5))
    model = g.model(g.Add(y, g.input("b", 5)))
    assert_rewrites(gemm.fuse_matmul_add, model, becomes=["Gemm"])


@pytest.mark.parametrize(
    ("x", "w", "b"),
    [
        ((2, 4, 3), (3, 5), (5,)),
        ((4, 3), (2, 3, 5), (5,)),
        ((3,), (3, 5), (5,)),
        ((4, 3), (3, 5), (4, 5)),
        ((4, 3), (3, 5), (4, 1)),
        ((4, 3), (3, 5), (1, 1, 5)),
        ((4, 3), (3, 1), (5,)),
    ],
)
def test_leaves_other_shapes(x, w, b):
    g = Graph()
    model = g.model(g.Add(g.MatMul(g.input("x", *x), g.weight(*w)), g.weight(*b)))
    assert_untouched(gemm.fuse_matmul_add, model)


def test_leaves_unknown_widths_and_integers():
    g = Graph()
    y = g.MatMul(g.input("x", 4, 3), g.input("w", 3, "n"))
    assert_untouched(gemm.fuse_matmul_add, g.model(g.Add(y, g.weight(5))))
    g = Graph()
    kind = TensorProto.INT32
    y = g.MatMul(g.input("x", 4, 3, dtype=kind), g.input("w", 3, 5, dtype=kind))
    model = g.model(g.Add(y, g.input("b", 5, dtype=kind)), dtype=kind)
    assert_untouched(gemm.fuse_matmul_add, model)


def merged_gemm(shape=(2, 3, 8), merged=(-1, 8), parted=(2, 3, 5), opset=17, **attributes):
    g = Graph(opset)
    x = g.Reshape(g.input("x", *shape), np.array(merged, np.int64))
    weight = g.weight(5, 8) if attributes.get("transB") else g.weight(8, 5)
    y = g.Gemm(x, weight, g.weight(5), **attributes)
    return g.model(g.Reshape(y, np.array(parted, np.int64)))


@pytest.mark.parametrize("shape", [(2, 3, 8), (1, 2, 3, 8)])
def test_gemm_between_reshapes(shape):
    model = merged_gemm(shape, parted=(*shape[:-1], 5))
    rule = gemm.multiply_without_merging
    assert_rewrites(rule, model, becomes=["MatMul", "Add"], loses=["overridable"])


@pytest.mark.parametrize(
    "options",
    [
        {"parted": (3, 2, 5)},
        {"parted": (6, 5)},
        {"shape": (3, 2, 8), "merged": (6, 8), "parted": (2, 3, 5)},
        {"shape": (2, 3, 4, 2), "parted": (2, 3, 5)},
        {"alpha": 0.5},
        {"transB": 1},
    ],
)
def test_gemm_between_other_reshapes_stays(options):
    assert_untouched(gemm.multiply_without_merging, merged_gemm(**options))
