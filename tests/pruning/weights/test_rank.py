"""Factors of low rank are the best there are, and their errors are known for all ranks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.pruning.weights.rank import break_even, cut_off, factor, lost, spectrum
from onnxopt.sweep.moments import Moments
from tests.quantizing.repair.nets import normal


def seen(x, q):
    moments = Moments.of(1, x.shape[1])
    moments.see(x[None], q[None])
    moments.settle()
    return moments


def error(rows, x, q, made):
    """Return the mean square of what factors get wrong, the bias corrected."""
    wrong = x @ rows.T - q @ (made.up @ made.down).T - made.shift
    return np.square(wrong).sum(axis=1).mean()


@settings(max_examples=25, deadline=None)
@given(
    outputs=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 99),
    off=st.sampled_from([0.0, 0.5]),
)  # fmt: skip
def test_each_rank_loses_what_the_spectrum_says_and_no_other_factors_less(
    outputs, columns, seed, off
):
    x = normal(200, columns, seed=seed) @ normal(columns, columns, seed=seed + 1)
    q = x + off * normal(200, columns, seed=seed + 2)
    rows = normal(outputs, columns, seed=seed + 3)
    moments = seen(x, q)
    found = spectrum(rows, moments, ridge=0.0, pull=0.0)
    least = error(rows, x, q, cut_off(rows, moments, found, found.most))
    centred, wanted = q - q.mean(axis=0), (x - x.mean(axis=0)) @ rows.T
    best = np.linalg.lstsq(centred, wanted, rcond=None)[0].T
    values = np.linalg.svd(best @ centred.T / np.sqrt(200), compute_uv=False) ** 2
    scale = np.square(wanted).sum(axis=1).mean()
    for rank in range(found.most + 1):
        made = cut_off(rows, moments, found, rank)
        assert made.up.shape == (outputs, rank)
        assert made.down.shape == (rank, columns)
        told = found.lost[rank]
        assert np.isclose(error(rows, x, q, made) - least, told, rtol=2e-2, atol=1e-3 * scale)
        assert np.isclose(told, values[rank:].sum(), rtol=2e-2, atol=1e-3 * scale)


def test_without_anything_off_and_white_inputs_it_is_the_svd():
    rows = normal(6, 10)
    x = np.linalg.qr(normal(400, 11) - normal(400, 11).mean(axis=0))[0][:, :10]
    x = (20 * (x - x.mean(axis=0))).astype(np.float32)
    made = factor(rows, seen(x, x), 3, ridge=0.0, pull=np.inf)
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(
        made.up @ made.down, (left[:, :3] * values[:3]) @ right[:3], rtol=0.05, atol=0.02
    )


@pytest.mark.parametrize(("outputs", "columns"), [(24, 8), (8, 24)])
def test_whitened_factors_lose_less_than_those_of_the_weight_alone(outputs, columns):
    x = normal(500, columns) * np.geomspace(1, 30, columns).astype(np.float32)
    rows = normal(outputs, columns)
    made = factor(rows, seen(x, x), 4)
    left, values, right = np.linalg.svd(rows, full_matrices=False)
    plain = (left[:, :4] * values[:4]) @ right[:4]
    centred = x - x.mean(axis=0)
    wrong = np.square(centred @ (rows - plain).T).sum(axis=1).mean()
    assert error(rows, x, x, made) < 0.7 * wrong


def test_what_is_off_in_the_input_is_made_up_for_and_pulled_back():
    x = normal(400, 12) + 1
    q = 0.5 * x + 0.1 * normal(400, 12, seed=1)
    rows, moments = normal(12, 12), seen(x, q)
    errors = [error(rows, x, q, factor(rows, moments, 8, pull=pull)) for pull in (0.0, 1.0, np.inf)]
    assert errors[0] < errors[1] < errors[2]
    assert np.isclose(
        lost(rows, moments, factor(rows, moments, 8, pull=0.0))
        - lost(rows, moments, factor(rows, moments, 8)),
        (errors[0] - errors[1]) / np.square((x - x.mean(axis=0)) @ rows.T).sum(axis=1).mean(),
        rtol=0.6,
    )


def test_break_even_is_where_both_take_the_same():
    assert break_even(384, 384) == 191
    assert break_even(1, 1) == 0
    for outputs, columns in ((3, 5), (64, 576), (16, 16)):
        rank = break_even(outputs, columns)
        assert rank * (outputs + columns) < outputs * columns <= (rank + 1) * (outputs + columns)


def test_inputs_that_are_always_zero_give_finite_factors():
    x = np.zeros((10, 5), np.float32)
    made = factor(normal(4, 5), seen(x, x), 2)
    assert np.isfinite(made.up).all()
    assert np.isfinite(made.down).all()
