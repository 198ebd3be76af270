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


def test_a_model_that_is_looked_at_alone_needs_one_product():
    rng = np.random.default_rng(1)
    arrays = [rng.standard_normal((1, 700, 6)).astype(np.float32) for _ in range(4)]
    alone = seen([(x, x) for x in arrays])
    beside = seen([(x, x.copy()) for x in arrays])
    np.testing.assert_array_equal(alone.cross, alone.gram)
    np.testing.assert_allclose(alone.cross, beside.cross, atol=1e-6)
