"""Feeds on their way to another process."""

import ml_dtypes
import numpy as np

from onnxopt.benchmarking.child.feedfile import describe_feed, load_feed, save_feed


def test_every_kind_of_input_comes_through(tmp_path):
    feed = {
        "x": np.arange(6, dtype=np.float32).reshape(2, 3),
        "scalar": np.array(7),
        "flags": np.array([True, False]),
        "words": np.array([["a", "Ünï"], ["", "longer"]], object),
        "half": np.array([1.5, 2], ml_dtypes.bfloat16),
        "nibbles": np.array([-8, 7], ml_dtypes.int4),
        "list": [np.zeros(2), np.ones((3, 1))],
        "empty": [],
        "odd/name:0": np.zeros(1),
    }
    path = tmp_path / "feed.npz"
    save_feed(path, feed)
    found = load_feed(path)
    assert list(found) == list(feed)
    for name, value in feed.items():
        for want, got in zip(_parts(value), _parts(found[name]), strict=True):
            assert got.dtype == want.dtype
            assert np.array_equal(got, want)


def _parts(value):
    return value if isinstance(value, list) else [value]


def test_feeds_are_described_for_people():
    feed = {"x": np.zeros((1, 3), np.float32), "s": np.array(["a"], object), "l": [np.zeros(2)]}
    assert describe_feed(feed) == {
        "x": "float32[1,3]",
        "s": "string[1]",
        "l": "sequence of 1 × float64[2]",
    }
