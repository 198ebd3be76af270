"""Units through every layer: cut models compute what masked ones do, and really shrink."""

import numpy as np
import pytest

from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.pruning.groups.cutting import mask, remove
from onnxopt.pruning.groups.finding import find_groups
from tests.pruning.groups.nets import (
    assert_alike,
    assert_cuts,
    feeds_of,
    net,
    normal,
    numbers,
    pruned,
    reasons,
    shape_of,
    sizes,
)


def conv_pair(middle, opset=18, head="", size=6, **constants):
    """Return Conv → middle → Conv over pictures of 7 × 7; middle makes `m` from `h`."""
    return net(
        f"""(float[2, 3, 7, 7] x) => (float[a, b, c, d] y) {{
            h = Conv <pads = [1, 1, 1, 1]> (x, w, b)
            {middle}
            y = Conv <pads = [1, 1, 1, 1]> (m, v, c)
        }}""",
        opset,
        w=normal(size, 3, 3, 3),
        b=normal(size),
        **{"v": normal(4, size, 3, 3), "c": normal(4), **constants},
    )


def test_channels_of_a_convolution_go_with_filters_bias_and_columns():
    model = conv_pair("m = Relu(h)")
    groups, hard = assert_cuts(model)
    (group,) = groups
    assert (group.name, group.size, group.kind) == ("h", 6, "channels")
    assert {(part.edge, part.axis, part.role) for part in group.slices} == {
        (("n0", 1), 0, "writes"),
        (("n0", 2), 0, "writes"),
        (("n2", 1), 1, "reads"),
    }
    assert {name: axis for name, (axis, _) in group.tensors.items()} == {"h": 1, "m": 1}
    kept = shape_of(hard, "w")[0][0]
    assert kept < 6
    assert shape_of(hard, "v") == [(4, kept, 3, 3)]


@pytest.mark.parametrize(
    "middle",
    [
        "m = Exp(h)",
        "a = Sigmoid(h)  m = Mul(a, h)",
        "m = PRelu(h, s)",
        "m = Add(h, s)",
        "m = Sub(s, h)",
        "one = Constant <value_float = 2.0> ()  m = Div(h, one)",
        "lo = Constant <value_float = -0.5> ()  m = Clip(h, lo)",
        "z = Constant <value_float = 0.0> ()  q = Greater(h, z)  m = Where(q, h, s)",
        "m = BatchNormalization (h, g, g, s1, g2)",
        "m = InstanceNormalization (h, g, g)",
        "m = MaxPool <kernel_shape = [2, 2]> (h)",
        "m = GlobalAveragePool (h)",
        "m = Conv <group = 6, pads = [1, 1, 1, 1]> (h, deep, g)",
        "t = Transpose <perm = [2, 3, 0, 1]> (h) u = Mul(t, g) m = Transpose <perm=[2,3,0,1]>(u)",
        "m = Dropout(h)",
        "m = Pad(h, pads)",
        "e = Constant <value_float = 1.0> ()  m = Pad(h, pads, e)",
        "m = Resize(h, , scales)",
        "m = Resize(h, , , target)",
        "p = ReduceMean (h, hw) q = Conv(p, sq, g) r = Relu(q) u = Conv(r, sq, g) m = Mul(h, u)",
        "p = ReduceMean <keepdims = 1> (h, hw)  k = Sigmoid(p)  m = Mul(k, h)",
        "f = Concat <axis = 1> (h, x)  k = Conv(f, nine)  m = Add(h, k)",
        "k = Expand(g3, full)  m = Add(h, k)",
        "k = Tile(h, twice)  m = ReduceMax <keepdims = 1> (k, hw)",
    ],
)
def test_channels_pass(middle):
    model = conv_pair(
        middle,
        s=normal(6, 1, 1),
        g=normal(6),
        g2=np.abs(normal(6)) + 0.1,
        s1=normal(6, seed=2),
        g3=normal(6, 1, 1),
        deep=normal(6, 1, 3, 3),
        sq=normal(6, 6, 1, 1),
        nine=normal(6, 9, 1, 1),
        pads=numbers(0, 0, 1, 1, 0, 0, 1, 1),
        scales=np.array([1, 1, 2, 2], np.float32),
        target=numbers(2, 6, 9, 9),
        hw=numbers(2, 3),
        full=numbers(1, 6, 7, 7),
        twice=numbers(1, 1, 2, 2),
    )
    groups, _ = assert_cuts(model)
    if middle.startswith("k = Expand"):
        assert not groups.groups  # what is expanded is computed, and cannot shrink
        return
    assert groups.groups[0].size == 6
    assert "m" in groups.groups[0].tensors or "f" in groups.groups[0].tensors


