"""Channels may be rescaled wherever that is exact, and only there."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.quantizing.repair.chains import apply, candidates
from tests.quantizing.repair.nets import (
    assert_exact,
    assert_same,
    feeds_of,
    net,
    normal,
    outputs,
    rescaled,
)

BETWEEN = [
    "Identity (c)",
    "Relu (c)",
    "LeakyRelu <alpha = 0.2> (c)",
    "PRelu (c, slope)",
    "MaxPool <kernel_shape = [2, 2]> (c)",
    "AveragePool <kernel_shape = [3, 3], pads = [1, 1, 1, 1]> (c)",
    "GlobalAveragePool (c)",
    "ReduceMax <keepdims = 1> (c, axes)",
    "Neg (c)",
    "Abs (c)",
    "Add (c, offset)",
    "Sub (offset, c)",
    "Mul (offset, c)",
    "Mul (c, two)",
    "Div (c, two)",
    "Max (c, offset)",
    "Clip (c, zero)",
    "Pad (c, pads)",
    "BatchNormalization (c, g, offset1, offset1, g)",
    'Resize <mode = "linear"> (c, none, factors)',
]  # fmt: skip


@pytest.mark.parametrize("between", BETWEEN)
def test_scales_pass_what_is_homogeneous(between):
    model = net(
        f"""(float[N, 3, 6, 6] x) => (float[N, K, P, Q] y) {{
            c = Conv <pads = [1, 1, 1, 1]> (x, w1, b1)
            d = {between}
            y = Conv (d, w2)
        }}""",
        w1=normal(8, 3, 3, 3),
        b1=normal(8),
        w2=normal(5, 8, 1, 1),
        slope=np.abs(normal(8, 1, 1)),
        offset=normal(8, 1, 1),
        offset1=normal(8),
        g=np.abs(normal(8)) + np.float32(0.5),
        two=np.float32(2),
        zero=np.float32(0),
        axes=np.array([2, 3]),
        pads=np.array([0, 0, 1, 1, 0, 0, 0, 1]),
        none=np.zeros(0, np.float32),
        factors=np.array([1, 1, 2, 2], np.float32),
    )
    chains = assert_exact(model)
    assert chains["c"].size == 8
    assert not chains["c"].least.any()


STOPS = [
    "Sigmoid (c)",
    "HardSwish (c)",
    "Gelu (c)",
    "Mul (c, c)",
    "Clip (c, zero, six)",
    "Pad (c, pads, six)",
    "ReduceMean <keepdims = 1> (c, axes)",
    "Add (c, given)",
    "Exp (c)",
]


@pytest.mark.parametrize("stop", STOPS)
def test_scales_stop_at_what_is_not_homogeneous(stop):
    model = net(
        f"""(float[N, 3, 6, 6] x, float[8, 1, 1] given) => (float[N, K, P, Q] y) {{
            c = Conv (x, w1)
            d = {stop}
            y = Conv (d, w2)
        }}""",
        w1=normal(8, 3, 3, 3),
        w2=normal(5, 8, 1, 1)[:, :1] if "Reduce" in stop else normal(5, 8, 1, 1),
        zero=np.float32(0),
        six=np.float32(6),
        axes=np.array([1]),
        pads=np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    )
    if "Gelu" in stop:
        model.opset_import[0].version = 20
    assert candidates(io.from_proto(model)) == []


def test_what_a_graph_hands_out_is_not_scaled():
    model = net(
        """(float[N, 4] x) => (float[N, 4] c, float[N, 4] y) {
            c = MatMul (x, w)
            y = MatMul (c, w)
        }""",
        w=normal(4, 4),
    )
    assert candidates(io.from_proto(model)) == []


def test_a_constant_that_the_caller_may_override_is_not_scaled():
    model = net(
        """(float[N, 4] x, float[4, 4] w) => (float[N, 4] y) {
            c = MatMul (x, w)
            y = MatMul (c, v)
        }""",
        w=normal(4, 4),
        v=normal(4, 4),
    )
    assert candidates(io.from_proto(model)) == []


def test_a_small_shared_constant_is_copied_and_a_large_one_left_alone():
    text = """(float[N, K] x) => (float[N, K] y) {
        c = MatMul (x, w)
        r = Relu (c)
        y = MatMul (r, w)
    }"""
    small = net(text, w=normal(8, 8))
    assert assert_exact(small, {"x": normal(3, 8)})["c"].size == 8
    assert candidates(io.from_proto(net(text, w=normal(200, 200)))) == []


def test_what_a_branch_reads_from_outside_is_not_scaled():
    model = net(
        """(float[N, 4] x, bool chosen) => (float[N, 4] y) {
            c = MatMul (x, w)
            d = MatMul (c, w)
            e = If (chosen) <
                then_branch = g1 () => (float[N, 4] t) { t = Relu (c) },
                else_branch = g2 () => (float[N, 4] f) { f = Identity (c) }
            >
            y = Add (d, e)
        }""",
        w=normal(4, 4),
    )
    assert candidates(io.from_proto(model)) == []


def test_residual_sums_tie_what_writes_them():
    model = net(
        """(float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, w0)
            b = Conv <pads = [1, 1, 1, 1], group = 8> (a, w1)
            c = Conv (b, w2)
            d = Add (a, c)
            e = Conv (d, w2)
            f = Add (d, e)
            y = Conv (f, w3)
        }""",
        w0=normal(8, 3, 1, 1),
        w1=normal(8, 1, 3, 3),
        w2=normal(8, 8, 1, 1),
        w3=normal(5, 8, 1, 1),
    )
    chains = assert_exact(model)
    assert set(chains["a"].tensors) == {"a", "c", "d", "e", "f"}
    assert set(chains["b"].tensors) == {"b"}


def test_each_part_of_a_concat_has_scales_of_its_own():
    model = net(
        """(float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, w0)
            b = Sigmoid (x)
            c = Conv (x, w1)
            d = Concat <axis = 1> (a, b, c)
            e, f = Split <axis = 1> (d, sizes)
            g = Conv (e, w2)
            h = Conv (f, w3)
            y = Add (g, h)
        }""",
        w0=normal(4, 3, 1, 1),
        w1=normal(6, 3, 1, 1),
        w2=normal(5, 8, 1, 1),
        w3=normal(5, 5, 1, 1),
        sizes=np.array([8, 5]),
    )
    chains = assert_exact(model)
    assert {name: chain.size for name, chain in chains.items()} == {"a": 4, "c": 6}
    assert (chains["a"].tensors["d"].ravel() != 8).sum() == 4


def test_a_gate_is_not_scaled_but_what_it_multiplies():
    model = net(
        """(float[N, 3, 6, 6] x) => (float[N, 5, 6, 6] y) {
            a = Conv (x, w0)
            r = Relu (a)
            p = GlobalAveragePool (r)
            q = Conv (p, w1)
            s = HardSigmoid (q)
            m = Mul (r, s)
            y = Conv (m, w2)
        }""",
        w0=normal(8, 3, 1, 1),
        w1=normal(8, 8, 1, 1),
        w2=normal(5, 8, 1, 1),
    )
    chains = assert_exact(model)
    assert list(chains) == ["a"]
    assert set(chains["a"].tensors) == {"a", "r", "p", "m"}


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_groups_and_transposed_convolutions(groups):
    model = net(
        f"""(float[N, 4, 5, 5] x) => (float[N, K, P, Q] y) {{
            a = ConvTranspose <group = {min(groups, 4)}, strides = [2, 2]> (x, w0, b0)
            b = Conv <group = {groups}> (a, w1, b1)
            c = ConvTranspose <group = {groups}> (b, w2)
            y = Conv <group = {groups}> (c, w3)
        }}""",
        w0=normal(4, 8 // min(groups, 4), 2, 2),
        b0=normal(8),
        w1=normal(16, 8 // groups, 3, 3),
        b1=normal(16),
        w2=normal(16, 8 // groups, 2, 2),
        w3=normal(8, 8 // groups, 1, 1),
    )
    assert [chain.size for chain in assert_exact(model).values()] == [8, 16, 8]


def test_flattened_pictures_keep_one_scale_for_each_channel():
    model = net(
        """(float[N, 3, 4, 4] x) => (float[N, 5] y) {
            a = Conv (x, w0)
            r = Relu (a)
            f = Flatten (r)
            g = Gemm <transB = 1, alpha = 0.5> (f, w1, one)
            h = LeakyRelu (g)
            y = Gemm (h, w2, b2)
        }""",
        w0=normal(6, 3, 1, 1),
        w1=normal(7, 96),
        one=np.float32(1),
        w2=normal(7, 5),
        b2=normal(1, 5),
    )
    assert [chain.size for chain in assert_exact(model).values()] == [6, 7]


ATTENTION = """(float[B, 6, 16] x) => (float[B, 6, 16] y) {
    n = LayerNormalization (x, gamma, beta)
    q0 = MatMul (n, wq)
    q1 = Add (q0, bq)
    k0 = MatMul (n, wk)
    v0 = MatMul (n, wv)
    q2 = Reshape (q1, heads)
    k2 = Reshape (k0, heads)
    v2 = Reshape (v0, heads)
    q = Transpose <perm = [0, 2, 1, 3]> (q2)
    k = Transpose <perm = [0, 2, 3, 1]> (k2)
    v = Transpose <perm = [0, 2, 1, 3]> (v2)
    s0 = MatMul (q, k)
    s1 = Mul (s0, half)
    p = Softmax (s1)
    o0 = MatMul (p, v)
    o1 = Transpose <perm = [0, 2, 1, 3]> (o0)
    o2 = Reshape (o1, joined)
    o = MatMul (o2, wo)
    t = Add (o, OTHER)
    r = LayerNormalization (t, gamma, beta)
    g0 = MatMul (r, wg)
    gs = Sigmoid (g0)
    g1 = Mul (g0, gs)
    u = MatMul (r, wu)
    m = Mul (g1, u)
    y = MatMul (m, wd)
}"""


def attention(other):
    return net(
        ATTENTION.replace("OTHER", other),
        gamma=normal(16),
        beta=normal(16, seed=1),
        **{f"w{name}": normal(16, 16, seed=ord(name)) for name in "qkvogud"},
        bq=normal(16),
        half=np.float32(0.5),
        heads=np.array([0, 0, 4, 4]),
        joined=np.array([0, 0, 16]),
    )


def test_attention_and_gated_units_are_smoothed_throughout():
    chains = assert_exact(attention("x"))
    assert set(chains) == {"n", "q0", "v0", "r", "u"}
    assert {"v0", "v", "o0", "o2"} <= set(chains["v0"].tensors)
    assert {"q1", "k0", "q", "k"} <= set(chains["q0"].tensors)
    assert {edit.edge.node for edit in chains["q0"].edits} == {"n1", "n2", "n3"}


def test_a_normalisation_that_a_sum_reads_too_is_restored_for_it():
    model = attention("n")
    assert "n" not in assert_exact(model)
    after, chains = rescaled(model, restore=True)
    assert_same(model, after, feeds_of(model))
    assert {edge for chain in chains for edge in chain.restored.get("n", ())} == {("n18", 1)}
    assert sum(node.op_type == "Mul" for node in after.graph.node) == 4


def test_rotary_embeddings_tie_the_two_halves_of_a_head():
    model = net(
        """(float[B, 6, 8] x, float[6, 8] cos, float[6, 8] sin) => (float[B, 6, 6] y) {
            q = MatMul (x, wq)
            a, b = Split <axis = -1, num_outputs = 2> (q)
            c = Neg (b)
            d = Concat <axis = -1> (c, a)
            e = Mul (q, cos)
            f = Mul (d, sin)
            g = Add (e, f)
            k = MatMul (x, wk)
            t = Transpose <perm = [0, 2, 1]> (k)
            y = MatMul (g, t)
        }""",
        wq=normal(8, 8),
        wk=normal(8, 8, seed=1),
    )
    chains = assert_exact(model)
    assert {name: chain.size for name, chain in chains.items()} == {"q": 4}


def test_a_channel_that_meets_its_own_inverse_stays():
    model = net(
        """(float[B, 6, 8] x) => (float[B, 6, 6] y) {
            q = MatMul (x, w)
            t = Transpose <perm = [0, 2, 1]> (q)
            y = MatMul (q, t)
        }""",
        w=normal(8, 8),
    )
    assert candidates(io.from_proto(model)) == []


def clamped(big=3.0):
    """Make a net in which four of eight depthwise channels provably stay below 6."""
    weight = np.abs(normal(8, 1, 3, 3))
    sums = np.array([0.5] * 4 + [big] * 4, np.float32).reshape(8, 1, 1, 1)
    return net(
        """(float[N, 3, 6, 6] x) => (float[N, 5, P, Q] y) {
            a = Conv (x, w0)
            b = Clip (a, zero, six)
            c = Conv <group = 8, pads = [1, 1, 1, 1]> (b, w1, b1)
            d = Clip (c, zero, six)
            y = Conv (d, w2)
        }""",
        w0=normal(8, 3, 1, 1),
        w1=weight / weight.sum((1, 2, 3), keepdims=True) * sums,
        b1=np.full(8, 0.1, np.float32),
        w2=normal(5, 8, 1, 1),
        zero=np.float32(0),
        six=np.float32(6),
    )  # fmt: skip


def test_below_a_clamp_scales_are_bounded_by_what_is_provable():
    model = clamped()
    chains = assert_exact(model, feeds_of(model, big=100.0))
    assert list(chains) == ["c"]
    np.testing.assert_allclose(chains["c"].least, 3.1 / 6, rtol=1e-6)


def test_what_was_observed_below_a_clamp_counts_if_asked():
    model = clamped()
    ranges = {"b": (np.zeros(8), np.r_[np.full(7, 3.0), 6.0])}
    held = io.from_proto(model)
    chains = {chain.name: chain for chain in candidates(held, observed=ranges, margin=1.5)}
    assert chains["a"].size == 7
    np.testing.assert_allclose(chains["a"].least, 0.75)


def test_nothing_is_done_where_a_constant_would_overflow():
    model = net(
        "(float[N, 4] x) => (float[N, 4] y) { c = MatMul (x, w) y = MatMul (c, v) }",
        w=normal(4, 4),
        v=normal(4, 4),
    )
    held = io.from_proto(model)
    (chain,) = candidates(held)
    assert not apply(Editor(held), chain, np.full(4, 1e-39))
    assert_same(model, io.to_proto(held), feeds_of(model))


KEEPS_SIZE = [
    *BETWEEN[:6],
    *BETWEEN[8:12],
    "Clip (c, zero)",
    "Clip (c, zero, six)",
    "HardSwish (c)",
]
LAYERS = ["depthwise", "dense", "residual", "gate", "joined"]
PICTURE = st.sampled_from([*KEEPS_SIZE, *LAYERS])


@settings(max_examples=40, deadline=None)
@given(st.lists(PICTURE, min_size=1, max_size=7), st.integers(0, 99))
def test_any_net_stays_what_it_was(steps, seed):
    lines = ["v0 = Conv (x, w0, b0)"]
    current, spare = "v0", "v0"
    for number, step in enumerate(steps, 1):
        new = f"v{number}"
        if step == "dense":
            lines.append(f"{new} = Conv ({current}, w1, b1)")
        elif step == "depthwise":
            lines.append(f"{new} = Conv <group = 4, pads = [1, 1, 1, 1]> ({current}, w2, b2)")
        elif step == "residual":
            lines.append(f"{new} = Add ({current}, {spare})")
            spare = new
        elif step == "gate":
            lines += [f"p{number} = GlobalMaxPool ({current})", f"q{number} = Conv (p{number}, w1)"]
            lines += [f"s{number} = Sigmoid (q{number})", f"{new} = Mul (s{number}, {current})"]
        elif step == "joined":
            lines.append(f"j{number} = Concat <axis = 1> ({current}, {spare})")
            lines.append(f"{new} = Conv (j{number}, w3)")
        else:
            wide = step.replace("= [2, 2]>", "= [3, 3], pads = [1, 1, 1, 1]>")
            wide = wide.replace("(c", f"({current}").replace(", c)", f", {current})")
            lines.append(f"{new} = {wide}")
        current = new
    lines.append(f"y = Conv ({current}, w4)")
    model = net(
        "(float[N, 3, 6, 6] x) => (float[N, 2, P, Q] y) {" + "\n".join(lines) + "}",
        w0=normal(4, 3, 1, 1, seed=seed), b0=normal(4, seed=seed),
        w1=normal(4, 4, 1, 1, seed=seed), b1=normal(4, seed=seed),
        w2=normal(4, 1, 3, 3, seed=seed), b2=normal(4, seed=seed),
        w3=normal(4, 8, 1, 1, seed=seed), w4=normal(2, 4, 1, 1, seed=seed),
        slope=np.abs(normal(4, 1, 1)), offset=normal(4, 1, 1, seed=seed),
        zero=np.float32(0), six=np.float32(6),
    )  # fmt: skip
    after, _ = rescaled(model, seed)
    feed = feeds_of(model, seed, big=4.0)
    for one, other in zip(outputs(model, feed), outputs(after, feed), strict=True):
        assert np.abs(one - other).max() <= 1e-4 * max(np.abs(one).max(), 1.0)
