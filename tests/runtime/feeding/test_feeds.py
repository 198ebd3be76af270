"""Inputs that a model runs with, made from nothing but the model."""

import numpy as np
import pytest
from onnx import TensorProto, helper

from onnxopt.errors import DataError
from onnxopt.graph._onnx_ir import ir
from onnxopt.runtime.feeding.feeds import make_feeds
from onnxopt.runtime.sessions.engine import open_engine

FLOAT, INT64, BOOL, STRING = (
    TensorProto.FLOAT,
    TensorProto.INT64,
    TensorProto.BOOL,
    TensorProto.STRING,
)


@pytest.fixture
def feeds_of():
    """Give the function that makes feeds with which a model really runs."""

    def make(model, **options):
        engine = open_engine(model.SerializeToString())
        return make_feeds(ir.serde.deserialize_model(model), runs=engine.run, **options)

    return make


def _passing(build, name, type_, shape, **options):
    return build(
        [helper.make_node("Identity", [name], ["y"])],
        [(name, type_, shape)],
        [("y", type_, None)],
        **options,
    )


def test_the_same_seed_gives_the_same_feeds(dense, feeds_of):
    one, two, other = feeds_of(dense), feeds_of(dense), feeds_of(dense, seed=1)
    assert all(np.array_equal(a["x"], b["x"]) for a, b in zip(one, two, strict=True))
    assert not np.array_equal(one[0]["x"], other[0]["x"])


def test_feeds_differ_in_size_where_the_model_allows_it(dense, feeds_of):
    assert [feed["x"].shape for feed in feeds_of(dense)] == [(1, 8), (2, 8), (1, 8)]
    assert len(feeds_of(dense, count=5)) == 5


def test_one_name_is_one_size_in_all_inputs(build, feeds_of):
    model = build(
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [("a", FLOAT, ["batch", "length"]), ("b", FLOAT, ["batch", "length"])],
        [("y", FLOAT, None)],
    )
    for feed in feeds_of(model):
        assert feed["a"].shape == feed["b"].shape


def test_sizes_are_tried_until_the_model_runs(build, feeds_of):
    """A classifier whose Gemm only fits pictures of 28 × 28."""
    model = build(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["y"]),
        ],
        [("x", FLOAT, ["n", 1, "h", "w_"])],
        [("y", FLOAT, None)],
        [("w", np.zeros((28 * 28, 3), np.float32))],
    )
    assert [feed["x"].shape[2:] for feed in feeds_of(model)] == [(28, 28)] * 3


def test_a_size_that_the_user_fixes_is_kept(build, feeds_of):
    model = _passing(build, "x", FLOAT, ["batch", "length"])
    assert {feed["x"].shape for feed in feeds_of(model, fix={"batch": 3, "x:1": 6})} == {(3, 6)}


def test_indices_stay_inside_the_table(build, feeds_of):
    model = build(
        [helper.make_node("Gather", ["table", "ids"], ["y"])],
        [("ids", INT64, ["batch", "length"])],
        [("y", FLOAT, None)],
        [("table", np.zeros((5, 2), np.float32))],
    )
    drawn = np.concatenate([feed["ids"].reshape(-1) for feed in feeds_of(model)])
    assert set(drawn) <= set(range(5))
    assert len(set(drawn)) > 2


def test_masks_are_ones_with_a_tail_of_zeros(build, feeds_of):
    model = _passing(build, "attention_mask", INT64, ["batch", "length"])
    for feed in feeds_of(model):
        mask = feed["attention_mask"]
        assert set(np.unique(mask)) <= {0, 1}
        assert (mask[:, 0] == 1).all()
        assert (np.diff(mask, axis=1) <= 0).all()


def test_positions_count_up(build, feeds_of):
    model = _passing(build, "position_ids", INT64, ["batch", "length"])
    positions = feeds_of(model)[0]["position_ids"]
    assert positions[0].tolist() == list(range(positions.shape[1]))


def test_a_value_that_branches_are_chosen_by_takes_each_branch(build, feeds_of):
    model = build(
        [helper.make_node("Equal", ["sr", "wanted"], ["y"])],
        [("sr", INT64, [])],
        [("y", BOOL, [])],
        [("wanted", np.array(16000))],
    )
    rates = [int(feed["sr"]) for feed in feeds_of(model)]
    assert rates[0] == 16000
    assert any(rate != 16000 for rate in rates)


@pytest.mark.parametrize("shape", [["n", 3, "h", "w"], ["n", "h", "w", 3]])
def test_pictures_have_edges_and_both_signs(build, feeds_of, shape):
    picture = feeds_of(_passing(build, "x", FLOAT, shape))[0]["x"]
    assert picture.dtype == np.float32
    assert picture.min() < -1
    assert picture.max() > 1


