from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges import range_of
from onnxopt.quantizing.calibration.ranges.entropy import divergence
from onnxopt.quantizing.spec import Spec

UINT8 = Spec()
INT8 = Spec(format="int8", symmetric=True)


def seen(numbers):
    observer = Observer()
    observer.see(np.asarray(numbers, np.float32))
    return observer


def by_the_book(counts, start, end, levels):
    """Build P and Q bin by bin, as the slides do, and sum."""
    p = counts[start:end].astype(float)
    whole = p.copy()
    p[0] += counts[:start].sum()
    p[-1] += counts[end:].sum()
    q = np.zeros_like(p)
    scatter = 0
    borders = [(end - start) * level // levels for level in range(levels + 1)]
    for low, high in itertools.pairwise(borders):
        filled = p[low:high] > 0
        if filled.any():
            q[low:high] = np.where(filled, whole[low:high].sum() / filled.sum(), 0)
            scatter += filled.sum() - 1
    p, q = p / p.sum(), q / q.sum()
    with np.errstate(divide="ignore"):
        terms = [a * np.log(a / b) for a, b in zip(p, q, strict=True) if a > 0]
    return sum(terms) - scatter / (2 * counts.sum())


@settings(max_examples=200)
@given(st.data())
def test_divergence_is_that_of_the_definition(data):
    counts = np.array(data.draw(st.lists(st.integers(0, 9), min_size=6, max_size=40).filter(any)))
    levels = data.draw(st.integers(2, 6))
    start = data.draw(st.integers(0, len(counts) - levels))
    end = data.draw(st.integers(start + levels, len(counts)))
    if not counts[start:end].any():
        assert divergence(counts, np.array([start]), np.array([end]), levels) == np.inf
        return
    found = divergence(counts, np.array([start]), np.array([end]), levels)
    assert found[0] == pytest.approx(by_the_book(counts, start, end, levels), abs=1e-9)


def test_an_even_spread_loses_nothing():
    counts = np.full(64, 7)
    lost = divergence(counts, np.array([0]), np.array([64]), 8) + (64 - 8) / (2 * counts.sum())
    assert lost == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("spec", [UINT8, INT8], ids=["uint8", "int8"])
def test_tails_are_clipped_the_body_is_not(seed, spec):
    rng = np.random.default_rng(seed)
    gaussian = range_of(seen(rng.normal(size=500_000)), "entropy", spec)
    assert all(3.3 < abs(end) < 5.3 for end in gaussian)
    laplace = range_of(seen(rng.laplace(size=500_000)), "entropy", spec)
    assert all(7 < abs(end) < 13 for end in laplace)


@pytest.mark.parametrize("sign", [1, -1])
def test_one_sided_tensors(sign):
    numbers = sign * np.maximum(np.random.default_rng(0).normal(size=500_000), 0)
    ends = sorted(np.abs(range_of(seen(numbers), "entropy", UINT8)))
    assert ends[0] == 0
    assert 3.5 < ends[1] < 5


def test_few_numbers_are_hardly_clipped():
    """Without the correction for scatter, 3,000 Gaussian numbers are cut at 3.2."""
    for seed in range(4):
        numbers = np.random.default_rng(seed).normal(size=3000)
        _, high = range_of(seen(numbers), "entropy", INT8)
        assert high > 0.94 * np.abs(numbers).max()
