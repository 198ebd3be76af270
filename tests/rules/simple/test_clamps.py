import itertools

import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.simple import clamps
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, operators, run
from tests.rules.graphs import Graph

ALL = [clamps.drop_unbounded_clamp, clamps.merge_clamps, clamps.clamp_to_relu]
INF = float("inf")


def clip(g, x, low=None, high=None):
    if g.opset < 11:
        bounds = {"min": low, "max": high}
        return g.Clip(x, **{name: value for name, value in bounds.items() if value is not None})
    return g.Clip(x, *(None if bound is None else np.float32(bound) for bound in (low, high)))


CLAMPS = {
    "relu": lambda g, x: g.Relu(x),
    "clip06": lambda g, x: clip(g, x, 0.0, 6.0),
    "clip from": lambda g, x: clip(g, x, -0.5),
    "clip to": lambda g, x: clip(g, x, None, 0.25),
    "inverted clip": lambda g, x: clip(g, x, 1.0, -1.0),
    "max": lambda g, x: g.Max(x, 0.125),
    "min": lambda g, x: g.Min(-0.25, x),
    "max0": lambda g, x: g.Max(np.zeros((1, 1), np.float32), x),
}


@pytest.mark.parametrize("opset", [8, 17])
@pytest.mark.parametrize(("first", "second"), list(itertools.product(CLAMPS, CLAMPS)))
def test_every_pair_of_clamps_becomes_one_with_the_same_values(opset, first, second):
    if opset < 11 and "inverted clip" in (first, second):
        return  # onnxruntime refuses it there
    g = Graph(opset=opset)
    model = g.model(CLAMPS[second](g, CLAMPS[first](g, g.input("x", 2, 9))))
    x = np.array([[-INF, -7, -1, -0.4, 0, 0.2, 0.9, 7, INF], [np.nan, *[0.01] * 8]], np.float32)
    result, outcome = apply_rules(model, ALL)
    assert not outcome.crashed
    assert sum(operators(result).values()) == 1
    (want,), (got,) = run(model, {"x": x}), run(result, {"x": x})
    want[np.isinf(want)] = np.sign(want[np.isinf(want)]) * np.finfo(np.float32).max
    got[np.isinf(got)] = np.sign(got[np.isinf(got)]) * np.finfo(np.float32).max
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("opset", [8, 11, 17])
def test_relu6_in_its_spellings_becomes_one_clip(opset):
    for build in (
        lambda g, x: clip(g, g.Relu(x), 0.0, 6.0),
        lambda g, x: g.Min(g.Relu(x), 6.0),
        lambda g, x: g.Max(g.Min(x, 6.0), 0.0),
    ):
        g = Graph(opset=opset)
        model = g.model(build(g, g.input("x", 2, 3)))
        assert_rewrites([clamps.merge_clamps, clamps.clamp_to_relu], model, becomes=["Clip"])


def test_max_with_zero_becomes_relu():
    g = Graph()
    assert_rewrites(clamps.clamp_to_relu, g.model(g.Max(g.input("x", 2), 0.0)), becomes=["Relu"])
    g = Graph()
    model = g.model(clip(g, g.input("x", 2), 0.0))
    assert_rewrites(clamps.clamp_to_relu, model, becomes=["Relu"])


def test_clip_without_bounds_goes():
    g = Graph()
    model = g.model(g.Relu(g.Clip(g.input("x", 2))))
    assert_rewrites(clamps.drop_unbounded_clamp, model, becomes=["Relu"])
    g = Graph()
    model = g.model(g.Exp(g.Max(np.float32(-INF), g.input("x", 2))))
    assert_rewrites(clamps.drop_unbounded_clamp, model, becomes=["Exp"])


def test_integers_are_clamped_as_integers():
    g = Graph()
    big = np.array(2**53 + 1, np.int64)
    x = g.input("x", 3, dtype=TensorProto.INT64)
    model = g.model(g.Min(g.Max(x, np.array(-5, np.int64)), big), dtype=TensorProto.INT64)
    result = assert_rewrites(clamps.merge_clamps, model, becomes=["Clip"])
    feed = {"x": np.array([-9, 2**53 + 1, 2**60], np.int64)}
    np.testing.assert_array_equal(run(result, feed)[0], [-5, 2**53 + 1, 2**53 + 1])


def test_a_bound_per_channel_or_one_that_broadcasts_is_no_clamp():
    for bound in (np.array([0, 1], np.float32), np.zeros((1, 1, 1), np.float32)):
        g = Graph()
        assert_untouched(ALL, g.model(g.Max(g.Relu(g.input("x", 3, 2)), bound)))
    g = Graph()
    low = g.input("low")
    assert_untouched(ALL, g.model(g.Clip(g.Relu(g.input("x", 3)), low)))


def test_a_relu_that_others_read_is_left_to_its_convolution():
    g = Graph()
    inner = g.Relu(g.input("x", 3))
    assert_untouched(ALL, g.model(g.Min(inner, 6.0), g.Exp(inner)))


def test_double_precision_keeps_min_and_max_before_there_is_a_clip_for_it():
    g = Graph(opset=11)
    x = g.input("x", 3, dtype=TensorProto.DOUBLE)
    low, high = (g.const(np.array(bound), np.float64) for bound in (-1.0, 1.0))
    model = g.model(g.Min(g.Max(x, low), high), dtype=TensorProto.DOUBLE)
    assert_untouched(ALL, model)