@pytest.mark.parametrize(
    ("type_", "kind"),
    [
        (STRING, "O"),
        (BOOL, "b"),
        (TensorProto.FLOAT16, "f"),
        (TensorProto.DOUBLE, "f"),
        (TensorProto.UINT8, "u"),
        (TensorProto.INT32, "i"),
    ],
)
def test_every_type_can_be_fed(build, feeds_of, type_, kind):
    for feed in feeds_of(_passing(build, "x", type_, ["n", 4])):
        assert feed["x"].dtype.kind == kind


def test_a_rank_that_the_model_hides_is_found(build, feeds_of):
    model = build(
        [helper.make_node("Conv", ["x", "w"], ["y"])],
        [("x", FLOAT, None)],
        [("y", FLOAT, None)],
        [("w", np.zeros((2, 3, 1, 1), np.float32))],
    )
    assert feeds_of(model)[0]["x"].ndim == 4


def test_sequences_are_lists_of_arrays(build, feeds_of):
    type_ = helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, ["n", 2]))
    model = build(
        [helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=0)],
        [("s", type_, None)],
        [("y", FLOAT, None)],
    )
    assert [array.shape for array in feeds_of(model)[0]["s"]] == [(1, 2), (1, 2)]


def test_inputs_with_an_initializer_are_left_out(build, feeds_of):
    model = build(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        [("x", FLOAT, [2]), ("b", FLOAT, [2])],
        [("y", FLOAT, [2])],
        [("b", np.ones(2, np.float32))],
    )
    assert [list(feed) for feed in feeds_of(model)] == [["x"]] * 3


def test_where_nothing_runs_the_error_names_input_and_node(build, feeds_of):
    model = build(
        [helper.make_node("Reshape", ["x", "shape"], ["y"], name="into_primes")],
        [("x", FLOAT, ["n", 4])],
        [("y", FLOAT, None)],
        [("shape", np.array([7919]))],
    )
    with pytest.raises(DataError) as caught:
        feeds_of(model)
    assert "into_primes" in caught.value.message
    assert "x float32[1, 4]" in caught.value.message
    assert "--data" in caught.value.hint


def test_without_a_way_to_run_the_first_guess_is_given(dense):
    assert make_feeds(ir.serde.deserialize_model(dense))[0]["x"].shape == (1, 8)


def test_feeds_to_measure_with_are_of_a_size_that_people_use(build):
    model = ir.serde.deserialize_model(_passing(build, "x", INT64, ["batch", "sequence"]))
    (feed,) = make_feeds(model, count=1, purpose="measure")
    assert feed["x"].shape == (1, 128)


def test_the_users_samples_are_taken_as_they_come(dense, tmp_path):
    path = tmp_path / "samples.npz"
    np.savez(path, x=np.arange(32, dtype=np.float32).reshape(4, 8))
    model = ir.serde.deserialize_model(dense)
    assert len(make_feeds(model, data=path)) == 4
    (feed,) = make_feeds(model, data=path, count=1)
    assert feed["x"].tolist() == [list(range(8))]


def test_a_decoder_with_a_cache_gets_lengths_that_add_up(build, feeds_of):
    model = build(
        [
            helper.make_node("Concat", ["past_key", "key"], ["keys"], axis=1),
            helper.make_node("Mul", ["keys", "attention_mask"], ["y"]),
        ],
        [
            ("key", FLOAT, ["batch", "length"]),
            ("past_key", FLOAT, ["batch", "past_length"]),
            ("attention_mask", FLOAT, ["batch", "past_length + length"]),
        ],
        [("y", FLOAT, None)],
    )
    for feed in feeds_of(model):
        assert feed["attention_mask"].shape[1] == feed["key"].shape[1] + feed["past_key"].shape[1]


def test_lengths_of_sequences_are_those_of_the_feed(build, feeds_of):
    model = build(
        [helper.make_node("GRU", ["x", "w", "r", "", "lengths"], ["y"], hidden_size=2)],
        [("x", FLOAT, ["frames", "n", 3]), ("lengths", TensorProto.INT32, ["n"])],
        [("y", FLOAT, None)],
        [("w", np.zeros((1, 6, 3), np.float32)), ("r", np.zeros((1, 6, 2), np.float32))],
    )
    for feed in feeds_of(model):
        assert (feed["lengths"] == feed["x"].shape[0]).all()


def test_a_detectors_side_inputs_fit_the_picture(build):
    model = build(
        [helper.make_node("Identity", ["image"], ["y"])],
        [
            ("image", FLOAT, ["n", 3, "h", "w"]),
            ("im_shape", FLOAT, ["n", 2]),
            ("scale_factor", FLOAT, ["n", 2]),
        ],
        [("y", FLOAT, None)],
    )
    feed = make_feeds(ir.serde.deserialize_model(model))[0]
    assert tuple(feed["im_shape"][0]) == feed["image"].shape[2:]
    assert feed["scale_factor"].tolist() == [[1, 1]]
