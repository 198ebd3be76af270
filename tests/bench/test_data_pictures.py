"""Pruning is judged by photographs that calibration never saw, read out of packages."""

import io
import struct
import zlib

import data_make
import data_pictures
import data_resources
import data_sources
import data_store
import numpy as np
import pruning_plan
import pytest
from PIL import Image


def test_each_photograph_is_listed_once_and_has_a_source():
    assert 60 <= len(data_pictures.PHOTOGRAPHS) == len(set(data_pictures.PHOTOGRAPHS))
    assert {source for source, _ in data_pictures.PHOTOGRAPHS} <= data_sources.SOURCES.keys()


def test_each_photograph_is_judged_by_in_one_fold_and_calibrates_the_others():
    everything = set(range(len(data_pictures.PHOTOGRAPHS)))
    judged = []
    for split in range(data_pictures.FOLDS):
        known, unknown = data_pictures.fold(split)
        assert set(known) == everything - set(unknown)
        assert known != sorted(known)
        judged += unknown
    assert len(judged) == len(everything) == len(set(judged))


def test_the_plan_asks_for_what_is_made():
    assert data_make.MODULES[pruning_plan.PHOTOGRAPHS] == "data_pictures"
    assert data_pictures.TASK == pruning_plan.PHOTOGRAPHS
    exams = {t.task.exam for t in pruning_plan.TRIALS.values() if t.part == "photographs"}
    assert exams == {data_pictures.TASK}


def test_crops_of_one_photograph_stand_together(tmp_path, monkeypatch):
    monkeypatch.setattr(data_store, "DATA", tmp_path)
    monkeypatch.setattr(data_pictures, "OTHER", 80)
    monkeypatch.setattr(data_pictures, "CALIBRATION", 3)
    monkeypatch.setattr(data_pictures, "FOLDS", 2)
    monkeypatch.setattr(
        data_pictures, "photograph", lambda which: Image.new("RGB", (240, 200), (which, 0, 0))
    )
    data_pictures.make(quick=False)
    assert data_store.splits(data_pictures.TASK) == ["0", "1"]
    assert data_store.parts(data_pictures.TASK, "1") == ["other"]
    truths = data_store.truths(data_store.folder_of(data_pictures.TASK, "1", "other"))
    _, unknown = data_pictures.fold(1)
    shown = [data_pictures.PHOTOGRAPHS[which][1] for which in unknown]
    assert list(dict.fromkeys(truths)) == shown
    assert truths == sorted(truths, key=shown.index)


def test_photographs_of_a_debian_package_are_found_in_resources(monkeypatch):
    where = next(member for source, member in data_pictures.PHOTOGRAPHS if source == "gcompris")
    stored = io.BytesIO()
    Image.new("RGB", (2048, 400), (9, 8, 7)).save(stored, "PNG")
    packed = resources(where, stored.getvalue())
    found = [("./usr/share/other.txt", b"text"), ("./usr/share/animals.rcc", packed)]
    monkeypatch.setattr(data_sources, "read_deb", lambda _: iter(found))
    data_pictures.contents.cache_clear()
    data_pictures.photograph.cache_clear()
    image = data_pictures.photograph(data_pictures.PHOTOGRAPHS.index(("gcompris", where)))
    assert image.size == (1024, 200)
    assert np.asarray(image)[0, 0].tolist() == [9, 8, 7]
    data_pictures.contents.cache_clear()
    data_pictures.photograph.cache_clear()


def resources(path, content, *, flags=0):
    """Write one file below its folders as Qt's compiler does, in version 3."""
    steps = path.split("/")
    labels, names, tree = [0], b"", struct.pack(">IHIIQ", 0, 2, 1, 1, 0)
    for step in steps:
        labels.append(len(names))
        names += struct.pack(">HI", len(step), 0) + step.encode("utf-16-be")
    for place, label in enumerate(labels[1:-1], 1):
        tree += struct.pack(">IHIIQ", label, 2, 1, place + 1, 0)
    tree += struct.pack(">IHHHIQ", labels[-1], flags, 0, 0, 0, 0)
    data = struct.pack(">I", len(content)) + content
    start = 24
    offsets = (start, start + len(tree), start + len(tree) + len(data))
    return b"qres" + struct.pack(">5I", 3, *offsets, flags) + tree + data + names


@pytest.mark.parametrize("path", ["one.txt", "a/b c/größe.webp"])
def test_resources_are_read_plain_and_compressed(path):
    plain = b"content " * 9
    packed = struct.pack(">I", len(plain)) + zlib.compress(plain)
    assert list(data_resources.files(resources(path, plain))) == [(path, plain)]
    assert list(data_resources.files(resources(path, packed, flags=1))) == [(path, plain)]


@pytest.mark.parametrize("content", [b"PK\x03\x04", resources("a", b"", flags=4)])
def test_what_cannot_be_read_is_told(content):
    with pytest.raises(ValueError, match=r"no resources of Qt|Zstandard"):
        list(data_resources.files(content))
