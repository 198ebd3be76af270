import numpy as np
import pytest

from onnxopt.rules.norms import channels, layernorm
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (
    layernorm.fuse_layer_normalization,
    layernorm.fold_scale_into_normalization,
    layernorm.fold_shift_into_layer_normalization,
    channels.fuse_channel_layer_normalization,
    channels.move_constant_before_transpose,
)
LAYER = ["Transpose", "LayerNormalization", "Transpose"]


def normalized(axes=(1,), shape=(2, 6, 4, 5), affine=(6, 1, 1), opset=17):
    g = Graph(opset)
    x = g.input("x", *shape)
    centred = g.Sub(x, g.axes("ReduceMean", x, axes))
    variance = g.axes("ReduceMean", g.Mul(centred, centred), axes)
    y = g.Div(centred, g.Sqrt(g.Add(variance, 1e-6)))
    if affine is not None:
        y = g.Add(g.Mul(y, g.weight(*affine)), g.weight(*affine))
    return g.model(y)


@pytest.mark.parametrize("opset", [17, 18])
def test_over_channels_with_scale_and_shift(opset):
    model = normalized(opset=opset)
    assert_rewrites(RULES, model, becomes=LAYER, loses=("half precision",))


@pytest.mark.parametrize(
    ("axes", "shape", "affine"),
    [
        ((1,), ("n", 6, "h", "w"), (6, 1, 1)),
        ((1,), (2, 6, 5), (1, 6, 1)),
        ((-2,), (2, 3, 6, 5), (6, 1)),
        ((1,), (2, 6, 4, 5), None),
    ],
)
def test_other_axes_and_shapes(axes, shape, affine):
    assert_rewrites(RULES, normalized(axes, shape, affine), becomes=LAYER)


@pytest.mark.parametrize(
    ("axes", "shape", "opset"),
    [
        ((2, 3), (2, 6, 4, 5), 17),
        ((1,), (2, "c", 4, 5), 17),
        ((1,), (2, 1, 4, 5), 17),
        ((1,), (2, 6, 4, 5), 16),
    ],
)
def test_what_is_no_layer_normalization_is_left_alone(axes, shape, opset):
    assert_untouched(RULES, normalized(axes, shape, None, opset))


def test_constants_over_other_axes_stay_where_they_are():
    g = Graph()
    made = g.LayerNormalization(g.input("x", 2, 4, 5, 6), g.weight(6))
    turned = g.Transpose(made, perm=[0, 3, 1, 2])
    rule = channels.move_constant_before_transpose
    assert_untouched(rule, g.model(g.Mul(turned, g.weight(4, 5))))


def test_other_operators_before_the_transpose_are_left_alone():
    g = Graph()
    turned = g.Transpose(g.Exp(g.input("x", 2, 4, 5, 6)), perm=[0, 3, 1, 2])
    rule = channels.move_constant_before_transpose
    assert_untouched(rule, g.model(g.Mul(turned, np.ones((6, 1, 1)) * 2)))
