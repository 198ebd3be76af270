"""Outlying channels are written twice where that is exact and pays, and nowhere else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.graph import io
from onnxopt.quantizing.repair.split import best_parts, split_outliers
from onnxopt.quantizing.weights.scales import widest_scales
from tests.quantizing.repair.nets import assert_same, feeds_of, net, normal


def split(model, **options):
    held = io.from_proto(model)
    done = split_outliers(held, **{"share": 0.5, "multiple": 2, "worth": 0.1, **options})
    return io.to_proto(held), done


def outlying(*shape, axis=1):
    """Weights of which those of one channel are large."""
    weight = normal(*shape)
    np.moveaxis(weight, axis, 0)[1] *= 20
    return weight


def sizes(model):
    return {init.name: tuple(init.dims) for init in model.graph.initializer}


def test_a_channel_between_two_convs_is_split():
    model = net(
        """(float[2, 3, 5, 5] x) => (float[2, 6, 5, 5] y)
        { a = Conv<pads=[1, 1, 1, 1]>(x, w, b)
          c = Relu(a)
          y = Conv(c, v) }""",
        w=normal(4, 3, 3, 3),
        b=normal(4),
        v=outlying(6, 4, 1, 1),
    )
    after, done = split(model)
    assert done == {"split: streams": 1, "split: channels": 2}
    assert_same(model, after, feeds_of(model))
    assert sorted(sizes(after).values()) == [(6,), (6, 3, 3, 3), (6, 6, 1, 1)]


def test_copies_go_through_clamps_depthwise_convs_and_sums():
    model = net(
        """(float[2, 3, 5, 5] x) => (float[2, 6, 3, 3] y)
        { a = Conv(x, w, b)
          c = HardSwish(a)
          d = Conv<group=4, pads=[1, 1, 1, 1]>(c, deep, e)
          s = Add(c, d)
          p = Conv(s, square)
          t = Add(s, p)
          m = Mul(t, factor)
          q = MaxPool<kernel_shape=[3, 3]>(m)
          y = Conv(q, v) }""",
        w=normal(4, 3, 1, 1), b=normal(4), deep=normal(4, 1, 3, 3), e=normal(4),
        square=outlying(4, 4, 1, 1), factor=normal(4, 1, 1), v=outlying(6, 4, 1, 1),
    )  # fmt: skip
    after, done = split(model)
    assert done == {"split: streams": 1, "split: channels": 2}
    assert_same(model, after, feeds_of(model))


@pytest.mark.parametrize("trans", [0, 1])
def test_matrix_products_are_split(trans):
    weight = outlying(6, 4)
    model = net(
        f"""(float[2, 3] x) => (float[2, 6] y)
        {{ a = MatMul(x, w)
           c = Tanh(a)
           y = Gemm<transB={trans}>(c, v, b) }}""",
        w=normal(3, 4),
        v=weight if trans else weight.T.copy(),
        b=normal(6),
    )
    after, done = split(model)
    assert done["split: channels"] == 2
    assert_same(model, after, feeds_of(model))


@pytest.mark.parametrize(
    "between",
    [
        "c = LayerNormalization(a, scale)",
        "c = Softmax(a)",
        "t = Reshape(a, shape) c = Relu(t)",
    ],
)
def test_what_knows_the_number_of_channels_is_left_alone(between):
    model = net(
        f"""(float[2, 3] x) => (float[2, 6] y)
        {{ a = MatMul(x, w) {between} y = MatMul(c, v) }}""",
        w=normal(3, 4),
        v=outlying(4, 6, axis=0),
        scale=normal(4),
        shape=np.array([2, 4]),
    )
    after, done = split(model)
    assert not done
    assert_same(model, after, feeds_of(model))


def test_what_a_graph_hands_out_keeps_its_channels():
    model = net(
        """(float[2, 3] x) => (float[2, 6] y, float[2, 4] a)
        { a = MatMul(x, w) y = MatMul(a, v) }""",
        w=normal(3, 4),
        v=outlying(4, 6, axis=0),
    )
    assert not split(model)[1]


def test_a_tensor_of_one_channel_for_all_is_no_trouble():
    model = net(
        """(float[2, 3, 5, 5] x, float[2, 1, 5, 5] mask) => (float[2, 6, 5, 5] y)
        { a = Conv(x, w) c = Mul(a, mask) y = Conv(c, v) }""",
        w=normal(4, 3, 1, 1),
        v=outlying(6, 4, 1, 1),
    )
    after, _ = split(model)
    assert_same(model, after, feeds_of(model))


def test_weights_without_outliers_are_not_worth_it():
    model = net(
        """(float[2, 3] x) => (float[2, 6] y)
        { a = MatMul(x, w) c = Relu(a) y = MatMul(c, v) }""",
        w=normal(3, 40),
        v=np.sign(normal(40, 6)),
    )
    assert not split(model, share=0.1)[1]


def test_small_layers_do_not_grow_by_more_than_their_share():
    model = net(
        """(float[2, 3] x) => (float[2, 6] y)
        { a = MatMul(x, w) c = Relu(a) y = MatMul(c, v) }""",
        w=normal(3, 40),
        v=outlying(40, 6, axis=0),
    )
    assert not split(model, share=0.1, multiple=8)[1]
    assert split(model, share=0.2, multiple=8)[1]["split: channels"] == 8


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 999), st.integers(1, 6))
def test_what_is_gained_is_foreseen(seed, count):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(200, 30)).astype(np.float32)
    rows[:, rng.integers(0, 30, 3)] *= rng.uniform(1, 8, 3).astype(np.float32)
    parts, gained = best_parts([rows[:, :, None]], count)
    assert parts.sum() == 30 + count
    before = sqnr(rows, np.ones(30, int), rounded)
    halves = np.repeat(rows / parts, parts, axis=1)
    nearest_of_all, handed_on = (sqnr(halves, parts, way) - before for way in (rounded, diffused))
    assert nearest_of_all - 0.7 < gained < handed_on + 0.7


def rounded(rows, parts):
    return np.rint(rows)


def diffused(rows, parts):
    """Round so that the copies of a channel make up for each other."""
    made, left = np.empty_like(rows), np.zeros(len(rows))
    starts = set((np.cumsum(parts) - parts).tolist())
    for column in range(rows.shape[1]):
        left = rows[:, column] + (0 if column in starts else left)
        made[:, column] = np.rint(left)
        left = left - made[:, column]
    return made


def sqnr(rows, parts, way):
    """SQNR of all rows together, by the errors of the sums of parts that meet one input."""
    steps = widest_scales(rows)[:, None]
    start = np.cumsum(parts) - parts
    whole = np.add.reduceat(rows, start, axis=1)
    lost = np.add.reduceat(rows - way(rows / steps, parts) * steps, start, axis=1)
    return 10 * np.log10(np.square(whole).sum() / np.square(lost).sum())
