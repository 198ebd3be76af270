from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from onnxopt.errors import DataError
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges import METHODS, range_of
from onnxopt.quantizing.spec import Spec, qparams

UINT8 = Spec()
INT8 = Spec(format="int8", symmetric=True)
SPECS = [UINT8, INT8, Spec(symmetric=True), Spec(format="int8")]
NUMBERS = arrays(
    np.float32, st.integers(1, 60), elements=st.floats(-1000, 1000, width=32, allow_subnormal=False)
)


def seen(*parts):
    observer = Observer()
    for part in parts:
        observer.see(np.asarray(part, np.float32))
    return observer


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None)
@given(numbers=NUMBERS, spec=st.sampled_from(SPECS))
def test_ranges_hold_zero_and_stay_near_what_was_seen(method, numbers, spec):
    low, high = range_of(seen(numbers), method, spec)
    assert (type(low), type(high)) == (float, float)
    assert low <= 0 <= high
    least, most = min(numbers.min(), 0), max(numbers.max(), 0)
    if spec.symmetric:
        most = max(-least, most)
        least = -most
    step = max(float(qparams(low, high, spec).scale) * 1.001, 1e-6 * (most - least))
    assert least - step <= low
    assert high <= most + step
    if spec.symmetric:
        assert low == -high


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("spec", SPECS)
def test_several_observers_are_one_tensor(method, spec):
    rng = np.random.default_rng(0)
    parts = [rng.normal(size=5000), 3 * rng.laplace(size=400) + 1]
    together = range_of([seen(part) for part in parts], method, spec)
    assert together == range_of(seen(*parts), method, spec)


@pytest.mark.parametrize("method", METHODS)
def test_uniform_numbers_are_not_clipped(method):
    observer = seen(np.random.default_rng(0).uniform(-2, 2, 200_000))
    for spec in SPECS:
        assert range_of(observer, method, spec) == pytest.approx((-2, 2), rel=0.01)


@pytest.mark.parametrize("method", ["percentile", "entropy", "mse"])
@pytest.mark.parametrize("spec", SPECS)
def test_one_outlier_in_a_million_is_clipped(method, spec):
    observer = seen(np.random.default_rng(0).normal(size=1_000_000), [25.0])
    _, high = range_of(observer, method, spec)
    assert 3 < high < 12


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("sign", [1, -1])
def test_zeros_behind_a_relu_change_nothing(method, sign):
    numbers = sign * np.abs(np.random.default_rng(0).normal(size=100_000))
    spiked = range_of(seen(numbers, np.zeros(1_000_000)), method, UINT8)
    assert spiked == range_of(seen(numbers), method, UINT8)
    assert spiked[0 if sign > 0 else 1] == 0


@pytest.mark.parametrize("method", ["minmax", "percentile", "mse"])
def test_a_mirrored_tensor_has_the_mirrored_range(method):
    numbers = np.random.default_rng(0).gumbel(size=50_000)
    low, high = range_of(seen(numbers), method, UINT8)
    mirrored = range_of(seen(-numbers), method, UINT8)
    assert mirrored == pytest.approx((-high, -low), rel=0.08)


@pytest.mark.parametrize("method", METHODS)
@given(exponent=st.integers(-20, 20))
@settings(max_examples=8, deadline=None)
def test_ranges_grow_with_the_tensor(method, exponent):
    numbers = np.random.default_rng(0).laplace(size=2000).astype(np.float32)
    low, high = range_of(seen(numbers), method, UINT8)
    factor = 2.0**exponent
    assert range_of(seen(numbers * factor), method, UINT8) == pytest.approx(
        (low * factor, high * factor), rel=1e-6
    )


@pytest.mark.parametrize("method", METHODS)
def test_tensors_with_one_number(method):
    for number in (0.3, -7.0, 1e-12):
        low, high = range_of(seen(np.full(100, number)), method, UINT8)
        assert low + high == pytest.approx(number, rel=0.01)
        assert low * high == 0
    assert range_of(seen(np.zeros(9)), method, UINT8) == (0, 0)
    assert range_of(Observer(), method, UINT8) == (0, 0)


def test_minmax_is_exact():
    observer = seen([-0.1, 3.7])
    low, high = np.float32([-0.1, 3.7])
    assert range_of(observer, "minmax", UINT8) == (low, high)
    assert range_of(observer, "minmax", INT8) == (-high, high)
    assert range_of(seen([2.0]), "minmax", UINT8) == (0, 2)


def test_a_fixed_scale_needs_no_statistics():
    spec = Spec(fixed=(1 / 256, 0))
    assert range_of(Observer(), "mse", spec) == pytest.approx((0, 255 / 256))


def test_ranges_without_histograms_serve_minmax_only():
    ranged = Observer(histogram=False)
    ranged.see_range(-1, 4)
    full = seen([-2.0, 1.0])
    assert range_of([ranged, full], "minmax", UINT8) == (-2, 4)
    mixed = seen([-2.0, 1.0])
    mixed.see_range(0, 9)
    for observers in (ranged, [ranged, full], [full, ranged], mixed):
        with pytest.raises(DataError, match="mse needs histograms"):
            range_of(observers, "mse", UINT8)


def ranks(numbers, fraction):
    """Return the two numbers between which a quantile lies, whatever the convention."""
    ordered, place = np.sort(numbers), fraction * len(numbers)
    return ordered[max(math.floor(place) - 1, 0)], ordered[min(math.ceil(place), len(ordered) - 1)]


@settings(max_examples=100)
@given(NUMBERS, st.floats(50, 100))
def test_percentiles_are_right_within_a_bin(numbers, percent):
    observer = seen(numbers)
    width = observer.histogram.width * 1.001
    filled = numbers[numbers != 0].astype(np.float64)
    low, high = range_of(observer, "percentile", UINT8, percent=percent)
    outside = (1 - percent / 100) / (1 + (min(numbers) < 0 < max(numbers)))
    if filled.size:
        for found, fraction in ((low, outside), (high, 1 - outside)):
            lower, upper = ranks(filled, fraction)
            side = min if fraction == outside and found == low else max
            assert side(lower, 0) - width <= found <= side(upper, 0) + width
        _, both = range_of(observer, "percentile", INT8, percent=percent)
        lower, upper = ranks(np.abs(filled), percent / 100)
        assert lower - width <= both <= upper + width


@pytest.mark.parametrize("percent", [90, 99, 99.9, 99.99])
def test_percentiles_agree_with_numpy(percent):
    numbers = np.random.default_rng(0).gamma(2, size=300_000).astype(np.float32)
    observer = seen(*np.split(numbers, 10))
    _, high = range_of(observer, "percentile", UINT8, percent=percent)
    assert abs(high - np.percentile(numbers, percent)) <= observer.histogram.width
