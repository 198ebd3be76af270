from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.errors import DataError, OutputError
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.statistics import SCHEMA, Statistics

RNG = np.random.default_rng(0)


def taken(*, samples=2, names=("a", "b/ü", ""), model="f" * 64):
    observers = {}
    for place, name in enumerate(names):
        observer = Observer(histogram=place != 1, axis=1 if place % 2 else None)
        for sample in range(samples):
            observer.see(RNG.normal(size=(2, 3 + place, 4)).astype(np.float32), sample)
        observers[name] = observer
    return Statistics(model=model, samples=samples, observers=observers)


def states(statistics):
    return {
        name: {key: value.tolist() for key, value in observer.state().items()}
        for name, observer in statistics.observers.items()
    }


@settings(max_examples=20)
@given(names=st.lists(st.text(st.characters(codec="utf-8")), unique=True, max_size=5))
def test_what_is_saved_is_loaded(names, tmp_path_factory):
    path = tmp_path_factory.mktemp("statistics") / "kept.npz"
    statistics = taken(names=names)
    statistics.save(path)
    again = Statistics.load(path)
    assert (again.model, again.samples) == (statistics.model, 2)
    assert list(again.observers) == names
    assert states(again) == states(statistics)
    again.merge(taken(names=names))
    assert again.samples == 4


def test_a_file_is_small_and_its_name_is_the_one_asked_for(tmp_path):
    path = tmp_path / "statistics"
    statistics = taken(names=[str(number) for number in range(50)])
    statistics.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["statistics"]
    assert path.stat().st_size < 200_000
    assert states(Statistics.load(path)) == states(statistics)


def test_workers_are_merged():
    one, other = taken(), taken()
    del one.observers["a"]
    alone = states(other)
    one.merge(other)
    assert one.samples == 4
    assert states(one)["a"] == alone["a"]
    assert one.observers["b/ü"].count == 2 * other.observers["b/ü"].count
    one.observers["a"].see(np.ones(3, np.float32))
    assert states(other) == alone


def test_another_model_is_refused():
    with pytest.raises(DataError, match="another model"):
        taken().merge(taken(model="0" * 64))


def test_the_first_tensor_with_nan_is_named():
    statistics = taken()
    statistics.check_finite()
    for name in ("b/ü", ""):
        bad = np.full((1, 4 if name else 5), np.nan, np.float32)
        statistics.observers[name].see(bad, sample=7)
    with pytest.raises(DataError, match=r"'b/ü' holds NaN in sample 7 \(and 1 other tensor\)"):
        statistics.check_finite()


def test_constant_and_unseen_tensors_are_listed():
    statistics = taken(names=["a"])
    statistics.observers["still"] = Observer()
    statistics.observers["still"].see(np.full(3, 2.5, np.float32))
    statistics.observers["never"] = Observer()
    assert statistics.constant() == ["still"]
    assert statistics.unseen(["a", "never", "other"]) == ["never", "other"]


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def header(**others):
    words = {"schema": SCHEMA, "model": "f", "samples": 1, "tensors": ["x"], **others}
    return np.frombuffer(json.dumps(words).encode(), np.uint8)


def test_other_files_are_refused(tmp_path):
    text = tmp_path / "text.npz"
    text.write_text("no archive")
    data = write(tmp_path / "data.npz", image=np.zeros(3))
    plain = tmp_path / "plain.npy"
    np.save(plain, np.zeros(3))
    pickled = write(tmp_path / "pickled.npz", header=np.array([{}], object))
    hollow = write(tmp_path / "hollow.npz", header=header())
    short = write(
        tmp_path / "short.npz",
        header=header(),
        **{"low": np.zeros(1), "low.size": np.array([-1]), "low.tensor": np.array([4])},
    )
    empty = tmp_path / "empty.npz"
    empty.touch()
    for path in (text, data, plain, pickled, hollow, short, empty):
        with pytest.raises(DataError, match="holds no statistics"):
            Statistics.load(path)


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    path = tmp_path / "whole.npz"
    taken().save(path)
    whole = path.read_bytes()
    cut = tmp_path / "cut.npz"
    for length in (10, len(whole) // 2, len(whole) - 1):
        cut.write_bytes(whole[:length])
        with pytest.raises(DataError):
            Statistics.load(cut)
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 255
    cut.write_bytes(damaged)
    with pytest.raises(DataError):
        Statistics.load(cut)


def test_a_later_version_is_told_by_name(tmp_path):
    path = write(tmp_path / "later.npz", header=header(schema="onnxopt.statistics/9"))
    with pytest.raises(DataError, match=r"onnxopt\.statistics/9"):
        Statistics.load(path)


def test_places_that_cannot_be(tmp_path):
    with pytest.raises(DataError, match="cannot read"):
        Statistics.load(tmp_path / "absent.npz")
    with pytest.raises(OutputError, match="cannot write"):
        taken().save(tmp_path / "no" / "folder.npz")
