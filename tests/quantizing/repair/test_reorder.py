"""Channels may be put in another order wherever all who write and read them can be told."""

import numpy as np
import pytest

from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.passes import shapes
from onnxopt.quantizing.repair.reorder import _reorder, reordered
from onnxopt.quantizing.repair.streams import streams
from onnxopt.quantizing.weights.permute import clipped
from tests.quantizing.repair.nets import assert_same, feeds_of, net, normal

CONSTANTS = {
    "w1": normal(6, 3, 3, 3),
    "b1": normal(6),
    "w2": normal(4, 6, 1, 1),
    "w3": normal(6, 6, 1, 1),
    "depthwise": normal(6, 1, 3, 3),
    "grouped": normal(6, 2, 1, 1),
    "channels": normal(6, 1, 1),
    "row": normal(1, 6, 1, 1),
    "columns": normal(6),
    "zero": np.float32(0),
    "one": np.float32(1),
    "axes": np.array([2, 3]),
    "across": np.array([1]),
    "shape": np.array([0, -1]),
    "halves": np.array([3, 3]),
    "m1": normal(6, 8),
    "m2": normal(8, 6),
    "m3": normal(8, 5),
    "m4": normal(5, 6),
    "b8": normal(8),
    "factors": np.array([1, 1, 2, 2], np.float32),
    "none": np.zeros(0, np.float32),
}


def written(text):
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    return net(text, **{name: held for name, held in CONSTANTS.items() if name in words})


def shuffled(model, seed=0):
    """Put each stream in an order by chance, assert that nothing changed; return the streams."""
    held = io.from_proto(model)
    shapes.infer(held)
    found = streams(held)
    rng, editor = np.random.default_rng(seed), Editor(held)
    for stream in found:
        order = np.roll(np.arange(stream.size), int(rng.integers(1, stream.size)))
        for slot in stream.slots:
            _reorder(editor, slot, order)
    assert_same(model, io.to_proto(held), feeds_of(model))
    return found


def between(steps, result="float[N, K, P, Q] y"):
    """Two convolutions, `c` written by the one and `d` read by the other."""
    return written(
        f"(float[N, 3, 6, 6] x) => ({result}) {{ c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1) "
        f"{steps} y = Conv (d, w2) }}"
    )


TO_LAST, TO_FIRST = "Transpose <perm = [0, 2, 3, 1]>", "Transpose <perm = [0, 3, 1, 2]>"
PASSES = [
    "d = Relu (c)",
    "d = Clip (c, zero, one)",
    "d = HardSwish (c)",
    "s = Sigmoid (c) d = Mul (c, s)",
    "d = Conv <group = 6, pads = [1, 1, 1, 1]> (c, depthwise, b1)",
    "d = MaxPool <kernel_shape = [2, 2]> (c)",
    "d = GlobalAveragePool (c)",
    "d = Mul (c, channels)",
    "d = Add (row, c)",
    "d = PRelu (c, channels)",
    "d = Div (c, one)",
    "d = ReduceMean <keepdims = 1> (c, axes)",
    "m = ReduceMax <keepdims = 1> (c, axes) d = Sub (c, m)",
    f"t = {TO_LAST} (c) u = Mul (t, columns) d = {TO_FIRST} (u)",
    f"t = {TO_LAST} (c) u = LayerNormalization (t, columns, b1) d = {TO_FIRST} (u)",
]


@pytest.mark.parametrize("steps", PASSES)
def test_an_order_passes_what_works_on_channels_alone(steps):
    (found,) = shuffled(between(steps))
    assert found.size == 6
    assert len(found.readers) == 1


STOPS = [
    "d = Softmax <axis = 1> (c)",
    "m = ReduceMean <keepdims = 1> (c, across) d = Mul (c, m)",
    "p, q = Split <axis = 1> (c, halves) d = Concat <axis = 1> (q, p)",
    "d = Conv <group = 3> (c, grouped)",
    "t = Transpose <perm = [0, 2, 1, 3]> (c) u = Mul (t, one) v = Add (u, c) d = Relu (v)",
    "d = LRN <size = 3> (c)",
    'd = Resize <mode = "nearest"> (c, none, factors)',
]


@pytest.mark.parametrize("steps", STOPS)
def test_an_order_stops_where_channels_meet(steps):
    assert shuffled(between(steps)) == []


def test_what_the_graph_hands_out_stays():
    steps = "d = Relu (c)"
    assert shuffled(between(steps, "float[N, K, P, Q] y, float[N, L, R, S] c")) == []
    assert shuffled(between(steps, "float[N, K, P, Q] y, float[N, L, R, S] d")) == []


