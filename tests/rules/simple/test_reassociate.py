import numpy as np
import pytest
from onnx import TensorProto, numpy_helper

from onnxopt.rules.simple import reassociate
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (reassociate.merge_scales, reassociate.merge_shifts, reassociate.merge_affine)
STEPS = {
    "·c": lambda g, x, c: g.Mul(x, c),
    "/c": lambda g, x, c: g.Div(x, c),
    "c/": lambda g, x, c: g.Div(c, x),
    "+c": lambda g, x, c: g.Add(x, c),
    "-c": lambda g, x, c: g.Sub(x, c),
    "c-": lambda g, x, c: g.Sub(c, x),
}


def positive(g, *shape):
    return g.const(g.rng.uniform(0.6, 1.5, shape))


def chain(steps, shapes=((3, 1), (4,), ()), opset=17):
    g = Graph(opset)
    y = g.input("x", 2, 3, 4)
    for step, shape in zip(steps, shapes, strict=False):
        y = STEPS[step](g, y, positive(g, *shape))
    return g.model(y)


@pytest.mark.parametrize("inner", ["·c", "/c", "c/"])
@pytest.mark.parametrize("outer", ["·c", "/c", "c/"])
def test_merges_factors(inner, outer):
    inverse = (inner == "c/") != (outer == "c/")
    becomes = ["Div"] if inverse else ["Mul"]
    assert_rewrites(RULES, chain([inner, outer]), becomes=becomes, loses=("regrouped",))


@pytest.mark.parametrize("inner", ["+c", "-c", "c-"])
@pytest.mark.parametrize("outer", ["+c", "-c", "c-"])
def test_merges_summands(inner, outer):
    inverse = (inner == "c-") != (outer == "c-")
    becomes = ["Sub"] if inverse else ["Add"]
    model = chain([inner, outer], opset=7)
    assert_rewrites(RULES, model, becomes=becomes, loses=("regrouped",))


@pytest.mark.parametrize(
    "steps", ["·c +c /c", "/c c- ·c", "+c ·c -c", "c- /c c-", "-c ·c +c /c -c ·c"]
)
def test_merges_what_alternates_to_one_factor_and_one_summand(steps):
    shapes = ((3, 1), (4,), (), (1, 4), (2, 1, 1), ())
    assert_rewrites(RULES, chain(steps.split(), shapes), becomes=["Mul", "Add"])


def test_leaves_two_steps_of_different_kinds():
    for steps in (["·c", "+c"], ["+c", "/c"], ["c-", "·c"]):
        assert_untouched(RULES, chain(steps))


def test_leaves_constants_that_would_combine_to_a_larger_one():
    g = Graph()
    y = g.Mul(g.Mul(g.input("x", 64, 64), g.weight(64, 1)), g.weight(1, 64))
    assert_untouched(RULES, g.model(y))


def test_leaves_sums_that_are_there_to_round():
    g = Graph()
    y = g.Sub(g.Add(g.input("x", 2, 4), 3.0 * 2**22), 3.0 * 2**22)
    assert_untouched(RULES, g.model(y))
    g = Graph()
    assert_rewrites(RULES, g.model(g.Sub(g.Add(g.input("x", 2, 4), 3.0), 2.5)), becomes=["Add"])


def test_leaves_what_overflows():
    g = Graph()
    assert_untouched(RULES, g.model(g.Mul(g.Mul(g.input("x", 2, 4), 1e30), 1e30)))
    g = Graph()
    assert_untouched(RULES, g.model(g.Div(g.Div(g.input("x", 2, 4), 0.0), 2.0)))


def test_integers_wrap_around():
    for op_type, becomes in (("Add", "Add"), ("Mul", "Mul"), ("Sub", "Add")):
        for kind, number in ((np.int32, 2**31 - 1), (np.uint8, 200), (np.int64, 7)):
            g = Graph()
            dtype = numpy_helper.from_array(np.zeros(1, kind)).data_type
            y = g.input("x", 2, 4, dtype=dtype)
            for _ in range(2):
                y = g.node(op_type, y, g.const(np.array(number, kind)))
            model = g.model(y, dtype=dtype)
            if kind == np.uint8:  # onnxruntime has no kernel: the arithmetic has to do
                result, _ = apply_rules(model, RULES)
                held = numpy_helper.to_array(result.graph.initializer[0]).item()
                assert held == {"Add": 144, "Mul": 64, "Sub": 112}[op_type]
            else:
                assert_rewrites(RULES, model, becomes=[becomes], loses=("regrouped",))


def test_leaves_division_of_integers():
    g = Graph()
    x = g.input("x", 2, 4, dtype=TensorProto.INT32)
    y = g.Mul(g.Div(x, g.const(np.int32(2))), g.const(np.int32(2)))
    assert_untouched(RULES, g.model(y, dtype=TensorProto.INT32))


def test_leaves_the_constants_of_activations():
    g = Graph()
    x = g.input("x", 2, 4)
    y = g.Mul(g.Mul(x, g.Add(g.Erf(g.Div(x, 2**0.5)), 1.0)), 0.5)
    assert_untouched(RULES, g.model(g.Mul(y, 3.0)))
    g = Graph()
    y = g.Div(g.Clip(g.Add(g.Add(g.input("x", 2, 4), 1.0), 3.0), 0.0, 6.0), 6.0)
    assert_untouched(RULES, g.model(y))
