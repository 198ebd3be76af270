import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.unread import zeros
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (zeros.drop_zero_addend, zeros.drop_layer_of_zeros, zeros.replace_zero_product)


def sum_of(g, x, branch, op_type="Add"):
    return g.Relu(g.node(op_type, x, branch))


@pytest.mark.parametrize("op_type", ["Add", "Sub"])
@pytest.mark.parametrize("zero", [0.0, np.zeros((1, 8, 1, 1)), np.zeros(6)])
def test_a_branch_times_zero_goes(op_type, zero):
    g = Graph()
    x = g.input("x", 2, 8, 5, 6)
    model = g.model(sum_of(g, x, g.Mul(g.Exp(x), zero), op_type))
    assert_rewrites(RULES, model, becomes=["Relu"])


def test_named_dimensions_are_enough():
    g = Graph()
    x = g.input("x", "N", "T", 8)
    model = g.model(sum_of(g, x, g.Mul(g.Exp(x), np.zeros(8))))
    assert_rewrites(RULES, model, becomes=["Relu"])


def test_integers_too():
    g = Graph()
    x = g.input("x", 4, dtype=TensorProto.INT64)
    model = g.model(g.Neg(g.Add(x, g.Mul(g.Abs(x), 0))), dtype=TensorProto.INT64)
    assert_rewrites(RULES, model, becomes=["Neg"])


def test_a_product_that_broadcasts_the_other_operand_stays():
    g = Graph()
    x, y = g.input("x", 8, 1), g.input("y", "N", "M")
    assert_untouched(RULES, g.model(sum_of(g, x, g.Mul(y, 0.0))))
    g = Graph()
    x, y = g.input("x", "N", 8), g.input("y", "M", 8)
    assert_untouched(RULES, g.model(sum_of(g, x, g.Mul(y, np.zeros((1, 8))))))


def test_a_product_of_known_shape_becomes_zeros():
    g = Graph()
    x, y = g.input("x", 8, 1), g.input("y", 8, 4)
    model = g.model(sum_of(g, x, g.Mul(g.Exp(y), 0.0)))
    assert_rewrites(RULES, model, becomes=["ConstantOfShape", "Add", "Relu"])


def test_what_is_infinite_on_purpose_stays():
    g = Graph()
    x = g.input("x", 2, 4)
    masked = g.Add(g.Exp(x), np.array([0, -np.inf, 0, 0]))
    assert_untouched(RULES, g.model(sum_of(g, x, g.Mul(masked, 0.0))))
    g = Graph()
    x = g.input("x", 2, 4)
    assert_untouched(RULES, g.model(sum_of(g, x, g.Mul(g.Log(x), 0.0))))


def test_other_factors_stay():
    g = Graph()
    x = g.input("x", 2, 4)
    assert_untouched(RULES, g.model(sum_of(g, x, g.Mul(g.Exp(x), np.array([0.0, 0, 0, 1])))))


@pytest.mark.parametrize("kind", ["Conv", "Gemm", "MatMul", "MatMul + Add"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_layer_of_zeros_is_its_bias(kind, bias):
    if kind == "MatMul" and bias:
        return
    g = Graph()
    held = [g.weight(8)] if bias else []
    if kind == "Conv":
        x = g.input("x", 2, 8, 5, 5)
        branch = g.Conv(g.Relu(x), np.zeros((8, 8, 3, 3)), *held, pads=[1, 1, 1, 1])
    else:
        x = g.input("x", 2, 8)
        layer = "Gemm" if kind == "Gemm" else "MatMul"
        more = held if kind == "Gemm" else []
        branch = g.node(layer, g.Relu(x), np.zeros((8, 8)), *more)
        branch = g.Add(branch, *(held or [0.0])) if kind == "MatMul + Add" else branch
    model = g.model(sum_of(g, x, branch))
    assert_rewrites(RULES, model, becomes=["Relu", *["Add"] * bias], without=["wrong constant"])
