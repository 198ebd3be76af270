import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantizing.spec import SMALLEST_SCALE
from onnxopt.quantizing.weights.gram import squared
from onnxopt.quantizing.weights.limits import Plain
from onnxopt.quantizing.weights.pairs import Pairs
from onnxopt.quantizing.weights.scales import (
    best_scales,
    least_scales,
    nearest,
    rounded,
    widest_scales,
)

FEW = settings(max_examples=20, deadline=None)


def problem(seed, rows=4, columns=6, groups=1):
    rng = np.random.default_rng(seed)
    samples = rng.normal(size=(groups, 12, columns)) + 1
    gram = np.einsum("gnc,gnd->gcd", samples, samples).astype(np.float32) / 12
    weights = rng.standard_t(3, size=(groups * rows, columns)).astype(np.float32)
    return weights, gram if groups > 1 else gram[0]


def lost(rows, scales, limits, gram):
    return squared(rows - nearest(rows, scales, limits) * scales[:, None], gram)


@FEW
@given(st.integers(0, 999), st.sampled_from([1, 3]), st.booleans())
def test_no_row_is_worse_than_with_the_widest_scale(seed, groups, paired):
    rows, gram = problem(seed, groups=groups)
    limits = Pairs(np.full(6, 255)) if paired else Plain()
    widest = widest_scales(rows)
    found = best_scales(rows, limits, gram, tried=99)
    assert found.dtype == np.float32
    before, after = lost(rows, widest, limits, gram), lost(rows, found, limits, gram)
    # The widest scale itself lies between two candidates.
    assert after.sum() <= before.sum() * 1.02


@FEW
@given(st.integers(0, 999))
def test_a_short_list_by_the_diagonal_holds_nearly_the_best(seed):
    rows, gram = problem(seed, rows=16)
    short = lost(rows, best_scales(rows, Plain(), gram), Plain(), gram).sum()
    every = lost(rows, best_scales(rows, Plain(), gram, tried=99), Plain(), gram).sum()
    assert every <= short <= lost(rows, best_scales(rows, Plain()), Plain(), gram).sum() * 1.5


def test_outliers_are_clipped_where_that_pays():
    rows = np.linspace(-0.01, 0.01, 20000, dtype=np.float32)[None].copy()
    rows[0, 0] = 0.016
    assert best_scales(rows, Plain())[0] < widest_scales(rows)[0]


def test_weights_that_meet_in_pairs_want_a_larger_scale():
    rows = np.random.default_rng(0).uniform(0.9, 1, size=(1, 64)).astype(np.float32)
    assert best_scales(rows, Pairs(np.full(64, 255)))[0] > 1.5 / 127


def test_rows_of_zeros_have_the_scale_one():
    rows = np.zeros((3, 4), np.float32)
    rows[1] = 1
    for found in (best_scales(rows, Plain()), best_scales(rows, Plain(), np.eye(4, dtype="f4"))):
        assert found[0] == found[2] == 1
        assert not nearest(rows, found, Plain())[::2].any()


@pytest.mark.parametrize("size", [1e-9, 1e-40, np.float32(1e-45)])
def test_tiny_rows_keep_a_scale_that_products_can_bear(size):
    rows = np.full((2, 3), size, np.float32)
    found = best_scales(rows, Plain(), np.eye(3, dtype=np.float32))
    assert (found >= np.float32(SMALLEST_SCALE)).all()
    assert np.isfinite(nearest(rows, found, Plain()) * found[:, None]).all()


def test_a_bias_that_would_leave_int32_enlarges_the_scale():
    rows = np.array([[1e-6, 0], [1, 1]], np.float32)
    bias, activation = np.array([100.0, 0.5]), 0.02
    least = least_scales(bias, activation)
    found = best_scales(rows, Plain(), least=least)
    assert (np.abs(bias) / (activation * found.astype(np.float64)) < 2**31 - 1).all()
    assert found[0] == least[0]
    assert found[1] == best_scales(rows, Plain())[1]


def test_integers_stay_in_their_range():
    rows = np.array([[1.0, -3.0]], np.float32)
    np.testing.assert_array_equal(rounded(rows, np.array([0.01])), [[100, -127]])
