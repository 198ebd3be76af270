import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantizing.weights.gram import Moments, error, full, shrunk, squared, target, times

FEW = settings(max_examples=25, deadline=None)


def moments(samples):
    return (samples.T @ samples / len(samples)).astype(np.float32)


@FEW
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 6), st.integers(1, 3))
def test_the_error_is_that_of_the_output(seed, rows, columns, groups):
    rng = np.random.default_rng(seed)
    difference = rng.normal(size=(groups * rows, columns)).astype(np.float32)
    samples = rng.normal(size=(groups, 20, columns)).astype(np.float32)
    gram = np.stack([moments(part) for part in samples])
    outputs = np.einsum("grc,gnc->grn", difference.reshape(groups, rows, columns), samples)
    expected = (outputs**2).mean(axis=2).reshape(-1)
    np.testing.assert_allclose(squared(difference, gram), expected, rtol=1e-4)
    if groups == 1:
        np.testing.assert_allclose(squared(difference, gram[0]), expected, rtol=1e-4)


def test_a_diagonal_is_a_gram_matrix_without_the_rest():
    rng = np.random.default_rng(0)
    rows, level = rng.normal(size=(3, 4)), rng.uniform(size=4)
    np.testing.assert_allclose(times(rows, level), times(rows, np.diag(level)))
    np.testing.assert_allclose(times(rows, None), times(rows, full(None, 4)))
    np.testing.assert_allclose(squared(rows, full(level, 4)), squared(rows, level))


def test_sqnr_is_that_of_each_row():
    rows = np.array([[1.0, 0.0], [0.5, 0.5], [3.0, 4.0]], np.float32)
    integers = np.array([[10, 0], [5, 4], [30, 40]])
    found = error(rows, integers, np.full(3, 0.1, np.float32))
    assert found[1] == pytest.approx(10 * np.log10(0.5 / 0.01), abs=1e-3)
    assert found[0] > 100
    assert found[2] > 100


@pytest.mark.parametrize("shape", [(4,), (4, 4), (2, 4, 4)])
def test_shrinking_keeps_the_form_and_weakens_what_is_off_the_diagonal(shape):
    gram = np.full(shape, 2.0, np.float32)
    pulled = shrunk(gram, 0.25, 0.5)
    assert pulled.shape == shape
    assert pulled.dtype == np.float32
    assert pulled.flat[0] == 3.0
    assert len(shape) == 1 or pulled[..., 0, 1] == pytest.approx(1.5)
    np.testing.assert_array_equal(gram, np.full(shape, 2.0))


def student(seed, groups=1):
    """Inputs of a float model, and what a quantized one makes of them."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(groups, 200, 5))
    seen = 0.9 * x + rng.normal(size=x.shape) * 0.2
    gram = np.einsum("gnc,gnd->gcd", seen, seen) / 200
    off = np.einsum("gnc,gnd->gcd", x - seen, seen) / 200
    return x, seen, Moments(gram=gram.astype(np.float32), off=off.astype(np.float32))


def test_the_target_is_the_least_squares_solution():
    x, seen, held = student(0)
    rows = np.random.default_rng(1).normal(size=(3, 5)).astype(np.float32)
    solved = np.linalg.lstsq(seen[0], x[0] @ rows.T, rcond=None)[0].T
    np.testing.assert_allclose(target(rows, held, 0.0), solved, atol=1e-4)
    far = target(rows, held, 1e6)
    np.testing.assert_allclose(far, rows, atol=1e-4)


def test_a_target_is_that_of_its_group():
    rows = np.random.default_rng(1).normal(size=(6, 5)).astype(np.float32)
    _, _, held = student(0, groups=2)
    whole = target(rows, held, 0.1)
    for group in range(2):
        own = Moments(gram=held.gram[group], off=held.off[group])
        part = slice(3 * group, 3 * group + 3)
        np.testing.assert_allclose(whole[part], target(rows[part], own, 0.1), atol=1e-5)


def test_an_input_that_was_never_there_keeps_its_rows():
    rows = np.ones((2, 3), np.float32)
    nothing = np.zeros((3, 3), np.float32)
    np.testing.assert_array_equal(target(rows, Moments(gram=nothing, off=nothing), 0.1), rows)
    assert target(rows, Moments(gram=nothing), 0.1) is rows


def test_what_is_lost_is_the_error_less_what_no_rows_can_change():
    x, seen, held = student(3)
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(3, 5)).astype(np.float32)
    made = rows + rng.normal(size=rows.shape).astype(np.float32) * 0.1
    whole = ((x[0] @ rows.T - seen[0] @ made.T) ** 2).mean(axis=0)
    given_up = ((x[0] @ rows.T - seen[0] @ rows.T) ** 2).mean(axis=0)
    np.testing.assert_allclose(held.lost(rows, made), whole - given_up, atol=1e-4)