def test_a_residual_sum_has_one_order_for_all():
    model = between("r = Relu (c) s = Conv (r, w3) t = Add (s, c) d = Relu (t)")
    (found,) = shuffled(model)
    assert len(found.readers) == 2
    assert [slot.axis for slot in found.slots] == [0, 0, 1, 0, 1]


def test_each_layer_hands_its_own_order_on():
    found = shuffled(between("r = Relu (c) s = Conv (r, w3) d = Clip (s, zero, one)"))
    assert [len(stream.readers) for stream in found] == [1, 1]


def test_a_squeezed_picture_is_read_by_a_gemm():
    for squeeze in ("Flatten (g)", "Reshape (g, shape)", "Squeeze (g, axes)"):
        (found,) = shuffled(
            written(
                f"""(float[N, 3, 6, 6] x) => (float[N, K] y) {{
                    c = Conv (x, w1, b1) g = GlobalAveragePool (c) f = {squeeze}
                    y = Gemm (f, m1, b8)
                }}"""
            )
        )
        assert [slot.axis for slot in found.slots] == [0, 0, 0]
    steps = "c = Conv (x, w1, b1) f = Flatten (c) h = ReduceMean <keepdims = 1> (f, across)"
    assert shuffled(written(f"(float[2, 3, 6, 6] x) => (float[N, K] h) {{ {steps} }}")) == []


def test_matrices_by_the_left_axis_and_by_the_right():
    found = shuffled(
        written(
            """(float[N, S, 6] x) => (float[N, S, K] y) {
                a = MatMul (x, m1) b = Add (b8, a) c = Erf (b) d = MatMul (c, m2)
                e = Add (d, columns) y = MatMul (e, m1)
            }"""
        )
    )
    assert [stream.size for stream in found] == [8, 6]
    found = shuffled(
        written(
            """(float[N, 6] x) => (float[N, K] y) {
                a = Gemm <transB = 1> (x, m2, b8) b = Tanh (a) c = Gemm (b, m3)
                y = Gemm <alpha = 2.0> (c, m4, columns)
            }"""
        )
    )
    assert [stream.size for stream in found] == [8, 5]


def test_what_a_branch_reads_stays():
    model = net(
        """(float[1, 3, 6, 6] x, bool k) => (float[1, K, P, Q] y, float[1, L, R, S] z) {
            c = Conv (x, w1)
            y = Conv (c, w2)
            z = If (k) <then_branch = yes () => (float[1, L, R, S] t) { t = Relu (c) },
                        else_branch = no () => (float[1, L, R, S] e) { e = Neg (c) }>
        }""",
        w1=CONSTANTS["w1"],
        w2=CONSTANTS["w2"],
    )
    assert streams(io.from_proto(model)) == []


def heavy(channels, seed=0):
    """Weights of which neighbours overflow: two heavy channels in a row, then four light ones."""
    weight = np.random.default_rng(seed).normal(0, 1e-4, (5, channels, 1, 1))
    weight[:, np.arange(channels) % 6 < 2] = 1.0
    return weight.astype(np.float32)


def test_heavy_channels_no_longer_meet():
    model = net(
        """(float[N, 3, 6, 6] x) => (float[N, K, P, Q] y) {
            c = Conv (x, w1) d = Clip (c, zero, six)
            e = Conv <group = 12> (d, wd) f = Clip (e, zero, six) y = Conv (f, w2)
        }""",
        w1=normal(12, 3, 1, 1),
        wd=normal(12, 1, 3, 3),
        w2=heavy(12),
        zero=np.float32(0),
        six=np.float32(6),
    )
    held = io.from_proto(model)
    assert clipped(heavy(12)) > 0
    assert reordered(held) == {"reorder: streams": 1, "reorder: layers": 1}
    after = io.to_proto(held)
    assert_same(model, after, feeds_of(model))
    (node,) = [node for node in held.graph if node.name == "n4"]
    assert clipped(node.inputs[1].const_value.numpy()) == 0
    assert not reordered(held)


def test_what_cannot_overflow_is_left_as_it_is():
    model = net(
        "(float[N, 3, 6, 6] x) => (float[N, K, P, Q] y) { c = Conv (x, w1) y = Conv (c, w2) }",
        w1=CONSTANTS["w1"],
        w2=normal(4, 6, 1, 1) * np.array([1, 1e-4] * 3, np.float32)[:, None, None],
    )
    held = io.from_proto(model)
    assert not reordered(held)
    assert io.to_proto(held).graph.initializer[1].name == "w2"
