"""Units through what moves elements: reshapes, heads, shuffles, slices, recurrent states."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pruning.groups.nets import (
    assert_alike,
    assert_cuts,
    feeds_of,
    groups_of,
    net,
    normal,
    numbers,
    pruned,
    reasons,
    shape_of,
    sizes,
    some,
)


def attention(*, rotary):
    """Return self-attention of 3 heads, 4 wide, behind a normalisation, with a residual sum."""
    turn = """
        {0}1 = Slice ({0}s, zero, two, last)  {0}2 = Slice ({0}s, two, four, last)
        {0}n = Neg ({0}2)  {0}h = Concat <axis = -1> ({0}n, {0}1)
        {0}a = Mul ({0}s, cos)  {0}c = Mul ({0}h, sin)  {0}t = Add ({0}a, {0}c)
    """
    plain = "qt = Identity(qs)  kt = Identity(ks)"
    turned = turn.format("q") + turn.format("k") if rotary else plain
    return net(
        f"""(float[2, 5, 8] x) => (float[a, b, c] y) {{
            n = LayerNormalization (x, gamma)
            qm = MatMul (n, wq)  qb = Add (qm, bq)  qr = Reshape (qb, split)
            qs = Transpose <perm = [0, 2, 1, 3]> (qr)
            km = MatMul (n, wk)  kr = Reshape (km, split)
            ks = Transpose <perm = [0, 2, 1, 3]> (kr)
            vm = MatMul (n, wv)  vr = Reshape (vm, split)
            v = Transpose <perm = [0, 2, 1, 3]> (vr)
            {turned}
            ku = Transpose <perm = [0, 1, 3, 2]> (kt)
            scores = MatMul (qt, ku)
            scaled = Div (scores, two_f)
            p = Softmax (scaled)
            ctx = MatMul (p, v)
            back = Transpose <perm = [0, 2, 1, 3]> (ctx)
            joined = Reshape (back, join)
            o = MatMul (joined, wo)
            y = Add (o, x)
        }}""",
        gamma=normal(8), wq=normal(8, 12), wk=normal(8, 12, seed=1), wv=normal(8, 12, seed=2),
        wo=normal(12, 8), bq=normal(12), split=numbers(0, 0, 3, 4), join=numbers(0, 0, 12),
        two_f=np.float32(2), zero=numbers(0), two=numbers(2), four=numbers(4), last=numbers(-1),
        cos=normal(5, 4), sin=normal(5, 4, seed=1),
    )  # fmt: skip


@pytest.mark.parametrize("rotary", [False, True])
def test_attention_loses_whole_heads(rotary):
    groups, hard = assert_cuts(attention(rotary=rotary), seeds=(0, 1, 2))
    (group,) = groups
    assert (group.size, group.kind) == (3, "heads")
    assert (group.tensors["qm"][1] == np.repeat(np.arange(3), 4)).all()
    assert group.tensors["p"][0] == 1
    assert {part.edge.node for part in group.of("reads")} == {f"n{len(hard.graph.node) - 2}"}
    assert "LayerNormalization averages over them" not in str(groups.frozen)


def test_fused_queries_keys_and_values():
    model = net(
        """(float[2, 5, 8] x) => (float[a, b, c] y) {
            qkv = MatMul (x, w)  parted = Reshape (qkv, split)
            turned = Transpose <perm = [2, 0, 3, 1, 4]> (parted)
            q = Gather <axis = 0> (turned, zero)
            k = Gather <axis = 0> (turned, one)
            rest, last = Split <axis = 0> (turned, thirds)
            v = Squeeze (last, zeros)
            ku = Transpose <perm = [0, 1, 3, 2]> (k)
            scores = MatMul (q, ku)  p = Softmax (scores)  ctx = MatMul (p, v)
            back = Transpose <perm = [0, 2, 1, 3]> (ctx)  joined = Reshape (back, join)
            y = MatMul (joined, wo)
        }""",
        w=normal(8, 36), wo=normal(12, 8), split=numbers(0, 0, 3, 3, 4), join=numbers(2, 5, 12),
        zero=np.int64(0), one=np.int64(1), zeros=numbers(0), thirds=numbers(2, 1),
    )  # fmt: skip
    groups, _ = assert_cuts(model)
    (group,) = groups
    assert (group.size, group.kind) == (3, "heads")
    assert (group.tensors["qkv"][1] == np.tile(np.repeat(np.arange(3), 4), 3)).all()


def test_heads_that_share_keys_go_with_all_their_queries():
    model = net(
        """(float[2, 5, 8] x) => (float[a, b, c] y) {
            qm = MatMul (x, wq)  qr = Reshape (qm, split)  q = Transpose <perm = [0, 2, 1, 3]> (qr)
            km = MatMul (x, wk)  kr = Reshape (km, fewer)  k = Transpose <perm = [0, 2, 3, 1]> (kr)
            ku = Unsqueeze (k, two)  ke = Expand (ku, rep)  kk = Reshape (ke, many)
            scores = MatMul (q, kk)  p = Softmax (scores)
            vm = MatMul (p, x4)  back = Transpose <perm = [0, 2, 1, 3]> (vm)
            joined = Reshape (back, join)
            y = MatMul (joined, wo)
        }""",
        wq=normal(8, 16), wk=normal(8, 8), wo=normal(12, 3), x4=normal(5, 3),
        split=numbers(0, 0, 4, 4), fewer=numbers(0, 0, 2, 4), two=numbers(2),
        rep=numbers(2, 2, 2, 4, 5), many=numbers(2, 4, 4, 5), join=numbers(0, 0, 12),
    )  # fmt: skip
    groups, _ = assert_cuts(model)
    group = groups["qm"]
    assert (group.size, group.kind) == (2, "heads")
    assert (group.tensors["qm"][1] == np.repeat([0, 1], 8)).all()


def test_channel_shuffles_pair_channels():
    model = net(
        """(float[2, 3, 5, 5] x) => (float[a, b, c, d] y) {
            h = Conv (x, w)  k = Conv (x, v)
            both = Concat <axis = 1> (h, k)
            parted = Reshape (both, split)
            turned = Transpose <perm = [0, 2, 1, 3, 4]> (parted)
            mixed = Reshape (turned, join)
            one, two = Split <axis = 1> (mixed, halves)
            s = Relu (one)
            m = Concat <axis = 1> (s, two)
            y = Conv (m, u)
        }""",
        w=normal(8, 3, 1, 1), v=normal(8, 3, 1, 1, seed=1), u=normal(4, 16, 1, 1),
        split=numbers(2, 2, 8, 5, 5), join=numbers(2, 16, 5, 5), halves=numbers(6, 10),
    )  # fmt: skip
    groups, _ = assert_cuts(model, seeds=range(4))
    assert sorted(group.size for group in groups) == [3, 5]


def test_parts_of_a_split_and_a_slice_are_groups_of_their_own():
    model = net(
        """(float[2, 4] x) => (float[a, b] y) {
            h = MatMul (x, w)
            a, b = Split <axis = 1> (h, halves)
            s = Sigmoid (a)
            g = Mul (s, b)
            c = Slice (g, zero, three, last)
            d = Slice (g, five, low, last, back)
            e = Concat <axis = -1> (c, d)
            y = MatMul (e, v)
        }""",
        w=normal(4, 12), v=normal(6, 3), halves=numbers(6, 6), zero=numbers(0), three=numbers(3),
        last=numbers(-1), five=numbers(-1), low=numbers(2), back=numbers(-1),
    )  # fmt: skip
    groups, _ = assert_cuts(model, seeds=range(4))
    assert {group.name: group.size for group in groups} == {"c": 3, "d": 3}


def test_every_second_place_is_gathered_where_it_cannot_be_sliced():
    model = net(
        """(float[2, 4] x) => (float[a, b] y) {
            h = MatMul (x, w)
            even = Slice (h, zero, end, last, two)
            odd = Slice (h, one, end, last, two)
            n = Neg (odd)
            all = Concat <axis = 1> (n, even)
            r = Relu (h)
            s = Gather <axis = 1> (r, order)
            sum = Add (all, s)
            y = MatMul (sum, v)
        }""",
        w=normal(4, 8), v=normal(8, 3), zero=numbers(0), one=numbers(1), two=numbers(2),
        end=numbers(99), last=numbers(-1), order=numbers(0, 1, 4, 5, 2, 3, -2, -1),
    )  # fmt: skip
    groups, _ = assert_cuts(model, seeds=range(6))
    assert sum(group.size for group in groups) >= 2


def test_what_is_computed_of_a_number_of_channels_keeps_them():
    model = net(
        """(float[2, 3, H, W] x) => (float[a, b, c, d] y) {
            h = Conv (x, w)
            g = Reshape (h, parts)
            n = InstanceNormalization (g, one, nil)
            s = Shape (h)
            back = Reshape (n, s)
            y = Conv (back, v)
        }""",
        w=normal(12, 3, 1, 1), v=normal(2, 12, 1, 1),
        one=np.ones(4, np.float32), nil=np.zeros(4, np.float32), parts=numbers(0, 4, -1),
    )  # fmt: skip
    assert sizes(model) == {}
    assert "the number of these channels is computed with" in reasons(model)


def test_channels_normalised_in_groups_over_unknown_sizes():
    model = net(
        """(float[2, 3, H, W] x) => (float[a, b, c, d] y) {
            h = Conv (x, w)
            g = Reshape (h, parts)
            n = InstanceNormalization (g, one, nil)
            hs = Shape (x)
            hw = Slice (hs, two, four)
            s = Concat <axis = 0> (front, hw)
            back = Reshape (n, s)
            m = Mul (back, gamma)
            y = Conv (m, v)
        }""",
        w=normal(12, 3, 1, 1), v=normal(2, 12, 1, 1), gamma=normal(12, 1, 1),
        one=np.ones(4, np.float32), nil=np.zeros(4, np.float32), parts=numbers(0, 4, -1),
        two=numbers(2), four=numbers(4), front=numbers(2, 12),
    )  # fmt: skip
    groups, hard = assert_cuts(model, feed={"x": normal(2, 3, 5, 4)})
    assert [group.size for group in groups] == [4]
    assert "Where" in [node.op_type for node in hard.graph.node]


def recurrent(kind, directions=1, *, start="", outputs="h", reader="h"):
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind]
    way = "bidirectional" if directions == 2 else "forward"
    return net(
        f"""(float[4, 2, 3] x) => (float[a, b, c] y) {{
            {outputs} = {kind} <hidden_size = 6, direction = "{way}"> (x, w, r, b{start})
            t = Transpose <perm = [0, 2, 1, 3]> (h)
            f = Reshape (t, flat)
            y = MatMul (f, v)
        }}""",
        w=normal(directions, gates * 6, 3), r=normal(directions, gates * 6, 6),
        b=normal(directions, gates * 12), v=normal(6 * directions, 5),
        flat=numbers(0, 0, 6 * directions), h0=normal(directions, 2, 6),
        peep=normal(directions, 18),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("directions", [1, 2])
def test_states_shrink_with_all_gates_and_both_directions(kind, directions):
    groups, hard = assert_cuts(recurrent(kind, directions, start=", , h0"))
    (group,) = groups
    assert (group.size, group.kind) == (6, "state")
    kept = shape_of(hard, "r")[0][2]
    assert kept < 6
    assert {attr.name: attr.i for attr in hard.graph.node[0].attribute}["hidden_size"] == kept
    assert shape_of(hard, "h0") == [(directions, 2, kept)]


def test_peepholes_and_last_states():
    groups, _ = assert_cuts(recurrent("LSTM", start=", , h0, h0, peep"))
    assert groups.groups[0].size == 6
    model = net(
        """(float[4, 2, 3] x) => (float[a, b] y) {
            h, last, cell = LSTM <hidden_size = 6> (x, w, r)
            k, end = LSTM <hidden_size = 6> (h1, w2, r2, , , last, cell)
            h1 = Squeeze (h, one)
            s = Squeeze (end, nil)
            y = MatMul (s, v)
        }""",
        w=normal(1, 24, 3), r=normal(1, 24, 6), w2=normal(1, 24, 6), r2=normal(1, 24, 6, seed=1),
        v=normal(6, 5), one=numbers(1), nil=numbers(0),
    )  # fmt: skip
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([nodes[0], nodes[2], nodes[1], *nodes[3:]])
    groups, _ = assert_cuts(model)
    assert [group.size for group in groups] == [6]


def test_a_first_state_that_is_given_keeps_the_state():
    model = recurrent("GRU", start=", , start")
    extra = net("(float[1, 2, 6] start) => (float[1] z) { z = Identity(start) }")
    model.graph.input.append(extra.graph.input[0])
    assert sizes(model) == {}
    assert "the first state of GRU is an input: start" in reasons(model)


def test_pixels_of_channels():
    model = net(
        """(float[2, 3, 4, 4] x) => (float[a, b, c, d] y) {
            h = Conv (x, w)
            up = DepthToSpace <blocksize = 2> (h)
            r = Relu (up)
            down = SpaceToDepth <blocksize = 2> (r)
            o = DepthToSpace <blocksize = 2, mode = "CRD"> (q)
            q = Conv (down, u)
            y = Conv (o, v)
        }""",
        w=normal(12, 3, 1, 1), u=normal(8, 12, 1, 1), v=normal(2, 2, 1, 1),
    )  # fmt: skip
    nodes = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes[:4], nodes[5], nodes[4], nodes[6]])
    groups, _ = assert_cuts(model)
    assert [group.size for group in groups] == [3, 2]


def test_what_nested_graphs_read_and_hand_out_stays():
    one = "then_branch = tb () => (float[b, 6] t) { t = Exp(h) }"
    two = "eb () => (float[b, 6] e) { p = MatMul(x, k) q = Relu(p) e = MatMul(q, u) }"
    model = net(
        f"""(float[2, 4] x, bool c) => (float[a, b] y) {{
            h = MatMul (x, w)
            i = If <{one}, else_branch = {two}> (c)
            y = MatMul (i, v)
        }}""",
        w=normal(4, 6), v=normal(6, 3), k=normal(4, 5), u=normal(5, 6),
    )  # fmt: skip
    for attr in model.graph.node[1].attribute:
        for number, node in enumerate(attr.g.node):
            node.name = f"{attr.name}{number}"
    assert sizes(model) == {"p": 5}
    assert "a graph within If reads these channels" in reasons(model)
    assert_cuts(model, feed={"x": normal(2, 4), "c": np.array(False)})


def test_groups_that_nothing_reads_by_a_weight_say_so():
    model = net(
        """(float[2, 4] x) => (float[a, b] y) {
            h = MatMul (x, w)
            k = MatMul (x, v)
            t = Transpose <perm = [1, 0]> (k)
            y = MatMul (h, t)
        }""",
        w=normal(4, 6), v=normal(4, 6),
    )  # fmt: skip
    assert sizes(model) == {}
    assert "MatMul multiplies these channels by an activation" in reasons(model)


@st.composite
def networks(draw):
    """Draw a chain of layers and detours on [2, 8, 6, 6], and what stays of its groups."""
    steps, constants = ["t0 = Conv <pads = [1, 1, 1, 1]> (x, w)"], {"w": normal(8, 3, 3, 3)}
    kinds = (
        "conv",
        "deep",
        "grouped",
        "relu",
        "gate",
        "residual",
        "shuffle",
        "cat",
        "scale",
        "heads",
    )
    last, channels = "t0", 8
    for number in range(1, draw(st.integers(1, 7)) + 1):
        kind, new = draw(st.sampled_from(kinds)), f"t{number}"
        name = f"k{number}"
        if kind in ("conv", "residual"):
            constants[name] = normal(8, channels, 1, 1, seed=number)
            steps.append(f"{new} = Conv ({last}, {name})")
            if kind == "residual" and channels == 8:
                steps[-1] = f"{new}c = Conv ({last}, {name})  {new} = Add ({new}c, t0)"
            channels = 8
        elif kind in ("deep", "grouped"):
            count = channels if kind == "deep" else 2
            constants[name] = normal(channels, channels // count, 1, 1, seed=number)
            steps.append(f"{new} = Conv <group = {count}> ({last}, {name})")
        elif kind == "relu":
            steps.append(f"{new} = Relu ({last})")
        elif kind == "gate":
            steps.append(f"{new}p = GlobalAveragePool ({last})  {new} = Mul ({new}p, {last})")
        elif kind == "scale":
            constants[name] = normal(channels, 1, 1, seed=number)
            steps.append(f"{new} = Mul ({last}, {name})")
        elif kind == "cat":
            steps.append(f"{new} = Concat <axis = 1> (t0, {last})")
            channels += 8
        else:
            constants[f"{name}s"] = numbers(2, 2, channels // 2, 6, 6)
            constants[f"{name}j"] = numbers(2, channels, 6, 6)
            order = "0, 2, 1, 3, 4" if kind == "shuffle" else "0, 1, 2, 4, 3"
            steps.append(f"{new}a = Reshape ({last}, {name}s)")
            steps.append(f"{new}b = Transpose <perm = [{order}]> ({new}a)")
            steps.append(f"{new} = Reshape ({new}b, {name}j)")
        last = new
    constants["v"] = normal(2, channels, 1, 1)
    body = "\n".join([*steps, f"y = Conv ({last}, v)"])
    model = net(f"(float[2, 3, 6, 6] x) => (float[a, b, c, d] y) {{ {body} }}", **constants)
    return model, draw(st.integers(0, 99))


@settings(max_examples=40, deadline=None)
@given(networks())
def test_any_network_computes_the_same_cut_as_masked(case):
    model, seed = case
    soft, hard, _ = pruned(model, some(groups_of(model), seed=seed))
    assert_alike(soft, hard, feeds_of(model))
