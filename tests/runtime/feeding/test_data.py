"""Samples that users give, in all four forms, and what is said where they do not fit."""

import numpy as np
import pytest
from onnx import numpy_helper

from onnxopt.errors import DataError
from onnxopt.runtime.feeding.data import load_data
from onnxopt.runtime.feeding.inputs import Input

FLOAT32, INT64 = np.dtype(np.float32), np.dtype(np.int64)
IMAGE = Input(name="image", kind="tensor", dtype=FLOAT32, dims=("batch", 3, "h", "w"))
STATE = Input(name="state", kind="tensor", dtype=FLOAT32, dims=(2, "batch", 4))
RATE = Input(name="rate", kind="tensor", dtype=INT64, dims=())


def _zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def test_an_archive_is_cut_along_its_first_axis(tmp_path):
    np.savez(tmp_path / "a.npz", image=_zeros(5, 3, 8, 6))
    feeds = list(load_data(tmp_path / "a.npz", [IMAGE]))
    assert [feed["image"].shape for feed in feeds] == [(1, 3, 8, 6)] * 5


def test_inputs_without_a_leading_batch_are_stacked(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        image=_zeros(2, 3, 8, 6),
        state=_zeros(2, 2, 1, 4),
        rate=np.array([16000, 8000]),
    )
    feeds = list(load_data(tmp_path / "a.npz", [IMAGE, STATE, RATE]))
    assert [feed["state"].shape for feed in feeds] == [(2, 1, 4)] * 2
    assert [int(feed["rate"]) for feed in feeds] == [16000, 8000]


def test_a_scalar_is_shared_by_all_samples(tmp_path):
    np.savez(tmp_path / "a.npz", image=_zeros(2, 3, 8, 6), rate=np.array(8000))
    assert [int(feed["rate"]) for feed in load_data(tmp_path / "a.npz", [IMAGE, RATE])] == [
        8000
    ] * 2


def test_a_fixed_batch_takes_that_many_samples_at_a_time(tmp_path):
    fixed = Input(name="image", kind="tensor", dtype=FLOAT32, dims=(2, 3, 8, 6))
    np.savez(tmp_path / "a.npz", image=_zeros(6, 3, 8, 6))
    assert len(list(load_data(tmp_path / "a.npz", [fixed]))) == 3


def test_a_folder_of_archives_holds_one_feed_each(tmp_path):
    for index, size in enumerate((8, 16)):
        np.savez(tmp_path / f"{index}.npz", image=_zeros(2, 3, size, size))
    shapes = [feed["image"].shape for feed in load_data(tmp_path, [IMAGE])]
    assert shapes == [(2, 3, 8, 8), (2, 3, 16, 16)]


def _save_pb(path, array, name=""):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(numpy_helper.from_array(array, name).SerializeToString())


def test_test_data_sets_of_onnx_are_read_in_order(tmp_path):
    for number in (10, 2):
        _save_pb(tmp_path / f"test_data_set_{number}/input_0.pb", _zeros(number, 3, 4, 4))
        _save_pb(tmp_path / f"test_data_set_{number}/input_1.pb", np.array(7))
    feeds = list(load_data(tmp_path, [IMAGE, RATE]))
    assert [feed["image"].shape[0] for feed in feeds] == [2, 10]
    assert int(feeds[0]["rate"]) == 7


def test_names_inside_a_test_data_set_win_over_the_order(tmp_path):
    _save_pb(tmp_path / "test_data_set_0/input_0.pb", np.array(7), "rate")
    _save_pb(tmp_path / "test_data_set_0/input_1.pb", _zeros(1, 3, 4, 4), "image")
    (feed,) = load_data(tmp_path, [IMAGE, RATE])
    assert feed["image"].shape == (1, 3, 4, 4)


