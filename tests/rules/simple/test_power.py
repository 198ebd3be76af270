import numpy as np
from onnx import TensorProto

from onnxopt.rules.simple import power
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph


def pow_model(exponent, opset=17, after=None):
    g = Graph(opset)
    y = g.Pow(g.Exp(g.input("x", 3, 4)), exponent)
    return g.model(y if after is None else g.node(after, y))


def test_square_root_and_reciprocal():
    for opset in (7, 17):
        for rule, exponent, op_type in (
            (power.square_by_multiplication, 2.0, "Mul"),
            (power.power_to_root, 0.5, "Sqrt"),
            (power.power_to_reciprocal, -1.0, "Reciprocal"),
        ):
            assert_rewrites(rule, pow_model(exponent, opset), becomes=["Exp", op_type])


def test_mean_over_other_axes_than_the_last():
    g = Graph(18)
    model = g.model(g.axes("ReduceMean", g.Pow(g.input("x", 3, 4, 5), 2.0), (1,)))
    assert_rewrites(power.square_by_multiplication, model, becomes=["Mul", "ReduceMean"])


def test_exponent_of_another_type():
    for exponent in (np.int64(2), np.int32(2), np.float64(2)):
        model = pow_model(np.asarray(exponent))
        assert_rewrites(power.square_by_multiplication, model, becomes=["Exp", "Mul"])


def test_what_stays():
    rules = [power.square_by_multiplication, power.power_to_root, power.power_to_reciprocal]
    for exponent in (3.0, 2.001, -2.0, np.full((2, 1, 1), 2.0), np.full((1, 1, 1), 2.0)):
        assert_untouched(rules, pow_model(exponent))
    assert_untouched(rules, pow_model(2.0, after="ReduceMean"))
    g = Graph(18)
    assert_untouched(rules, g.model(g.axes("ReduceMean", g.Pow(g.input("x", 3, 4), 2.0), (1,))))
    g = Graph(17)
    x = g.input("x", 3, 4, dtype=TensorProto.INT64)
    assert_untouched(rules, g.model(g.Pow(x, np.asarray(2)), dtype=TensorProto.INT64))


def quotient(numerator=1.0, after=None, dtype=TensorProto.FLOAT):
    g = Graph()
    x = g.Abs(g.input("x", 3, 4, dtype=dtype))
    y = g.Div(np.asarray(1) if dtype == TensorProto.INT64 else numerator, x)
    return g.model(y if after is None else g.node(after, y, 2.0), dtype=dtype)


def test_quotient_to_reciprocal():
    rule = power.quotient_to_reciprocal
    for after in (None, "Add"):
        became = ["Abs", "Reciprocal", *([after] if after else [])]
        assert_rewrites(rule, quotient(after=after), becomes=became)
    for model in (
        quotient(2.0),
        quotient(after="Mul"),
        quotient(np.ones((2, 1, 1))),
        quotient(dtype=TensorProto.INT64),
    ):
        assert_untouched(rule, model)
