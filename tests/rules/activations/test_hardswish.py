import pytest
from onnx import TensorProto

from onnxopt.rules.activations import hardswish
from onnxopt.rules.simple import clamps
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = [
    clamps.merge_clamps,
    hardswish.fuse_hard_sigmoid,
    hardswish.fuse_product_with_hard_sigmoid,
    hardswish.fuse_hard_swish,
]


def clip(g, x, lo, hi, spelling="clip"):
    if spelling == "min max":
        return g.Min(g.Max(x, float(lo)), float(hi))
    if spelling == "min relu":
        return g.Min(g.Relu(x), float(hi))
    if g.opset < 11:
        return g.Clip(x, min=float(lo), max=float(hi))
    return g.Clip(x, float(lo), float(hi))


def gate(g, x, spelling="clip", hi=6.0, scale=None):
    ramp = clip(g, g.Add(x, 3.0), 0, hi, spelling)
    return g.Div(ramp, 6.0) if scale is None else g.Mul(ramp, scale)


def attributes(model, op_type):
    (node,) = (node for node in model.graph.node if node.op_type == op_type)
    return {a.name: a.f for a in node.attribute}


@pytest.mark.parametrize("opset", [7, 10, 11, 13, 22])
def test_hard_sigmoid_in_every_opset(opset):
    g = Graph(opset)
    x = g.input("x", 2, 3, 4)
    result = assert_rewrites(RULES, g.model(gate(g, x)), becomes=["HardSigmoid"])
    assert attributes(result, "HardSigmoid") == pytest.approx({"alpha": 1 / 6, "beta": 0.5})


@pytest.mark.parametrize("spelling", ["min max", "min relu"])
def test_relu6_by_other_means(spelling):
    g = Graph(13)
    model = g.model(gate(g, g.input("x", 2, 3), spelling, scale=1 / 6))
    # One of the two clamps may stand by itself where the other one is read elsewhere.
    assert_rewrites(RULES, model, becomes=["HardSigmoid"])


def test_slope_and_offset_come_from_the_graph():
    g = Graph(13)
    x = g.input("x", 2, 3)
    keras = g.model(clip(g, g.Add(g.Mul(x, 0.2), 0.5), 0, 1))
    result = assert_rewrites(RULES, keras, becomes=["HardSigmoid"])
    assert attributes(result, "HardSigmoid") == pytest.approx({"alpha": 0.2, "beta": 0.5})
    g = Graph(13)
    line = g.Sub(g.Div(g.input("x", 2, 3), 4.0), 1.0)
    result = assert_rewrites(RULES, g.model(g.Mul(clip(g, line, 0, 2), 0.5)))
    assert attributes(result, "HardSigmoid") == pytest.approx({"alpha": 0.125, "beta": -0.5})


def hard_swish(opset, grouping, hi=6.0):
    g = Graph(opset)
    x = g.input("x", 2, 3, 4)
    ramp = clip(g, g.Add(x, 3.0), 0, hi)
    return g.model(
        {
            "(x·c)/6": lambda: g.Div(g.Mul(x, ramp), 6.0),
            "x·(c/6)": lambda: g.Mul(x, g.Div(ramp, 6.0)),
            "(x/6)·c": lambda: g.Mul(g.Div(x, 6.0), ramp),
            "(x·c)·⅙": lambda: g.Mul(g.Mul(ramp, x), 1 / 6),
            "(x·⅙)·c": lambda: g.Mul(g.Mul(x, 1 / 6), ramp),
            "x·(c·⅙)": lambda: g.Mul(x, g.Mul(ramp, 1 / 6)),
        }[grouping]()
    )


GROUPINGS = ["(x·c)/6", "x·(c/6)", "(x/6)·c", "(x·c)·⅙", "(x·⅙)·c", "x·(c·⅙)"]


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_hard_swish(grouping):
    assert_rewrites(RULES, hard_swish(14, grouping), becomes=["HardSwish"])
    assert_rewrites(RULES, hard_swish(12, grouping), becomes=["HardSigmoid", "Mul"])


def test_gate_of_something_else():
    g = Graph(14)
    x, y = g.input("x", 2, 3, 1), g.input("y", 2, 3, 4)
    model = g.model(g.Div(g.Mul(y, clip(g, g.Add(x, 3.0), 0, 6)), 6.0))
    assert_rewrites(RULES, model, becomes=["HardSigmoid", "Mul"])


def test_other_constants():
    for grouping in GROUPINGS[:4]:
        assert_untouched(RULES, hard_swish(14, grouping, hi=6.01))
    g = Graph(14)
    x = g.input("x", 2, 3)
    assert_untouched(RULES, g.model(g.Mul(x, g.HardSigmoid(x, alpha=0.2, beta=0.5))))
    g = Graph(14)
    assert_untouched(RULES, g.model(clip(g, g.Add(g.input("x", 2, 3), 0.5), 0, 1)))
    g = Graph(14)
    assert_untouched(RULES, g.model(gate(g, g.input("x", 2, 3), hi=6.0, scale=0.1667)))


def test_what_has_no_kernel_stays():
    g = Graph(14)
    x = g.input("x", 2, 3, dtype=TensorProto.DOUBLE)
    three, zero, six = (g.const(number, "float64") for number in (3.0, 0.0, 6.0))
    model = g.model(g.Div(g.Clip(g.Add(x, three), zero, six), six), dtype=TensorProto.DOUBLE)
    assert_untouched(RULES, model)
