"""Scales: weights balanced, channels made to go equally far, and less noise than before."""

import dataclasses

import numpy as np
import pytest

from onnxopt.graph import io
from onnxopt.quantizing.repair.chains import candidates
from onnxopt.quantizing.repair.equalize import balanced, equalized
from onnxopt.quantizing.repair.noise import CREST, channel_axes, nodes_by_name, noise, outlook
from onnxopt.quantizing.repair.scales import scales_of, searched
from onnxopt.quantizing.repair.smooth import smoothed
from onnxopt.runtime.sessions.session import open_session, run
from tests.quantizing.repair.nets import assert_same, feeds_of, net, normal, outputs

SPREAD = np.geomspace(0.02, 20, 8).astype(np.float32)
PAIR = """(float[N, 3, 6, 6] x) => (float[N, 5, P, Q] y) {
    c = Conv (x, w1, b1)
    d = Relu (c)
    y = Conv (d, w2)
}"""
TRIPLE = """(float[N, 3, 6, 6] x) => (float[N, 5, P, Q] y) {
    c = Conv (x, w1, b1)
    d = Relu (c)
    e = Conv <group = 8> (d, wd)
    f = Relu (e)
    y = Conv (f, w2)
}"""


def uneven(text):
    weights = {"w1": normal(8, 3, 3, 3) * SPREAD.reshape(8, 1, 1, 1), "b1": normal(8) * SPREAD}
    weights["w2"] = normal(5, 8, 1, 1) / SPREAD.reshape(8, 1, 1)
    weights["wd"] = normal(8, 1, 3, 3)
    return net(text, **{name: array for name, array in weights.items() if name in text})


def weight(model, name):
    """Return the constant that replaced one of the original's."""
    return next(
        array for array in map(onnx_array, model.graph.initializer) if array[0].startswith(name)
    )[1]


def onnx_array(initializer):
    from onnx import numpy_helper

    return initializer.name, numpy_helper.to_array(initializer)


@pytest.mark.parametrize("text", [PAIR, TRIPLE])
def test_weights_alone_are_balanced_to_convergence(text):
    model = uneven(text)
    held = io.from_proto(model)
    done = equalized(held)
    after = io.to_proto(held)
    assert done["equalize: chains"] == (2 if "wd" in text else 1)
    assert done["equalize: channels"] == 8 * done["equalize: chains"]
    assert_same(model, after, feeds_of(model))
    writes = np.abs(weight(after, "w1")).max((1, 2, 3))
    reads = np.abs(weight(after, "w2")).max((0, 2, 3))
    np.testing.assert_allclose(writes, reads, rtol=5e-3)
    if "wd" in text:
        np.testing.assert_allclose(np.abs(weight(after, "wd")).max((1, 2, 3)), reads, rtol=5e-3)
    chains = candidates(held)
    for scales in balanced(chains, nodes_by_name(held)):
        np.testing.assert_allclose(scales, 1, rtol=5e-3)


def ranges_of(model, held):
    """Run a model and return the ranges of all that chains touch."""
    axes = channel_axes(candidates(held))
    watched = type(model).FromString(model.SerializeToString())
    for name in axes:
        watched.graph.output.add().name = name
    session = open_session(watched.SerializeToString(), threads=1, optimize="none")
    found = run(session, feeds_of(model), list(axes))
    return {
        name: tuple(
            bound(array, tuple(a for a in range(array.ndim) if a != array.ndim + axes[name]))
            for bound in (np.min, np.max)
        )
        for name, array in zip(axes, found, strict=True)
    }


def test_channels_can_be_made_to_go_equally_far():
    model = uneven(PAIR)
    held = io.from_proto(model)
    ranges = {"d": ranges_of(model, held)["d"]}
    equalized(held, ranges, alpha=1.0)
    after = io.to_proto(held)
    assert_same(model, after, feeds_of(model))
    np.testing.assert_allclose(*[np.median(top := ranges_of(after, held)["d"][1]), top], rtol=1e-4)


def test_the_search_lowers_the_noise_and_keeps_the_function():
    model = uneven(TRIPLE)
    held = io.from_proto(model)
    ranges = {name: ranges_of(model, held)[name] for name in ("d", "f")}
    views = [outlook(chain, nodes_by_name(held), ranges) for chain in candidates(held)]
    before = [noise(view, np.ones(8)) for view in views]
    found = [searched(view) for view in views]
    assert all(gain > 2 for _, gain in found)
    equalized(held, ranges)
    assert_same(model, io.to_proto(held), feeds_of(model))
    ranges = {name: ranges_of(io.to_proto(held), held)[name] for name in ("d", "f")}
    views = [outlook(chain, nodes_by_name(held), ranges) for chain in candidates(held)]
    for view, old, (_, gain) in zip(views, before, found, strict=True):
        assert noise(view, np.ones(8)) == pytest.approx(old / gain, rel=1e-3)


