import pytest

from onnxopt.rules.activations import biased
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

BIAS_GELU, FAST_GELU = biased.fuse_bias_gelu, biased.fuse_bias_fast_gelu
LOSES = ["overridable", "half precision", "also an output", "read twice"]


def gelu(opset=20, row=(8,), shape=(2, 4, 8), **attributes):
    g = Graph(opset)
    x = g.Add(g.input("x", *shape), g.weight(*row))
    if opset < 20:
        attributes["domain"] = "com.microsoft"
    kind = "FastGelu" if attributes.pop("fast", False) else "Gelu"
    model = g.model(g.node(kind, x, **attributes))
    if opset < 20:
        for size in shape:
            model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    return model


@pytest.mark.parametrize("opset", [17, 20])
def test_gelu_of_a_biased_value(opset):
    assert_rewrites(BIAS_GELU, gelu(opset), becomes=["BiasGelu"], target="cuda", loses=LOSES)


def test_tanh_gelu_of_a_biased_value():
    model = gelu(approximate="tanh")
    assert_rewrites(FAST_GELU, model, becomes=["FastGelu"], target="cuda", loses=LOSES)
    model = gelu(17, fast=True)
    assert_rewrites(FAST_GELU, model, becomes=["FastGelu"], target="cuda", loses=LOSES)


@pytest.mark.parametrize(
    "options",
    [{"row": (4, 8)}, {"row": (1,)}, {"row": (1, 8)}, {"shape": (4, 8)}, {"approximate": "tanh"}],
)
def test_other_summands_stay(options):
    assert_untouched(BIAS_GELU, gelu(**options), target="cuda")


def test_other_targets_leave_it_or_have_no_such_operator():
    for target in ("portable", "cpu", "tensorrt"):
        assert_untouched([BIAS_GELU, FAST_GELU], gelu(), target=target)
