from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges import range_of
from onnxopt.quantizing.calibration.ranges.mse import expected_error
from onnxopt.quantizing.spec import Spec, dequantize, qparams, quantize

UINT8 = Spec()
INT8 = Spec(format="int8", symmetric=True)
RNG = np.random.default_rng(0)
GAUSSIAN = RNG.normal(size=60_000)
TENSORS = {
    "gaussian": GAUSSIAN,
    "laplace": RNG.laplace(size=60_000),
    "relu": np.maximum(GAUSSIAN, 0),
    "silu": 3 * GAUSSIAN / (1 + np.exp(-3 * GAUSSIAN)),
    "skew": RNG.gumbel(size=60_000),
    "heavy": RNG.standard_t(3, size=60_000),
    "negative": -np.abs(GAUSSIAN),
    "far from zero": 5 + 0.1 * GAUSSIAN,
}


def seen(numbers):
    observer = Observer()
    observer.see(np.asarray(numbers, np.float32))
    return observer


def true_error(numbers, params, norm=2.0):
    numbers = np.asarray(numbers, np.float32)
    off = numbers.astype(np.float64) - dequantize(quantize(numbers, params), params)
    return float(np.mean(np.abs(off) ** norm))


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("norm", [2.0, 2.4])
@settings(max_examples=15, deadline=None)
@given(ends=st.tuples(st.floats(0.02, 2), st.floats(0.02, 2)), spec=st.sampled_from([UINT8, INT8]))
def test_the_error_from_bins_is_that_of_the_numbers(tensor, norm, ends, spec):
    numbers = TENSORS[tensor]
    params = qparams(ends[0] * numbers.min(), ends[1] * numbers.max(), spec)
    error = expected_error(seen(numbers), params, norm)
    assert error == pytest.approx(true_error(numbers, params, norm), rel=0.05)


@settings(max_examples=40, deadline=None)
@given(
    counts=st.lists(st.integers(0, 5), min_size=1, max_size=30).filter(any),
    offset=st.integers(-20, 20),
    scale=st.floats(0.3, 9),
    zero=st.integers(0, 255),
    norm=st.sampled_from([2.0, 2.4, 3.0]),
)
def test_the_closed_form_is_the_integral(counts, offset, scale, zero, norm):
    """Bins are filled evenly with many numbers: then nothing is an estimate."""
    observer = Observer()
    histogram = observer.histogram
    histogram.limit = len(histogram.counts) / 2.0
    half = len(histogram.counts) // 2
    histogram.counts[half + offset : half + offset + len(counts)] = counts
    observer.count = sum(counts)
    fine = 4000
    inner = (np.arange(fine) + 0.5) / fine
    params = qparams(0.0, 1.0, Spec(fixed=(scale, zero)))
    exact = float(params.scale)
    total = 0.0
    for place, count in enumerate(counts):
        points = offset + place + inner
        steps = np.clip(np.rint(points / exact), -zero, 255 - zero)
        total += count * np.mean(np.abs(points - exact * steps) ** norm)
    assert expected_error(observer, params, norm) == pytest.approx(total / sum(counts), rel=1e-4)


def brute_force(numbers, spec):
    """Return the least error over a dense grid of both ends."""
    low, high = min(numbers.min(), 0), max(numbers.max(), 0)
    best = np.inf
    shrink = np.geomspace(1, 0.02, 40)
    lows = shrink if low < 0 and not spec.symmetric else [1.0]
    highs = shrink if high > 0 or spec.symmetric else [1.0]
    for down in lows:
        for up in highs:
            ends = (up * low, up * high) if spec.symmetric else (down * low, up * high)
            best = min(best, true_error(numbers, qparams(*ends, spec)))
    return best


@pytest.mark.parametrize("tensor", TENSORS)
@pytest.mark.parametrize("spec", [UINT8, INT8], ids=["uint8", "int8"])
def test_the_range_is_as_good_as_that_of_brute_force(tensor, spec):
    numbers = TENSORS[tensor][:5000]
    params = qparams(*range_of(seen(numbers), "mse", spec), spec)
    assert true_error(numbers, params) <= 1.01 * brute_force(numbers, spec)


@pytest.mark.parametrize(("bits_worth", "draw"), [(3.93, "normal"), (9.9, "laplace")])
def test_known_optima(bits_worth, draw):
    """Banner et al. 2018, arXiv:1810.05723: 3.92 σ for a Gaussian, 9.89 b for Laplace's."""
    numbers = getattr(np.random.default_rng(1), draw)(size=2_000_000)
    _, high = range_of(seen(numbers), "mse", INT8)
    assert high == pytest.approx(bits_worth, rel=0.05)


def test_a_higher_norm_clips_less():
    observer = seen(np.random.default_rng(0).laplace(size=300_000))
    highs = [range_of(observer, "mse", INT8, norm=norm)[1] for norm in (2.0, 2.4, 4.0)]
    assert highs == sorted(highs)
    assert highs[0] < highs[-1]


def test_few_distinct_numbers_keep_their_places():
    numbers = np.repeat(np.float32([0, 0.25, 0.5, 1.0]), 100)
    params = qparams(*range_of(seen(numbers), "mse", UINT8), UINT8)
    assert true_error(numbers, params) < 1e-5


def test_nothing_seen_has_no_error():
    assert expected_error(Observer(), qparams(0, 1, UINT8)) == 0
    assert expected_error(seen(np.zeros(4)), qparams(0, 1, UINT8)) == 0
