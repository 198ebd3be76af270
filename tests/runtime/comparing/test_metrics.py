"""How far two outputs are apart, and when that is too far."""

import math

import ml_dtypes
import numpy as np
import pytest

from onnxopt.runtime.comparing.metrics import Limits, Slack, Tally

WANT = np.array([[1.0, -10.0], [0.001, 5.0]], np.float32)


def _compare(want, got, slack=None, limits=None):
    tally = Tally("y", slack, limits)
    tally.see(want, got, "here")
    return tally.result()


def test_equal_outputs_are_infinitely_close():
    found = _compare(WANT, WANT.copy())
    assert found.passed
    assert (found.max_abs, found.max_rel, found.cosine) == (0, 0, 1)
    assert found.sqnr_db == math.inf


def test_the_worst_element_is_found_and_measured():
    got = WANT.copy()
    got[1, 1] = 5.5
    found = _compare(WANT, got)
    assert not found.passed
    assert found.worst_index == (1, 1)
    assert found.max_abs == 0.5
    assert found.max_rel == pytest.approx(0.1)
    signal = float(np.sum(WANT.astype(np.float64) ** 2))
    assert found.sqnr_db == pytest.approx(10 * math.log10(signal / 0.25))
    assert found.tolerance == pytest.approx(1e-5 * 10 + 1e-4 * 5)
    assert "[1, 1]" in found.reason
    assert "here" in found.reason


def test_rounding_passes():
    assert _compare(WANT, WANT * np.float32(1 + 5e-5)).passed
    assert not _compare(WANT, WANT * np.float32(1 + 5e-4)).passed


def test_the_references_own_noise_is_allowed():
    got = WANT + np.float32(0.01)
    assert not _compare(WANT, got).passed
    assert _compare(WANT, got, Slack(absolute=0.02)).passed


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_narrow_floats_are_held_to_their_own_precision(dtype):
    eps = float(ml_dtypes.finfo(dtype).eps)
    want = np.linspace(1, 2, 50).astype(dtype)
    assert _compare(want, (want.astype(np.float32) * (1 + 2 * eps)).astype(dtype)).passed
    assert not _compare(want, (want.astype(np.float32) * (1 + 60 * eps)).astype(dtype)).passed


def test_nan_and_infinity_must_match_in_place_and_sign():
    want = np.array([np.nan, np.inf, -np.inf, 1], np.float32)
    assert _compare(want, want.copy()).passed
    for index, other in ((0, 0), (1, -np.inf), (3, np.nan)):
        got = want.copy()
        got[index] = other
        found = _compare(want, got)
        assert not found.passed
        assert f"[{index}]" in found.reason


@pytest.mark.parametrize(
    "want",
    [np.array([1, 2, 3]), np.array([True, False, True]), np.array(["a", "b", "c"], object)],
)
def test_what_is_no_float_must_be_equal(want):
    assert _compare(want, want.copy()).passed
    assert not _compare(want, want[::-1].copy() if want.dtype != bool else ~want).passed


def test_ties_may_fall_as_often_as_the_reference_lets_them():
    want = np.arange(100)
    got = want.copy()
    got[7] = 8
    assert not _compare(want, got).passed
    assert _compare(want, got, Slack(fraction=0.02)).passed


@pytest.mark.parametrize(
    ("got", "told"),
    [
        (WANT.astype(np.float64), "float64 instead of float32"),
        (WANT[:1], "shape [1, 2] instead of [2, 2]"),
        ([WANT], "structure"),
        (None, "structure"),
    ],
)
def test_types_shapes_and_structures_must_match(got, told):
    found = _compare(WANT, got)
    assert not found.passed
    assert told in found.reason


def test_sequences_and_maps_are_walked():
    want = [{1: 0.25, 2: 0.75}, {1: 0.5, 2: 0.5}]
    assert _compare(want, [dict(row) for row in want]).passed
    assert not _compare(want, [{1: 0.25, 2: 0.7}, {1: 0.5, 2: 0.5}]).passed
    assert not _compare(want, want[:1]).passed
    assert _compare([WANT, WANT[0]], [WANT.copy(), WANT[0].copy()]).passed


def test_empty_outputs_are_equal():
    assert _compare(np.empty((0, 4), np.float32), np.empty((0, 4), np.float32)).passed
    assert _compare(None, None).passed


def test_limits_of_the_user_take_the_place_of_ours():
    got = WANT * np.float32(1.01)
    assert not _compare(WANT, got).passed
    assert _compare(WANT, got, limits=Limits(rtol=0.02)).passed
    assert not _compare(WANT, WANT * np.float32(1 + 5e-5), limits=Limits(atol=1e-9)).passed
    assert _compare(WANT, got, limits=Limits(min_sqnr=39)).passed
    found = _compare(WANT, got, limits=Limits(min_sqnr=41))
    assert not found.passed
    assert "SQNR is 40.0 dB" in found.reason


def test_everything_is_gathered_over_feeds():
    tally = Tally("y")
    tally.see(WANT, WANT.copy(), "one")
    tally.see(WANT, WANT + np.float32(1), "two")
    tally.see(WANT, WANT.copy(), "three")
    found = tally.result()
    assert found.max_abs == pytest.approx(1)
    assert "two" in found.reason


def test_relative_differences_of_what_is_tiny_elsewhere_do_not_count():
    tally = Tally("y", largest=100.0)
    tally.see(np.array([1e-7], np.float32), np.array([3e-7], np.float32), "here")
    assert tally.result().max_rel == 0
