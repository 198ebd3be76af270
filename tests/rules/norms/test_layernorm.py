import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.norms import layernorm, rmsnorm
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, operators
from tests.rules.graphs import Graph

RULES = [
    layernorm.fuse_layer_normalization,
    layernorm.fuse_scaled_layer_normalization,
    layernorm.fold_scale_into_normalization,
    layernorm.fold_shift_into_layer_normalization,
    layernorm.fold_casts_into_normalization,
]
SPELLINGS = [
    (square, inverse)
    for square in ("pow", "mul")
    for inverse in ("div", "reciprocal", "one over", "power", "root of reciprocal")
]


def mean(g, x, axes):
    return g.axes("ReduceMean", x, axes)


def standardized(g, x, square="pow", inverse="div", axes=(-1,), eps=1e-5, twice=False):
    d = g.Sub(x, mean(g, x, axes))
    again = g.Sub(x, mean(g, x, axes)) if twice else d
    variance = mean(g, g.Pow(again, 2.0) if square == "pow" else g.Mul(again, again), axes)
    inside = g.Add(variance, eps)
    if inverse == "div":
        return g.Div(d, g.Sqrt(inside))
    if inverse == "reciprocal":
        return g.Mul(d, g.Reciprocal(g.Sqrt(inside)))
    if inverse == "one over":
        return g.Mul(g.Div(1.0, g.Sqrt(inside)), d)
    if inverse == "power":
        return g.Mul(d, g.Pow(inside, -0.5))
    return g.Mul(d, g.Sqrt(g.Reciprocal(inside)))


def layer_norm(opset=17, shape=(2, 5, 8), sizes=(8,), affine="sb", **options):
    g = Graph(opset)
    y = standardized(g, g.input("x", *shape), **options)
    if "s" in affine:
        y = g.Mul(y, g.weight(*sizes))
    if "b" in affine:
        y = g.Add(g.weight(*sizes), y)
    return g.model(y)


@pytest.mark.parametrize(("square", "inverse"), SPELLINGS)
def test_every_spelling(square, inverse):
    opset = 17 if square == "pow" else 18
    model = layer_norm(opset, square=square, inverse=inverse)
    assert_rewrites(RULES, model, becomes=["LayerNormalization"])


@pytest.mark.parametrize("affine", ["", "s", "b"])
def test_without_scale_or_bias(affine):
    result = assert_rewrites(RULES, layer_norm(affine=affine), becomes=["LayerNormalization"])
    assert len(result.graph.initializer) == (2 if "b" in affine else 1)


def test_mean_computed_twice():
    assert_rewrites(RULES, layer_norm(twice=True), becomes=["LayerNormalization"])


def test_several_trailing_axes():
    model = layer_norm(shape=(2, 3, 4, 5), axes=(-3, -2, -1), sizes=(3, 4, 5))
    result = assert_rewrites(RULES, model, becomes=["LayerNormalization"])
    assert [a.i for a in result.graph.node[0].attribute if a.name == "axis"] == [-3]


def test_scale_that_broadcasts():
    for sizes in ((1, 1, 8), (1,), ()):
        assert_rewrites(RULES, layer_norm(sizes=sizes), becomes=["LayerNormalization"])


def test_flax_and_keras_multiply_the_scale_first():
    g = Graph(17)
    x = g.input("x", 2, 8)
    mu = mean(g, x, (1,))
    d = g.Sub(x, mu)
    inverse = g.Reciprocal(g.Sqrt(g.Add(mean(g, g.Mul(d, d), (1,)), 1e-6)))
    k = g.Mul(inverse, g.weight(8))
    flax = g.model(g.Add(g.Mul(d, k), g.weight(8)))
    assert_rewrites(RULES, flax, becomes=["LayerNormalization"])
    g.nodes = g.nodes[:-2]
    keras = g.model(g.Add(g.Mul(x, k), g.Sub(g.weight(8), g.Mul(mu, k))))
    assert_rewrites(RULES, keras, becomes=["LayerNormalization"])


