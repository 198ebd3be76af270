import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.pruning.weights.refit import choose_ridge, energies, noise, refit, shifted
from tests.pruning.weights.drawn import flat, inputs, moments, rows

FEW = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 9999)


def kept_of(seed, shape):
    stays = np.random.default_rng(seed + 2).random(shape) < 0.6
    stays[..., 0] = True
    return stays


@FEW
@given(seeds, st.integers(2, 7), st.integers(1, 3), st.sampled_from([0.0, 0.4]))
def test_the_closed_form_is_least_squares(seed, columns, groups, off):
    x, q = inputs(seed, columns, groups=groups, off=off)
    weight, kept = rows(seed, 2 * groups, columns), kept_of(seed, (groups, columns))
    found = refit(weight, kept, moments(x, q), ridge=0.0)
    for group, (ours, theirs) in enumerate(zip(flat(x), flat(q), strict=True)):
        mine = slice(2 * group, 2 * group + 2)
        known = np.column_stack([theirs[:, kept[group]], np.ones(len(theirs))])
        wanted = ours @ weight[mine].T
        solved = np.linalg.lstsq(known, wanted, rcond=None)[0]
        made = theirs @ found.rows[mine].T + found.shift[mine]
        best = known @ solved
        least = np.square(best - wanted).mean()
        # The least ridge keeps it a little away where columns say nearly the same.
        assert np.square(made - wanted).mean() <= least * 1.001 + 1e-4 * np.square(wanted).mean()
        assert np.all(found.rows[mine][:, ~kept[group]] == 0)


@FEW
@given(seeds, st.integers(1, 6), st.integers(1, 3), st.sampled_from([0.0, 0.4]))
def test_noise_is_what_the_samples_say(seed, columns, groups, off):
    x, q = inputs(seed, columns, groups=groups, off=off)
    weight, made = rows(seed, 2 * groups, columns), rows(seed + 5, 2 * groups, columns)
    shift = np.random.default_rng(seed).normal(size=2 * groups)
    ours, theirs = flat(x), flat(q)
    split = (groups, 2, columns)
    meant = np.einsum("gnc,grc->grn", ours, weight.reshape(split)).reshape(2 * groups, -1)
    got = np.einsum("gnc,grc->grn", theirs, made.reshape(split)).reshape(2 * groups, -1)
    expected = np.square(meant - got - shift[:, None]).mean(axis=1)
    held, energy = moments(x, q), np.square(meant).mean(axis=1)
    np.testing.assert_allclose(
        noise(made, shift, weight, held, energy), expected, rtol=1e-3, atol=1e-3 * energy.max()
    )
    if not off:
        np.testing.assert_allclose(
            noise(made, shift, weight, held), expected, rtol=1e-3, atol=1e-5 * energy.max()
        )
        np.testing.assert_allclose(
            energies(weight, held), meant.var(axis=1), rtol=1e-3, atol=1e-4 * energy.max()
        )
    np.testing.assert_allclose(
        shifted(weight, made, held), (meant - got).mean(axis=1), atol=1e-4 * (1 + energy.max())
    )


@FEW
@given(seeds, st.integers(2, 8))
def test_the_order_of_columns_does_not_matter(seed, columns):
    x, q = inputs(seed, columns, off=0.2)
    weight, kept = rows(seed, 3, columns), kept_of(seed, columns)
    turn = np.random.default_rng(seed).permutation(columns)
    straight = refit(weight, kept, moments(x, q), ridge=0.01)
    turned = refit(weight[:, turn], kept[turn], moments(x[..., turn], q[..., turn]), ridge=0.01)
    np.testing.assert_allclose(turned.rows, straight.rows[:, turn], atol=1e-3)
    np.testing.assert_allclose(turned.shift, straight.shift, atol=1e-3)


def test_a_large_ridge_pulls_towards_nothing_or_towards_what_is_given():
    x, q = inputs(0, 6, off=0.3)
    weight, kept = rows(0, 3, 6), kept_of(0, 6)
    held = moments(x, q)
    none = refit(weight, kept, held, ridge=1e7, towards=0 * weight)
    np.testing.assert_allclose(none.rows, 0, atol=1e-5)
    np.testing.assert_allclose(none.shift, shifted(weight, 0 * weight, held), atol=1e-5)
    back = refit(weight, kept, held, ridge=1e7)
    np.testing.assert_allclose(back.rows, np.where(kept, weight, 0), atol=1e-5)


def test_nothing_lost_is_nothing_changed():
    x, _ = inputs(1, 6)
    weight = rows(1, 3, 6)
    found = refit(weight, np.ones(6, bool), moments(x), ridge=0.1)
    np.testing.assert_allclose(found.rows, weight, atol=1e-5)
    np.testing.assert_allclose(found.shift, 0, atol=1e-5)
    np.testing.assert_allclose(found.error, 0, atol=1e-5)


@pytest.mark.parametrize("dead", [1, 6])
def test_inputs_that_are_always_zero_or_alike_break_nothing(dead):
    x, _ = inputs(2, 6)
    x[..., :dead] = 0
    x[..., 5] = x[..., 4]
    found = refit(rows(2, 3, 6), kept_of(2, 6), moments(x), ridge=0.0)
    assert np.isfinite(found.rows).all()
    assert np.isfinite(found.error).all()


def test_with_nothing_kept_the_bias_is_left():
    x, _ = inputs(3, 4)
    weight = rows(3, 2, 4)
    found = refit(weight, np.zeros(4, bool), moments(x))
    np.testing.assert_array_equal(found.rows, 0)
    np.testing.assert_allclose(found.error, energies(weight, moments(x)), rtol=1e-3)


def test_the_ridge_is_chosen_by_samples_held_back():
    # Fewer samples than columns: without a ridge the fit is of these alone.
    x, _ = inputs(4, 60, samples=20)
    rng = np.random.default_rng(4)
    weight, kept = rows(4, 5, 60), rng.random(60) < 0.7
    fit, held = moments(x[:6]), moments(x[6:])
    chosen = choose_ridge(weight, kept, fit, held)
    assert chosen.errors[chosen.ridge] == min(chosen.errors.values())
    assert chosen.ridge > 0.003
    own = choose_ridge(weight, kept, fit, fit)
    assert own.ridge == 0.003
