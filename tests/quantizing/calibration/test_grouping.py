import numpy as np
import pytest

from onnxopt.errors import OnnxOptError
from onnxopt.quantizing.calibration import grouping
from onnxopt.quantizing.calibration.grouping import Gauge
from tests.passes.graphs import info, model_of, node
from tests.quantizing.calibration.exposing import FREE, INNER, convolutional, loaded

OWN = 1000


def allowing(room):
    """Return how much memory has to be allowed so that there is so much room; a tenth is spare."""
    return -(-(OWN + room) * 10 // 9)


SMALL, LARGE = (
    {"x": np.zeros((1, 3, size, size), np.float32)} for size in (4, 8)
)  # a, b, c and d have 8 channels: 512 and 2048 bytes each


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """Let this process hold a known number of bytes."""
    monkeypatch.setattr(grouping, "rss_bytes", lambda: OWN)


def gauge_of(proto, names, max_memory, counts=None):
    """Make a gauge that remembers which samples it measured."""
    measured = []

    def measure(feed):
        measured.append(feed)
        gauge.own(OWN)
        return counts(feed)

    gauge = Gauge(loaded(proto), names, max_memory=max_memory, measure=measure)
    return gauge, measured


def four(feed):
    return dict.fromkeys("abcd", feed["x"].size // 3 * 8)


def test_where_there_is_plenty_nothing_is_measured():
    gauge, measured = gauge_of(convolutional(dims=["n", 3, 4, 4]), INNER, 1 << 20)
    fit = gauge.fit(INNER, SMALL)
    assert (fit.count, fit.overlap, fit.arena) == (len(INNER), True, True)
    assert not measured


@pytest.mark.parametrize(
    ("room", "count", "overlap", "arena"),
    [(8192, 4, True, True), (4096, 4, True, False), (2048, 4, False, False),
     (2040, 3, False, False), (1024, 2, False, False), (600, 1, False, False)],
)  # fmt: skip
def test_what_fits_beside_the_session_goes_at_once(room, count, overlap, arena):
    gauge, measured = gauge_of(convolutional(), "abcd", allowing(room), four)
    fit = gauge.fit("abcd", SMALL)
    assert (fit.count, fit.overlap, fit.arena) == (count, overlap, arena)
    assert measured == [SMALL]


def test_one_tensor_that_does_not_fit_is_refused_with_what_it_needs():
    gauge, _ = gauge_of(convolutional(), "abcd", allowing(500), four)
    with pytest.raises(OnnxOptError, match="'a' has 512") as refusal:
        gauge.fit("abcd", SMALL)
    assert "--max-memory 1M" in refusal.value.hint


def test_only_a_larger_sample_is_measured_again():
    gauge, measured = gauge_of(convolutional(), "abcd", allowing(4096), four)
    assert gauge.fit("abcd", SMALL).count == 4
    assert gauge.fit("abcd", SMALL).count == 4
    assert gauge.fit("abcd", LARGE).count == 2
    assert gauge.fit("ab", SMALL).count == 2
    assert measured == [SMALL, LARGE]


def unforeseeable():
    """NonZero: its size depends on the data."""
    nodes = [node("NonZero", ["x"], "a"), node("Cast", ["a"], "b", to=1)]
    return model_of(nodes, [info("x", FREE)], [info("b", None)])


def test_what_shapes_do_not_tell_is_measured_and_grows_by_its_square_at_most():
    gauge, measured = gauge_of(
        unforeseeable(), ["b"], allowing(100_000), lambda feed: {"b": feed["x"].size}
    )
    assert gauge.fit(["b"], SMALL).arena
    twice = {"x": np.zeros((2, 3, 4, 4), np.float32)}
    assert gauge.fit(["b"], twice).arena
    assert measured == [SMALL]
    gauge.fit(["b"], {"x": np.zeros((100, 3, 4, 4), np.float32)})
    assert len(measured) == 2


def test_what_was_found_larger_than_foreseen_counts():
    gauge, measured = gauge_of(convolutional(), "abcd", allowing(2048), four)
    assert gauge.fit("abcd", SMALL).count == 4
    gauge.learn({"b": 1500})
    assert gauge.fit("abcd", SMALL).count == 2
    assert measured == [SMALL]
