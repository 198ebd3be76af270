"""The fitted map is that of least squares, and the ridge is chosen where nothing was fitted."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.pruning.blocks.fit import (
    fit,
    full_map,
    moments_of,
    residual,
    rows_of,
    scale_map,
)
from onnxopt.pruning.blocks.plan import Block
from tests.quantizing.repair.nets import normal


def block(channels, axis=-1):
    return Block(kind="residual", entry="q", exit="x", nodes=(), axis=axis, channels=channels)


def moments(pairs):
    found = moments_of(pairs[0][0].shape[-1])
    for exit_, entry in pairs:
        found.see(exit_[None], entry[None])
    found.settle()
    return found


@settings(max_examples=25, deadline=None)
@given(
    channels=st.integers(1, 6), samples=st.integers(2, 5), seed=st.integers(0, 99),
    big=st.sampled_from([1.0, 30.0]),
)  # fmt: skip
def test_without_a_ridge_it_is_least_squares(channels, samples, seed, big):
    entries = [normal(20, channels, seed=seed + n) + 1 for n in range(samples)]
    scale = np.ones(channels, np.float32)
    scale[0] = big  # a channel that lies far out
    exits = [
        (entry @ normal(channels, channels) + normal(20, channels)) * scale for entry in entries
    ]
    found = full_map(moments(list(zip(exits, entries, strict=True))), 0.0)
    rows = np.concatenate(entries)
    design = np.concatenate([rows, np.ones((len(rows), 1))], axis=1)
    wanted = np.linalg.lstsq(design, np.concatenate(exits), rcond=None)[0]
    np.testing.assert_allclose(found.matrix, wanted[:-1].T, rtol=1e-3, atol=2e-3 * big)
    np.testing.assert_allclose(found.shift, wanted[-1], rtol=1e-3, atol=4e-3 * big)


def test_the_residual_is_what_the_map_loses():
    entries = [normal(50, 4, seed=n) for n in range(3)]
    exits = [np.tanh(entry @ normal(4, 4)) for entry in entries]
    seen = moments(list(zip(exits, entries, strict=True)))
    for patch in (scale_map(seen), full_map(seen, 0.1)):
        exit_ = np.concatenate(exits)
        lost = np.square(exit_ - patch(np.concatenate(entries))).sum(axis=1).mean()
        assert np.isclose(residual(seen, patch), lost / exit_.var(axis=0).sum(), rtol=1e-4)


def test_few_noisy_samples_want_a_ridge_and_the_held_ones_say_so():
    truth = np.diag(normal(16) + 2)

    def pairs(count, seed):
        entries = [normal(4, 16, seed=seed + n) for n in range(count)]
        return [
            (e @ truth + 2 * normal(4, 16, seed=seed + n + 500), e) for n, e in enumerate(entries)
        ]

    seen, held = moments(pairs(8, 0)), moments(pairs(400, 1000))
    found = fit(block(16), seen, held, ridges=(1e-4, 0.1, 1.0, 10.0))
    assert found.ridge >= 1.0
    assert residual(held, full_map(seen, found.ridge)) < residual(held, full_map(seen, 1e-4))
    assert found.lost_full == residual(held, full_map(seen, found.ridge))


def test_rows_are_channels_last():
    array = normal(2, 3, 4, 5)
    rows = rows_of(array, block(3, axis=1))
    assert rows.shape == (1, 40, 3)
    np.testing.assert_array_equal(rows[0, 7], array[0, :, 1, 2])


def test_a_dead_channel_gives_a_finite_map():
    entry = normal(30, 3)
    entry[:, 1] = 0
    seen = moments([(entry.copy(), entry)])
    for patch in (scale_map(seen), full_map(seen, 0.01)):
        assert np.isfinite(patch.matrix).all()
        assert np.isfinite(patch.shift).all()


def test_what_was_held_back_is_not_fitted():
    entries = [normal(40, 4, seed=n) for n in range(4)]
    exits = [normal(40, 4, seed=9 + n) for n in range(4)]
    pairs = list(zip(exits, entries, strict=True))
    seen = moments(pairs[:2])
    found = fit(block(4), seen, moments(pairs[2:]))
    np.testing.assert_array_equal(found.full.matrix, full_map(seen, found.ridge).matrix)
    np.testing.assert_array_equal(found.scale.matrix, scale_map(seen).matrix)
