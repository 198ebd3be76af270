import numpy as np
import pytest

from onnxopt.rules.linear import batchnorm
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched
from tests.rules.graphs import Graph
from tests.rules.layers import image, layer, statistics


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 2, 8])
def test_folds_into_conv(bias, group):
    g = Graph()
    y = layer(g, "Conv", image(g), bias, group, pads=[1] * 4)
    model = g.model(g.BatchNormalization(y, *statistics(g, 8), epsilon=0.01))
    assert_rewrites(batchnorm.fold_batchnorm_into_linear, model, becomes=["Conv"])


@pytest.mark.parametrize("group", [1, 2])
def test_folds_into_conv_transpose_whose_groups_stand_on_its_second_axis(group):
    g = Graph()
    y = layer(g, "ConvTranspose", image(g), bias=group == 1, group=group)
    model = g.model(g.BatchNormalization(y, *statistics(g, 4 * group)))
    assert_rewrites(batchnorm.fold_batchnorm_into_linear, model, becomes=["ConvTranspose"])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("options", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0, "transA": 1}])
def test_folds_into_gemm(bias, options):
    g = Graph()
    y = layer(g, "Gemm", g.input("x", 8, 8), bias, **options)
    model = g.model(g.BatchNormalization(y, *statistics(g, 8)))
    assert_rewrites(batchnorm.fold_batchnorm_into_linear, model, becomes=["Gemm"])


@pytest.mark.parametrize("bias", [True, False])
def test_turns_matmul_of_matrices_into_gemm(bias):
    g = Graph()
    y = layer(g, "MatMul", g.input("x", 4, 8), bias)
    model = g.model(g.BatchNormalization(y, *statistics(g, 8)))
    assert_rewrites(batchnorm.fold_batchnorm_into_linear, model, becomes=["Gemm"])


def test_leaves_matmul_whose_channels_are_not_on_the_second_axis():
    g = Graph()
    y = layer(g, "MatMul", g.input("x", 2, 8, 8))
    model = g.model(g.BatchNormalization(y, *statistics(g, 8)))
    assert_untouched(batchnorm.fold_batchnorm_into_linear, model)


def test_leaves_training_mode_in_old_and_new_operator_sets():
    g = Graph(opset=15)
    y = layer(g, "Conv", image(g))
    outputs = g.BatchNormalization(y, *statistics(g, 8), outputs=3, training_mode=1)
    assert_untouched(batchnorm.fold_batchnorm_into_linear, g.model(outputs[0]))
    g = Graph(opset=9)
    y = layer(g, "Conv", image(g))
    outputs = g.BatchNormalization(y, *statistics(g, 8), outputs=5)
    assert_untouched(batchnorm.fold_batchnorm_into_linear, g.model(outputs[0]))


def test_leaves_statistics_per_position():
    g = Graph(opset=8)
    y = layer(g, "Conv", g.input("x", 1, 8, 3, 3))
    held = [g.weight(8, 1, 1) for _ in range(4)]
    model = g.model(g.BatchNormalization(y, *held, spatial=0))
    assert_untouched(batchnorm.fold_batchnorm_into_linear, model)


def test_leaves_a_variance_that_has_no_root():
    g = Graph()
    y = layer(g, "Conv", image(g))
    held = [*statistics(g, 8)[:3], g.const(-np.ones(8))]
    assert_untouched(batchnorm.fold_batchnorm_into_linear, g.model(g.BatchNormalization(y, *held)))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("group", [1, 4])
def test_folds_forward_into_conv_without_padding(bias, group):
    g = Graph()
    y = g.BatchNormalization(image(g), *statistics(g, 8))
    model = g.model(layer(g, "Conv", y, bias, group, strides=[2, 2]))
    assert_rewrites(batchnorm.fold_batchnorm_into_next_linear, model, becomes=["Conv"])


@pytest.mark.parametrize("kind", ["Gemm", "MatMul"])
@pytest.mark.parametrize("bias", [True, False])
def test_folds_forward_into_gemm_and_matmul(kind, bias):
    g = Graph()
    y = g.BatchNormalization(g.input("x", 4, 8), *statistics(g, 8))
    model = g.model(layer(g, kind, y, bias))
    rules = (
        batchnorm.fold_batchnorm_into_linear,
        batchnorm.fold_batchnorm_into_next_linear,
    )
    result = assert_rewrites(rules, model)
    assert result.graph.node[0].op_type == "Gemm"


def test_leaves_layers_that_see_padding_behind_it():
    for options in ({"pads": [0, 0, 1, 0]}, {"auto_pad": "SAME_UPPER"}):
        g = Graph()
        y = g.BatchNormalization(image(g), *statistics(g, 8))
        model = g.model(layer(g, "Conv", y, **options))
        assert_untouched(batchnorm.fold_batchnorm_into_next_linear, model)
    g = Graph()
    y = g.BatchNormalization(image(g), *statistics(g, 8))
    model = g.model(layer(g, "ConvTranspose", y))
    assert_untouched(batchnorm.fold_batchnorm_into_next_linear, model)


def test_a_batchnorm_alone_stays():
    g = Graph()
    model = g.model(g.BatchNormalization(g.Relu(image(g)), *statistics(g, 8)))
    rules = (
        batchnorm.fold_batchnorm_into_linear,
        batchnorm.fold_batchnorm_into_next_linear,
    )
    _, outcome = apply_rules(model, rules)
    assert not outcome.done