def test_what_is_no_layer_normalization():
    assert_untouched(RULES, layer_norm(shape=(1, 8, 4, 4), axes=(1,), sizes=(8, 1, 1)))
    assert_untouched(RULES, layer_norm(shape=(1, 8, 4, 4), axes=(2, 3), sizes=(8, 1, 1)))
    assert_untouched(RULES, layer_norm(shape=(2, 5, "D")))
    assert_untouched(RULES, layer_norm(shape=(2, 5, 20000), sizes=(20000,)))
    assert_untouched(RULES, layer_norm(opset=16))


def test_scale_over_other_axes_stays_outside():
    model = layer_norm(shape=(2, 5, 8), sizes=(5, 8))
    result = assert_rewrites(RULES, model, becomes=["LayerNormalization", "Mul", "Add"])
    assert [t.dims[0] for t in result.graph.initializer if len(t.dims) == 1] == [8]


def test_weights_that_the_caller_gives():
    g = Graph(17)
    x, gamma, beta = g.input("x", 2, 4, 8), g.input("gamma", 8), g.input("beta", 8)
    model = g.model(g.Add(g.Mul(standardized(g, x), gamma), beta))
    assert_rewrites(RULES, model, becomes=["LayerNormalization"])
    g = Graph(17)
    x, gamma = g.input("x", 2, 4, 8), g.input("gamma", 2, 1, 8)
    model = g.model(g.Mul(standardized(g, x), gamma))
    assert_rewrites(RULES, model, becomes=["LayerNormalization", "Mul"])


def half_model(weights, affine_inside=True):
    g = Graph(17)
    x = g.input("x", 2, 4, 8, dtype=TensorProto.FLOAT16)
    gamma, beta = (np.asarray(w, np.float32) for w in weights)
    y = standardized(g, g.Cast(x, to=TensorProto.FLOAT))
    if affine_inside:
        y = g.Cast(g.Add(g.Mul(y, gamma), beta), to=TensorProto.FLOAT16)
    else:
        y = g.Cast(y, to=TensorProto.FLOAT16)
        y = g.Add(g.Mul(y, gamma.astype(np.float16)), beta.astype(np.float16))
    return g.model(y, dtype=TensorProto.FLOAT16)


def test_half_precision_computed_in_single():
    rng = np.random.default_rng(0)
    exact = rng.integers(-64, 64, (2, 8)) / 32
    assert_rewrites(RULES, half_model(exact), becomes=["LayerNormalization"])
    kept = assert_rewrites(RULES, half_model(rng.standard_normal((2, 8))))
    assert operators(kept) == {"Cast": 2, "LayerNormalization": 1}


def test_half_precision_scaled_after_the_cast():
    exact = np.random.default_rng(0).integers(-4, 4, (2, 8)) / 4
    model = half_model(exact, affine_inside=False)
    assert operators(apply_rules(model, RULES)[0]) == {"LayerNormalization": 1}


def test_older_opsets_get_the_spelling_that_onnxruntime_fuses():
    for square, inverse in SPELLINGS[1:]:
        model = layer_norm(13, square=square, inverse=inverse)
        result, _ = apply_rules(model, [rmsnorm.respell_rms_normalization])
        assert operators(result) == {
            "ReduceMean": 2, "Sub": 1, "Pow": 1, "Add": 2, "Sqrt": 1, "Div": 1, "Mul": 1
        }  # fmt: skip
    assert_untouched(rmsnorm.respell_rms_normalization, layer_norm(13))


def test_scale_that_half_precision_cannot_hold():
    g = Graph(17)
    x, half = g.input("x", 2, 8, dtype=TensorProto.FLOAT16), np.float16
    y = g.LayerNormalization(x, np.full(8, 30000, half))
    model = g.model(g.Mul(y, half(4)), dtype=TensorProto.FLOAT16)
    assert_untouched(RULES, model)