def test_a_sequence_is_read_from_its_own_message(tmp_path):
    spec = Input(name="s", kind="sequence", dtype=FLOAT32, dims=("n",))
    folder = tmp_path / "test_data_set_0"
    folder.mkdir()
    proto = numpy_helper.from_list([_zeros(2), _zeros(3)], "s")
    (folder / "input_0.pb").write_bytes(proto.SerializeToString())
    (feed,) = load_data(tmp_path, [spec])
    assert [array.shape for array in feed["s"]] == [(2,), (3,)]


def test_a_function_yields_feeds(tmp_path):
    script = tmp_path / "samples.py"
    script.write_text(
        "import numpy as np\n"
        "def few():\n"
        "    for size in (4, 8):\n"
        "        yield {'image': np.zeros((1, 3, size, size), np.float32), 'rate': 16000}\n"
    )
    feeds = list(load_data(f"{script}:few", [IMAGE, RATE]))
    assert [feed["image"].shape[2] for feed in feeds] == [4, 8]
    assert feeds[0]["rate"].dtype == INT64


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", image=np.array([{"evil": 1}], object))
    with pytest.raises(DataError, match="Python objects"):
        list(load_data(tmp_path / "a.npz", [IMAGE]))


def test_narrower_integers_are_widened_but_floats_are_not_cut(tmp_path):
    np.savez(tmp_path / "a.npz", rate=np.array([1], np.int32))
    (feed,) = load_data(tmp_path / "a.npz", [RATE])
    assert feed["rate"].dtype == INT64
    np.savez(tmp_path / "b.npz", image=_zeros(1, 3, 4, 4, dtype=np.float64))
    with pytest.raises(DataError) as caught:
        list(load_data(tmp_path / "b.npz", [IMAGE]))
    assert "'image' wants float32[batch,3,h,w], came float64[1, 3, 4, 4]" in caught.value.message
    assert "b.npz, sample 0" in caught.value.message


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"image": _zeros(1, 4, 4, 4)}, "wants float32[batch,3,h,w], came float32[1, 4, 4, 4]"),
        ({"image": _zeros(1, 3)}, "came float32[1, 3]"),
        ({"imge": _zeros(1, 3, 4, 4)}, "no input 'imge'"),
        ({}, "'image' is missing"),
        ({"image": _zeros(2, 3, 4, 4), "rate": np.zeros(3, int)}, "different numbers of samples"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, arrays, told):
    np.savez(tmp_path / "a.npz", **arrays)
    rate = Input(name="rate", kind="tensor", dtype=INT64, dims=(), required=False)
    with pytest.raises(DataError) as caught:
        list(load_data(tmp_path / "a.npz", [IMAGE, rate]))
    assert told in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.npz", None),
        ("broken.npz", b"no zip"),
        ("samples.csv", b"1,2"),
        ("broken.py:few", b"def few(:"),
        ("raises.py:few", b"def few():\n    raise KeyError('no')"),
        ("wrong.py:many", b"def few():\n    yield {}"),
        ("list.py:few", b"def few():\n    yield [1]"),
        ("none.py:few", b"def few():\n    return ()"),
    ],
)
def test_what_cannot_be_read_is_an_error_of_one_line(tmp_path, name, content):
    if content is not None:
        (tmp_path / name.split(":")[0]).write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(load_data(f"{tmp_path}/{name}", [IMAGE]))
    assert "\n" not in caught.value.message
    assert caught.value.hint


def test_an_empty_folder_and_a_broken_message_are_refused(tmp_path):
    with pytest.raises(DataError, match="neither"):
        list(load_data(tmp_path, [IMAGE]))
    (tmp_path / "test_data_set_0").mkdir()
    (tmp_path / "test_data_set_0/input_0.pb").write_bytes(b"\xff\xff\xff")
    with pytest.raises(DataError, match="cannot read"):
        list(load_data(tmp_path, [IMAGE]))


def test_more_inputs_than_the_model_has_are_refused(tmp_path):
    for number in range(2):
        _save_pb(tmp_path / f"test_data_set_0/input_{number}.pb", _zeros(1, 3, 4, 4))
    with pytest.raises(DataError, match="holds 2 inputs"):
        list(load_data(tmp_path, [IMAGE]))
