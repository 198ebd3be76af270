import pytest

from onnxopt.rules.norms import instancenorm, layernorm
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph
from tests.rules.norms.test_layernorm import standardized

RULES = [
    layernorm.fuse_layer_normalization,
    instancenorm.fuse_instance_normalization,
    instancenorm.fold_scale_into_instance_normalization,
    instancenorm.fold_shift_into_instance_normalization,
]


def instance_norm(shape=(2, 3, 4, 5), axes=(2, 3), opset=17, sizes=(1, 3, 1, 1), **options):
    g = Graph(opset)
    y = standardized(g, g.input("x", *shape), axes=axes, **options)
    return g.model(g.Add(g.Mul(g.weight(*sizes), y), g.weight(*sizes)))


@pytest.mark.parametrize("opset", [11, 17, 18])
def test_every_spelling(opset):
    for square, inverse in (("pow", "div"), ("mul", "reciprocal"), ("mul", "power")):
        model = instance_norm(opset=opset, square=square, inverse=inverse)
        assert_rewrites(RULES, model, becomes=["InstanceNormalization"])


def test_other_ranks_axes_and_scales():
    for model in (
        instance_norm(axes=(-1, -2), sizes=(3, 1, 1)),
        instance_norm(sizes=()),
        instance_norm(shape=(1, 3, 2, 3, 4), axes=(2, 3, 4), sizes=(3, 1, 1, 1)),
    ):
        assert_rewrites(RULES, model, becomes=["InstanceNormalization"])


def test_means_by_global_pooling():
    g = Graph(17)
    x = g.input("x", 1, 3, 4, 4)
    d = g.Sub(x, g.GlobalAveragePool(x))
    y = g.Div(d, g.Sqrt(g.Add(g.GlobalAveragePool(g.Mul(d, d)), 1e-5)))
    assert_rewrites(RULES, g.model(y), becomes=["InstanceNormalization"])


def test_scale_within_a_channel_stays_outside():
    model = instance_norm(sizes=(4, 5))
    assert_rewrites(RULES, model, becomes=["InstanceNormalization", "Mul", "Add"])


def test_what_is_no_instance_normalization():
    for model in (
        instance_norm(shape=(2, 3, 8), axes=(2,), sizes=(8,)),
        instance_norm(axes=(1, 2, 3)),
        instance_norm(axes=(1,)),
        instance_norm(axes=(0, 2, 3)),
        instance_norm(shape=(2, "C", 4, 5), sizes=()),
    ):
        assert_untouched(RULES[1:], model)
