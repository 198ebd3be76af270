import math

import pytest

from onnxopt.rules.activations import gelu
from onnxopt.testing import assert_rewrites, assert_untouched, operators
from tests.rules.graphs import Graph

SLOPE = math.sqrt(2 / math.pi)


def halved(g, x, gate, grouping):
    if grouping == "(x·½)·g":
        return g.Mul(g.Mul(x, 0.5), gate)
    if grouping == "(x·g)·½":
        return g.Mul(g.Mul(x, gate), 0.5)
    if grouping == "x·(½·g)":
        return g.Mul(x, g.Mul(0.5, gate))
    if grouping == "(x/2)·g":
        return g.Mul(g.Div(x, 2.0), gate)
    return g.Div(g.Mul(x, gate), 2.0)


GROUPINGS = ["(x·½)·g", "(x·g)·½", "x·(½·g)", "(x/2)·g", "(x·g)/2"]


def erf_gelu(opset=20, grouping="(x·½)·g", divide=True, root=None):
    g = Graph(opset)
    x = g.input("x", 2, 4, 8)
    root = math.sqrt(2) if root is None else root
    scaled = g.Div(x, root) if divide else g.Mul(x, 1 / root)
    return g.model(halved(g, x, g.Add(g.Erf(scaled), 1.0), grouping))


def tanh_gelu(opset=20, grouping="(x·½)·g", cube="pow", slope=SLOPE):
    g = Graph(opset)
    x = g.input("x", 2, 4, 8)
    if cube == "pow":
        inner = g.Mul(g.Add(x, g.Mul(g.Pow(x, 3.0), 0.044715)), slope)
    elif cube == "mul":
        inner = g.Mul(slope, g.Add(x, g.Mul(x, g.Mul(x, g.Mul(0.044715, x)))))
    elif cube == "square":
        inner = g.Mul(slope, g.Add(x, g.Mul(g.Mul(g.Pow(x, 2.0), x), 0.044715)))
    elif cube == "factored":
        inner = g.Mul(g.Mul(x, slope), g.Add(g.Mul(x, g.Mul(x, 0.044715)), 1.0))
    else:
        inner = g.Mul(g.Mul(x, slope), g.Add(g.Mul(g.Pow(x, 2.0), 0.044715), 1.0))
    return g.model(halved(g, x, g.Add(g.Tanh(inner), 1.0), grouping))


@pytest.mark.parametrize("grouping", GROUPINGS)
@pytest.mark.parametrize("divide", [True, False])
def test_erf_becomes_gelu(grouping, divide):
    assert_rewrites(gelu.fuse_erf_gelu, erf_gelu(20, grouping, divide), becomes=["Gelu"])


def test_half_inside_the_sum():
    g = Graph(20)
    x = g.input("x", 2, 4)
    half = g.Mul(g.Erf(g.Mul(x, math.sqrt(0.5))), 0.5)
    assert_rewrites(gelu.fuse_erf_gelu, g.model(g.Mul(x, g.Add(half, 0.5))), becomes=["Gelu"])


@pytest.mark.parametrize("cube", ["pow", "mul", "square", "factored", "factored square"])
def test_tanh_becomes_gelu(cube):
    for grouping in ("(x·½)·g", "x·(½·g)"):
        result = assert_rewrites(
            gelu.fuse_tanh_gelu, tanh_gelu(20, grouping, cube), becomes=["Gelu"]
        )
        assert result.graph.node[0].attribute[0].s == b"tanh"


def test_onnxruntime_has_its_own_before_opset_20():
    for target in ("cpu", "cuda"):
        for rule, model, name in (
            (gelu.fuse_erf_gelu_for_onnxruntime, erf_gelu(13, divide=False), "Gelu"),
            (gelu.fuse_tanh_gelu_for_onnxruntime, tanh_gelu(13, cube="mul"), "FastGelu"),
        ):
            result = assert_rewrites(rule, model, becomes=[name], target=target)
            assert result.graph.node[0].domain == "com.microsoft"
            assert_untouched(rule, model, target="portable")


@pytest.mark.parametrize(
    ("grouping", "divide"),
    [(g, False) for g in GROUPINGS] + [("x·(½·g)", True), ("(x·g)/2", True)],
)
def test_erf_is_spelt_as_onnxruntime_fuses_it(grouping, divide):
    model = erf_gelu(13, grouping, divide)
    # Another grouping of the same thing may be one that needs no change.
    result = assert_rewrites(gelu.respell_erf_gelu, model, loses=["regrouped"])
    assert operators(result) == {"Div": 1, "Erf": 1, "Add": 1, "Mul": 2}


def test_what_onnxruntime_fuses_is_left_as_it_is():
    for grouping in ("(x·½)·g", "(x·g)·½"):
        assert_untouched(gelu.respell_erf_gelu, erf_gelu(13, grouping))
    for cube in ("pow", "factored"):
        assert_untouched(gelu.respell_tanh_gelu, tanh_gelu(13, cube=cube))


@pytest.mark.parametrize(("grouping", "cube"), [("(x·½)·g", "mul"), ("x·(½·g)", "pow")])
def test_tanh_is_spelt_as_onnxruntime_fuses_it(grouping, cube):
    model = tanh_gelu(13, grouping, cube)
    result = assert_rewrites(gelu.respell_tanh_gelu, model, loses=["regrouped"])
    assert operators(result) == {"Pow": 1, "Mul": 4, "Add": 2, "Tanh": 1}


def test_constants_have_to_be_right_to_the_last_bits():
    assert_untouched(gelu.fuse_erf_gelu, erf_gelu(root=1.414))
    assert_untouched(gelu.fuse_tanh_gelu, tanh_gelu(slope=0.79788))
    assert_rewrites(gelu.fuse_tanh_gelu, tanh_gelu(slope=0.7978845608), becomes=["Gelu"])


def test_double_precision_has_no_kernel_and_stays():
    g = Graph(20)
    x = g.input("x", 2, 4, dtype=11)
    gate = g.Add(
        g.Erf(g.Div(x, g.const(math.sqrt(2), "float64"))),
        g.const(1.0, "float64"),
    )
    model = g.model(g.Mul(g.Mul(x, g.const(0.5, "float64")), gate), dtype=11)
    assert_untouched(gelu.fuse_erf_gelu, model)