@pytest.mark.parametrize(
    ("middle", "word"),
    [
        ("m = Softmax <axis = 1> (h)", "Softmax sums"),
        ("m = LayerNormalization <axis = 1> (h, n)", "averages"),
        ("m = CumSum(h, one)", "CumSum sums"),
        ("k = ReduceMax <keepdims = 1> (h, one)  m = Mul(k, h)", "compares"),
        ("m = Sub(h, x6)", "an input"),
        ("m = NotKnown(h)", "no rule for operator NotKnown"),
        ("m = LRN <size = 3> (h)", "LRN"),
    ],
)
def test_channels_freeze_with_a_reason(middle, word):
    model = conv_pair(middle, n=np.ones((6, 7, 7), np.float32), one=numbers(1))
    if "x6" in middle:
        extra = net("(float[2, 6, 7, 7] x6) => (float[1] z) { z = Identity(x6) }")
        model.graph.input.append(extra.graph.input[0])
    assert sizes(model) == {}
    assert any(word in reason for reason in reasons(model)), reasons(model)


def test_residual_sums_tie():
    model = net(
        """(float[2, 3, 5, 5] x) => (float[a, b, c, d] y) {
            h = Conv (x, w)
            a = Relu (h)
            k = Conv (a, v)
            s = Add (h, k)
            y = Conv (s, u)
        }""",
        w=normal(8, 3, 1, 1),
        v=normal(8, 8, 1, 1),
        u=normal(2, 8, 1, 1),
    )
    groups, _ = assert_cuts(model)
    (group,) = groups
    assert group.size == 8
    assert sorted((part.edge.node, part.axis) for part in group.of("reads")) == [
        ("n2", 1),
        ("n4", 1),
    ]
    assert sorted((part.edge.node, part.axis) for part in group.of("writes")) == [
        ("n0", 0),
        ("n2", 0),
    ]


