from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxopt.quantizing.calibration import observers
from onnxopt.quantizing.calibration.histogram import Histogram, limit_above
from onnxopt.quantizing.calibration.observers import Observer

FINITE = st.floats(-(2.0**60), 2.0**60, width=32, allow_subnormal=False)
ARRAYS = arrays(np.float32, st.integers(0, 40), elements=FINITE)


def seen(*parts, **options):
    observer = Observer(**options)
    for part in parts:
        observer.see(part)
    return observer


def assert_same(one, other):
    """Counts and ranges are the same to the bit, sums as far as rounding lets them."""
    left, right = one.state(), other.state()
    assert left.keys() == right.keys()
    for name, value in left.items():
        if name in {"total", "squares", "channel_total"}:
            scale = float(np.sqrt(left["squares"] * max(int(left["count"]), 1)))
            floor = float(left["squares"]) if name == "squares" else scale
            np.testing.assert_allclose(value, right[name], rtol=1e-6, atol=1e-6 * floor)
        else:
            np.testing.assert_array_equal(value, right[name], err_msg=name)


def expected_counts(numbers, limit, bins):
    """Count in exact arithmetic: Python floats divide by powers of two without rounding."""
    counts = np.zeros(bins, np.int64)
    for number in numbers:
        if number:
            counts[math.floor(float(number) / (2 * limit / bins)) + bins // 2] += 1
    return counts


@given(st.lists(ARRAYS, max_size=6))
def test_seeing_in_parts_is_seeing_at_once_in_any_order(parts):
    whole = seen(np.concatenate([*parts, np.zeros(0, np.float32)]))
    assert_same(seen(*parts), whole)
    assert_same(seen(*reversed(parts)), whole)


@given(st.lists(ARRAYS, min_size=1, max_size=5), st.integers(0, 5))
def test_merging_is_seeing_at_once(parts, cut):
    left, right = seen(*parts[:cut]), seen(*parts[cut:])
    kept = right.state()
    left.merge(right)
    assert_same(left, seen(*parts))
    right_after = right.state()
    assert all(np.array_equal(kept[name], right_after[name]) for name in kept)


@given(ARRAYS, ARRAYS, ARRAYS)
def test_merging_is_associative(a, b, c):
    first, second = seen(a), seen(b)
    first.merge(seen(b))
    first.merge(seen(c))
    second.merge(seen(c))
    whole = seen(a)
    whole.merge(second)
    assert_same(first, whole)


@given(st.lists(ARRAYS, min_size=1, max_size=4))
def test_counts_are_those_of_exact_arithmetic(parts):
    observer = seen(*parts)
    numbers = np.concatenate(parts)
    histogram = observer.histogram
    assert observer.count == numbers.size
    assert observer.zeros == int((numbers == 0).sum())
    assert histogram.counts.sum() == observer.count - observer.zeros
    if numbers.any():
        largest = float(np.abs(numbers).max())
        assert histogram.limit == limit_above(largest) > largest
        wanted = expected_counts(numbers, histogram.limit, len(histogram.counts))
        np.testing.assert_array_equal(histogram.counts, wanted)
        assert (observer.low, observer.high) == (numbers.min(), numbers.max())
    else:
        assert histogram.limit == 0


@settings(max_examples=30)
@given(ARRAYS, st.integers(0, 200))
def test_growth_moves_each_number_to_the_bin_it_would_have_had(numbers, doublings):
    histogram = seen(numbers).histogram
    if histogram.limit:
        histogram.grow(histogram.limit * 2.0**doublings)
        wanted = expected_counts(numbers, histogram.limit, len(histogram.counts))
        np.testing.assert_array_equal(histogram.counts, wanted)


def test_blocks_make_no_difference(monkeypatch):
    numbers = np.random.default_rng(0).normal(size=10_001).astype(np.float32)
    numbers[::7] = 0
    whole = seen(numbers)
    monkeypatch.setattr(observers, "BLOCK", 64)
    assert_same(seen(numbers.reshape(73, 137)), whole)


def test_zeros_wait_for_the_first_number():
    observer = seen(np.zeros((2, 3), np.float32), np.full(1, 0.3, np.float32))
    assert (observer.count, observer.zeros, observer.histogram.limit) == (7, 6, 0.5)
    assert observer.histogram.counts.sum() == 1
    assert not observer.constant
    assert seen(np.zeros(5, np.float32)).constant


def test_state_stays_of_one_size():
    observer = Observer(axis=1)
    sizes = set()
    for exponent in range(-30, 60):
        observer.see(np.full((2, 3, 5), 2.0**exponent, np.float32))
        sizes.add(sum(array.nbytes for array in observer.state().values()))
    assert len(sizes) == 1
    assert observer.histogram.counts.sum() == observer.count == 90 * 30


@given(ARRAYS, st.lists(st.sampled_from([np.nan, np.inf, -np.inf]), max_size=4))
def test_nan_and_infinity_are_counted_and_left_out(numbers, bad):
    mixed = np.concatenate([numbers, np.array(bad, np.float32)])
    observer = Observer()
    observer.see(numbers, sample=1)
    clean = Observer()
    clean.see(numbers)
    clean.see(numbers)
    observer.see(mixed, sample=4)
    observer.see(np.array([np.nan] * bool(bad), np.float32), sample=9)
    assert observer.nans == sum(map(math.isnan, bad)) + bool(bad)
    assert observer.infinities == sum(map(math.isinf, bad))
    assert observer.bad_sample == (4 if bad else None)
    observer.nans = observer.infinities = 0
    observer.bad_sample = None
    assert_same(observer, clean)


def test_only_infinities_are_no_numbers():
    observer = seen(np.array([np.inf, np.nan], np.float32), axis=0)
    assert (observer.count, observer.nans, observer.infinities) == (0, 1, 1)
    assert observer.low > observer.high


def test_moments():
    numbers = np.random.default_rng(0).normal(3, 2, 100_000).astype(np.float32)
    observer = seen(numbers[:10], numbers[10:])
    assert observer.mean == pytest.approx(numbers.mean(dtype=np.float64), rel=1e-6)
    assert observer.squares == pytest.approx((numbers.astype(np.float64) ** 2).sum(), rel=1e-6)


def test_squares_of_huge_numbers_do_not_overflow():
    assert seen(np.full(4, 1e30, np.float32)).squares == pytest.approx(4e60, rel=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8, np.uint8, np.int64, np.bool_])
