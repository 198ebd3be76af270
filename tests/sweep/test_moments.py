"""Moments of what a layer reads: equal to what numpy's sums say, whichever way they are taken."""

import numpy as np
import pytest

from onnxopt.sweep.moments import Moments


def seen(pairs):
    moments = Moments.of(*pairs[0][0].shape[::2])
    for x, q in pairs:
        moments.see(x, q)
    moments.settle()
    return moments


@pytest.mark.parametrize("same", [True, False])
def test_moments_are_means_over_samples(same):
    rng = np.random.default_rng(0)
    firsts = [rng.standard_normal((2, rows, 5)).astype(np.float32) for rows in (300, 900, 7)]
    seconds = firsts if same else [x + rng.standard_normal(x.shape).astype("f") for x in firsts]
    moments = seen(list(zip(firsts, seconds, strict=True)))
    for name, (left, right) in {"gram": (seconds, seconds), "cross": (firsts, seconds)}.items():
        wanted = np.mean(
            [
                np.einsum("gri,grj->gij", x.astype(float), q.astype(float)) / x.shape[1]
                for x, q in zip(left, right, strict=True)
            ],
            axis=0,
        )
        np.testing.assert_allclose(getattr(moments, name), wanted, atol=1e-5)


def test_a_model_that_is_looked_at_alone_has_one_matrix():
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((1, 700, 6)).astype(np.float32) for _ in range(4)]
    alone = seen([(x, x) for x in arrays])
    beside = seen([(x, x.copy()) for x in arrays])
    assert alone.is_one
    assert alone.cross is alone.gram
    assert not beside.is_one
    for name in ("gram", "cross", "mean", "seen", "power"):
        np.testing.assert_allclose(getattr(alone, name), getattr(beside, name), atol=1e-6)
    for one, other in zip(alone.centred(), beside.centred(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert alone.merged(alone).is_one
    both = alone.merged(beside)
    np.testing.assert_allclose(both.cross, alone.gram, atol=1e-6)
    assert not both.is_one


def test_a_model_that_drifts_away_later_has_two():
    rng = np.random.default_rng(2)
    arrays = [rng.standard_normal((1, 1100, 4)).astype(np.float32) for _ in range(3)]
    pairs = [(arrays[0], arrays[0]), (arrays[1], arrays[1] + 1), (arrays[2], arrays[2])]
    moments = seen(pairs)
    assert not moments.is_one
    wanted = np.mean([x[0].T @ q[0] / len(x[0]) for x, q in pairs], axis=0)
    np.testing.assert_allclose(moments.cross[0], wanted, atol=1e-5)