def test_noise_does_not_depend_on_the_scale_of_rows():
    model = uneven(PAIR)
    held = io.from_proto(model)
    ranges = {"d": ranges_of(model, held)["d"]}
    (view,) = [outlook(chain, nodes_by_name(held), ranges) for chain in candidates(held)]
    (reading,) = view.readings
    rows = np.abs(normal(5, 1)) + 1
    louder = dataclasses.replace(reading, power=reading.power * rows**2, peak=reading.peak * rows)
    other = dataclasses.replace(view, readings=(louder,))
    scales = scales_of(view, 0.5)
    np.testing.assert_allclose(scales, scales_of(other, 0.5))
    assert noise(view, scales) == pytest.approx(noise(other, scales))


def test_noise_is_that_of_rounding():
    model = uneven(PAIR)
    held = io.from_proto(model)
    ranges = {"d": (np.full(8, -1.0), np.ones(8))}
    (view,) = [outlook(chain, nodes_by_name(held), ranges) for chain in candidates(held)]
    x = np.clip(np.random.default_rng(0).normal(0, 1 / CREST, (8, 4000)), -1, 1)
    matrix = weight(model, "w2").reshape(5, 8).astype(np.float64)
    step = np.abs(matrix).max(1, keepdims=True) / 127
    error = np.rint(matrix / step) * step @ (np.rint(x * 127.5) / 127.5) - matrix @ x
    found = (np.square(error).mean(1) / np.square(matrix @ x).mean(1)).mean()
    assert noise(view, np.ones(8)) == pytest.approx(found, rel=0.25)


def test_channels_that_are_always_zero_get_a_scale_in_the_middle():
    model = uneven(PAIR)
    held = io.from_proto(model)
    high = ranges_of(model, held)["d"][1].copy()
    high[3] = 0
    (view,) = [
        outlook(chain, nodes_by_name(held), {"d": (np.zeros(8), high)})
        for chain in candidates(held)
    ]
    scales = scales_of(view, 1.0)
    assert scales[3] == pytest.approx(np.median(np.delete(scales, 3)))
    nothing = dataclasses.replace(view, tensors={}, readings=())
    assert (scales_of(nothing, 1.0) == 1).all()


def transformer():
    gamma = np.ones(16, np.float32)
    gamma[[3, 7]] = 40
    return net(
        """(float[N, 6, 16] x) => (float[N, 6, 16] y) {
            n = LayerNormalization (x, gamma, beta)
            a = MatMul (n, wa)
            b = MatMul (n, wb)
            c = Sigmoid (a)
            d = Mul (c, b)
            e = MatMul (d, wd)
            y = Add (e, n)
        }""",
        gamma=gamma,
        beta=normal(16),
        wa=normal(16, 16) * np.float32(0.02),
        wb=normal(16, 16, seed=1),
        wd=normal(16, 16, seed=2),
    )


@pytest.mark.parametrize("alpha", [None, 0.5, lambda view: 0.7])
def test_outliers_of_a_normalisation_move_into_the_weights(alpha):
    model = transformer()
    held = io.from_proto(model)
    ranges = {"n": (np.full(16, -1.0), np.full(16, 1.0)), "d": (np.full(16, -1.0), np.ones(16))}
    ranges["n"][1][[3, 7]] = 80.0
    done = smoothed(held, ranges, alpha, restore=True)
    assert done["smooth: chains"] >= 1
    after = io.to_proto(held)
    assert_same(model, after, feeds_of(model))
    outlying = np.abs(weight(after, "gamma"))
    assert outlying.max() / np.median(outlying) < 30
    assert sum(node.op_type == "Mul" for node in after.graph.node) == 2


def test_smoothing_can_be_declined():
    held = io.from_proto(transformer())
    ranges = {"d": (np.full(16, -1.0), np.full(16, 1.0))}
    assert not smoothed(held, ranges, lambda view: None)
    assert not smoothed(held, {})


def test_a_mul_has_to_be_worth_it():
    ranges = {"n": (np.full(16, -1.0), np.full(16, 1.0))}
    held = io.from_proto(transformer())
    assert not smoothed(held, ranges, restore=True, least_gain=1e9)


def test_convolutions_are_not_smoothed():
    model = uneven(PAIR)
    held = io.from_proto(model)
    assert not smoothed(held, ranges_of(model, held))


def test_a_clamp_bites_where_asked_at_the_margin_beyond_what_was_seen():
    model = net(
        PAIR.replace("Relu (c)", "Clip (c, zero, six)"),
        w1=normal(8, 3, 3, 3),
        b1=normal(8),
        w2=normal(5, 8, 1, 1),
        zero=np.float32(0),
        six=np.float32(6),
    )
    ranges = {"d": (np.zeros(8), np.r_[np.full(6, 2.0), 6.0, 6.0])}
    held = io.from_proto(model)
    assert not equalized(held, ranges)
    assert equalized(held, ranges, clamps=True, margin=1.5, alpha=1.0)["equalize: channels"] == 6
    np.testing.assert_allclose(weight(io.to_proto(held), "w1")[:6], normal(8, 3, 3, 3)[:6] * 2)
    small = {"x": 0.1 * normal(2, 3, 6, 6)}
    assert np.allclose(outputs(model, small)[0], outputs(io.to_proto(held), small)[0], atol=1e-5)
