import pytest

from onnxopt.rules.norms import layernorm, rmsnorm
from onnxopt.testing import assert_rewrites, assert_untouched, operators
from tests.rules.graphs import Graph

RULES = [
    rmsnorm.fuse_rms_normalization,
    rmsnorm.fuse_scaled_rms_normalization,
    layernorm.fold_scale_into_normalization,
    layernorm.fold_casts_into_normalization,
]


def rms_norm(opset, square="pow", inverse="div", weight="last", shape=(2, 5, 8), axes=(-1,)):
    g = Graph(opset)
    x = g.input("x", *shape)
    mean = g.axes("ReduceMean", g.Pow(x, 2.0) if square == "pow" else g.Mul(x, x), axes)
    inside = g.Add(mean, 1e-6)
    gamma = g.weight(*(8 if size == 8 else 1 for size in shape[-1:]))
    if inverse == "div":
        y = g.Div(x, g.Sqrt(inside))
        return g.model(g.Mul(y, gamma) if weight == "last" else g.Mul(gamma, y))
    factor = {
        "reciprocal": lambda: g.Reciprocal(g.Sqrt(inside)),
        "power": lambda: g.Pow(inside, -0.5),
        "one over": lambda: g.Div(1.0, g.Sqrt(inside)),
    }[inverse]()
    if weight == "first":
        return g.model(g.Mul(x, g.Mul(factor, gamma)))
    return g.model(g.Mul(g.Mul(x, factor), gamma))


@pytest.mark.parametrize("inverse", ["div", "reciprocal", "power", "one over"])
@pytest.mark.parametrize("square", ["pow", "mul"])
def test_every_spelling(square, inverse):
    for weight in ("last", "first"):
        model = rms_norm(23, square, inverse, weight)
        assert_rewrites(RULES, model, becomes=["RMSNormalization"])


@pytest.mark.parametrize(
    ("square", "inverse"),
    [("mul", "div"), ("pow", "reciprocal"), ("mul", "power"), ("pow", "one over")],
)
def test_older_opsets_get_the_spelling_that_onnxruntime_fuses(square, inverse):
    for opset in (13, 22):
        for weight in ("last", "first"):
            model = rms_norm(opset, square, inverse, weight)
            result = assert_rewrites(rmsnorm.respell_rms_normalization, model)
            assert operators(result) == {
                "Pow": 1, "ReduceMean": 1, "Add": 1, "Sqrt": 1, "Div": 1, "Mul": 1
            }  # fmt: skip


def test_targets_without_a_kernel_keep_the_expression():
    for target in ("cuda", "tensorrt"):
        assert_untouched(RULES, rms_norm(23), target=target)


def test_what_stays():
    assert_untouched(rmsnorm.respell_rms_normalization, rms_norm(17))
    assert_untouched(rmsnorm.respell_rms_normalization, rms_norm(17, weight="first"))
    assert_untouched(RULES, rms_norm(22, "mul"))
    assert_untouched(RULES, rms_norm(23, axes=(1,)))
    assert_untouched(RULES, rms_norm(23, shape=(2, 5, "D")))