def test_every_real_type_is_taken(dtype):
    numbers = np.arange(7).astype(dtype)
    assert_same(seen(numbers), seen(numbers.astype(np.float32)))


def test_what_no_float32_can_hold_is_infinite():
    observer = seen(np.array([1e300, 1.0]))
    assert (observer.high, observer.infinities) == (1, 1)


def test_bfloat16_is_taken():
    numbers = np.array([1, -2, np.nan], ml_dtypes.bfloat16)
    observer = seen(numbers, axis=0)
    assert (observer.low, observer.high, observer.nans) == (-2, 1, 1)


@given(
    st.sampled_from([0, 1, 2, -1, -2]),
    st.lists(st.tuples(*[st.integers(0, 4)] * 2), min_size=1, max_size=4),
)
def test_channels_are_those_of_the_axis(axis, shapes):
    rng = np.random.default_rng(0)
    ragged = []
    for shape in shapes:
        sizes = list(shape)
        sizes.insert(axis % 3, 5)
        ragged.append(rng.normal(size=sizes).astype(np.float32))
    observer = seen(*ragged, axis=axis)
    rows = np.concatenate([np.moveaxis(part, axis, 0).reshape(5, -1) for part in ragged], 1)
    channels = observer.channels
    assert channels.count == rows.shape[1]
    if rows.size:
        np.testing.assert_array_equal(channels.low, rows.min(1))
        np.testing.assert_array_equal(channels.high, rows.max(1))
        np.testing.assert_allclose(channels.mean, rows.mean(1), atol=1e-5)
    halves = seen(*ragged[:1], axis=axis)
    halves.merge(seen(*ragged[1:], axis=axis))
    assert_same(halves, observer)


def test_channels_that_do_not_fit_are_refused():
    observer = seen(np.ones((1, 3, 4), np.float32), axis=1)
    with pytest.raises(ValueError, match="4 channels came where 3 were"):
        observer.see(np.ones((1, 4, 4), np.float32))
    with pytest.raises(ValueError, match="along axis 0"):
        observer.merge(seen(np.ones((3,), np.float32), axis=0))


def test_ranges_from_the_graph():
    observer = Observer(histogram=False)
    observer.see_range(-1, 2, count=10)
    observer.see_range(0, 5, count=10)
    assert (observer.low, observer.high, observer.count, observer.mean) == (-1, 5, 20, 0)
    observer.see_range(math.nan, math.nan, count=10, sample=3)
    observer.see_range(0, math.inf, count=10, sample=4)
    assert (observer.nans, observer.infinities, observer.bad_sample) == (1, 1, 3)
    assert (observer.low, observer.high) == (-1, 5)


@given(ARRAYS, st.booleans(), st.booleans())
def test_state_round_trip(numbers, histogram, channels):
    options = {"histogram": histogram, "axis": 0 if channels else None}
    observer = seen(numbers.reshape(1, -1), **options)
    again = Observer.from_state(observer.state())
    assert_same(again, observer)
    again.see(numbers.reshape(1, -1))
    assert_same(again, seen(numbers.reshape(1, -1), numbers.reshape(1, -1), **options))


def test_state_is_no_window_into_the_observer():
    observer = seen(np.ones(3, np.float32))
    state = observer.state()
    observer.see(np.ones(3, np.float32))
    assert state["histogram"].sum() == 3


def test_histograms_of_different_bins_are_not_added():
    with pytest.raises(ValueError, match="16 bins"):
        Histogram(32).merge(Histogram(16))


def test_the_counts_inside_begin_at_the_first_and_end_at_the_last():
    histogram = seen(np.float32([-0.5, 0.1, 0.9, 0.9])).histogram
    first, counts = histogram.inside()
    assert first == -len(histogram.counts) // 4
    assert (counts[0], counts[-1], counts.sum()) == (1, 2, 4)
    assert first + len(counts) == math.floor(0.9 / histogram.width) + 1
    assert Histogram().inside()[1].size == 0
