"""Exact cuts: what nobody reads, and what is zero where it is read, goes without any loss."""

import numpy as np
import pytest

from onnxopt.graph import io
from onnxopt.pruning.groups.exact import exact_cuts
from onnxopt.pruning.groups.finding import find_groups
from tests.pruning.groups.nets import assert_alike, feeds_of, net, normal, numbers, pruned


def cuts(model):
    held = io.from_proto(model)
    return exact_cuts(held, find_groups(held))


def assert_exact(model, gone):
    """Assert that just these units of the first group can go, and that nothing is lost by it."""
    keep = cuts(model)
    assert {name: np.flatnonzero(~kept).tolist() for name, kept in keep.items()} == gone
    soft, hard, _ = pruned(model, keep)
    for made in (soft, hard):
        assert_alike(model, made, feeds_of(model))


def without(array, axis, *places):
    array = array.copy()
    array[(slice(None),) * axis + (list(places),)] = 0
    return array


def residual(middle, **constants):
    return net(
        f"""(float[2, 3, 7, 7] x) => (float[a, b, c, d] y) {{
            h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
            {middle}
            y = Conv <pads = [1, 1, 1, 1]> (m, v, c)
        }}""",
        **{
            "w": without(normal(6, 3, 3, 3), 0, 1, 4),
            "b": without(normal(6), 0, 1, 4),
            "v": normal(4, 6, 3, 3),
            "c": normal(4),
            **constants,
        },
    )


def test_what_nobody_reads_goes():
    columns = without(normal(4, 6, 3, 3), 1, 0, 5)
    full = normal(6, 3, 3, 3)
    assert_exact(residual("m = Exp(h)", w=full, b=normal(6), v=columns), {"h": [0, 5]})


@pytest.mark.parametrize(
    ("middle", "gone"),
    [
        ("m = Relu(h)", [1, 4]),
        ("m = Sigmoid(h)", None),
        ("k = Conv(x, u) r = Tanh(h) p = Conv(r, s) m = Add(r, p)", [4]),
        ("m = Add(h, t)", [1]),
        ("m = Mul(h, t)", [1, 4]),
        ("m = Conv <group = 6> (h, deep, t)", [1]),
        ("m = BatchNormalization (h, t, t, t, one)", [1]),
        ("m = BatchNormalization (h, one, t, t, one)", [1]),
        ("m = Clip(h, low)", [1, 4]),
        ("m = Clip(h, high)", None),
        ("p = MaxPool <kernel_shape = [3, 3]> (h) q = Sigmoid(p) m = Mul(p, q)", [1, 4]),
        ("m = Pad(h, pads)", [1, 4]),
        ("m = Pad(h, pads, high)", None),
    ],
)
def test_zeros_are_followed_as_far_as_they_last(middle, gone):
    model = residual(
        middle,
        u=normal(6, 3, 1, 1),
        s=without(normal(6, 6, 1, 1), 0, 4),
        t=without(normal(6, 1, 1) if "Add" in middle or "Mul" in middle else normal(6), 0, 1),
        deep=normal(6, 1, 3, 3),
        one=np.ones(6, np.float32),
        low=np.float32(-1),
        high=np.float32(0.5),
        pads=numbers(0, 0, 1, 1, 0, 0, 1, 1),
    )
    assert_exact(model, {} if gone is None else {"h": gone})


def test_one_unit_of_each_group_stays():
    model = residual("m = Relu(h)", v=np.zeros((4, 6, 3, 3), np.float32))
    assert_exact(model, {"h": [1, 2, 3, 4, 5]})


def test_nothing_goes_where_nothing_is_zero():
    assert cuts(residual("m = Relu(h)", w=normal(6, 3, 3, 3), b=normal(6))) == {}