def test_outputs_keep_their_shape():
    model = conv_pair("m = Relu(h)")
    assert sizes(model) == {"h": 6}
    assert any("an output of the model" in reason for reason in reasons(model))


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("groups", "units"), [(2, 4), (8, 8), (4, 4)])
def test_convolutions_in_groups(groups, units, transposed):
    width = 8
    kind = "ConvTranspose" if transposed else "Conv"
    weight = normal(width, width // groups * (2 if groups == 8 else 1), 3, 3)
    if groups == 8 and not transposed:
        weight = normal(2 * width, 1, 3, 3)
    made = weight.shape[1] * groups if transposed else weight.shape[0]
    model = net(
        f"""(float[2, 3, 7, 7] x) => (float[a, b, c, d] y) {{
            h = Conv (x, w, b)
            g = {kind} <group = {groups}> (h, k, c)
            r = Relu (g)
            y = Conv (r, v)
        }}""",
        w=normal(width, 3, 1, 1), b=normal(width), k=weight, c=normal(made),
        v=normal(3, made, 1, 1),
    )  # fmt: skip
    found, hard = assert_cuts(model)
    assert found.groups[0].size == units
    attribute = {attr.name: attr.i for attr in hard.graph.node[1].attribute}["group"]
    assert attribute == (groups if groups == 2 else shape_of(hard, "w")[0][0] * groups // width)


@pytest.mark.parametrize("turned", [0, 1])
def test_gemm_and_flatten(turned):
    second, third = normal(4 * 25, 6), normal(6, 3)
    model = net(
        f"""(float[2, 3, 7, 7] x) => (float[a, b] y) {{
            h = Conv (x, w)
            r = Relu (h)
            f = Flatten (r)
            g = Gemm <transB = {turned}, alpha = 0.5, beta = 2.0> (f, k, c)
            t = Tanh (g)
            y = Gemm <transB = {turned}> (t, v, d)
        }}""",
        w=normal(4, 3, 3, 3),
        k=second.T.copy() if turned else second,
        v=third.T.copy() if turned else third,
        c=normal(1, 6),
        d=normal(3),
    )
    groups, _ = assert_cuts(model)
    assert {group.name: group.size for group in groups} == {"h": 4, "g": 6}
    assert (groups["h"].tensors["f"][1] == np.repeat(np.arange(4), 25)).all()


def test_matmul_with_a_constant_on_the_left_and_gemm_turned():
    model = net(
        """(float[5, 4] x) => (float[a, b] y) {
            h = MatMul (w, x)
            r = Relu (h)
            g = Gemm <transA = 1> (r, v, c)
            t = Tanh (g)
            k = Gemm <transA = 1, transB = 1> (u, t)
            q = Sqrt (k)
            y = MatMul (z, q)
        }""",
        w=normal(6, 5),
        v=normal(6, 7),
        c=normal(7),
        u=np.abs(normal(7, 8)),
        z=normal(2, 8),
    )
    assert sizes(model) == {"h": 6, "g": 7, "k": 8}
    assert_cuts(model, feed={"x": np.abs(normal(5, 4))})


def test_embeddings_are_cut_by_columns():
    model = net(
        """(int64[2, 5] ids) => (float[a, b, c] y) {
            e = Gather (table, ids)
            s = Add (e, places)
            r = Relu (s)
            y = MatMul (r, w)
        }""",
        table=normal(9, 6),
        places=normal(5, 6),
        w=normal(6, 3),
    )
    groups, hard = assert_cuts(model)
    assert [group.size for group in groups] == [6]
    assert shape_of(hard, "table")[0][1] == shape_of(hard, "places")[0][1] < 6


def test_group_normalization_loses_whole_groups():
    norm = "m = GroupNormalization <num_groups = 3> (h, g, k)"
    model = conv_pair(norm, 21, g=normal(6), k=normal(6))
    groups, hard = assert_cuts(model)
    assert groups.groups[0].size == 3
    kept = shape_of(hard, "w")[0][0]
    assert {attr.name: attr.i for attr in hard.graph.node[1].attribute}["num_groups"] == kept // 2


def test_weights_that_several_read_are_cut_for_each():
    model = net(
        """(float[2, 4] x) => (float[a, b] y) {
            a = MatMul (x, w)
            r = Relu (a)
            b = MatMul (r, w)
            s = Tanh (b)
            y = MatMul (s, w)
        }""",
        w=normal(4, 4),
    )
    groups, hard = assert_cuts(model)
    assert [group.size for group in groups] == [4, 4]
    assert len({init.name for init in hard.graph.initializer}) == 3


def test_protected_names_stay():
    model = conv_pair("m = Relu(h)")
    for name in ("h", "n0", "n2", "w", "v"):
        assert sizes(model, protect=[name]) == {}
        assert "protected" in reasons(model, protect=[name])
    assert sizes(model, protect=["somebody else"]) == {"h": 6}


def test_old_operator_sets_are_left_alone():
    model = conv_pair("m = Relu(h)", 8)
    assert sizes(model) == {}
    assert "operator set 8 is older than 9" in reasons(model)


def test_names_have_to_be_told_apart():
    model = io.from_proto(conv_pair("m = Relu(h)"))
    model.graph[1].name = "n0"
    with pytest.raises(ValueError, match="node n0"):
        find_groups(model)


@pytest.mark.parametrize(
    ("keep", "word"),
    [
        ({"nobody": [True]}, "no group"),
        ({"h": [True] * 5}, "has 6 channels, its mask 5"),
        ({"h": [False] * 6}, "nothing would be left"),
    ],
)
def test_masks_that_do_not_fit_are_refused(keep, word):
    model = io.from_proto(conv_pair("m = Relu(h)"))
    groups = find_groups(model)
    for take in (mask, remove):
        with pytest.raises(OnnxOptError, match=word):
            take(model, groups, {name: np.array(kept) for name, kept in keep.items()})


def test_groups_that_are_not_named_stay_whole():
    model = conv_pair("m = Relu(h)")
    soft, hard, _ = pruned(model, {})
    for made in (soft, hard):
        assert_alike(model, made, feeds_of(model), 0)
        assert len(made.graph.initializer) == len(model.graph.initializer)
