import numpy as np
import pytest

from onnxopt.pruning.weights.choosing import choose_order, held_losses
from onnxopt.pruning.weights.evidence import Evidence, Reader
from onnxopt.pruning.weights.order import removal
from tests.pruning.weights.drawn import inputs, moments, rows

COLUMNS = 40


def halves():
    x, _ = inputs(0, COLUMNS, samples=16)
    part = Reader(rows=rows(0, 6, COLUMNS), units=np.arange(COLUMNS) // 2, moments=moments(x[:4]))
    return Evidence(size=COLUMNS // 2, readers=(part,)), moments(x[4:])


def test_on_the_samples_it_was_found_on_the_losses_are_those_of_the_order():
    evidence, _ = halves()
    order = removal(evidence, "obs", 0.1)
    counts = (0, 5, 10, 15, 20)
    own = held_losses(evidence, order, [evidence.readers[0].moments], counts, 0.1)
    expected = order.losses[20 - np.array(counts)]
    np.testing.assert_allclose(own, expected, rtol=1e-3, atol=1e-4)


def test_the_ridge_is_that_which_loses_least_on_others():
    evidence, held = halves()
    chosen = choose_order(evidence, [held], (10, 15), ridges=(1e-5, 0.3, 1e5))
    assert chosen.ridge == 0.3
    assert chosen.tried[chosen.ridge] == min(chosen.tried.values())
    order = removal(evidence, "obs", 0.3)
    np.testing.assert_array_equal(chosen.removal.order, order.order)
    assert np.all(chosen.losses > order.losses[[10, 5]])
    assert chosen.losses[0] > chosen.losses[1]
    own = choose_order(evidence, [evidence.readers[0].moments], (10, 15), ridges=(1e-5, 0.3, 1e5))
    assert own.ridge == 1e-5


def test_what_was_not_seen_loses_the_share_of_its_weights():
    unseen = Reader(rows=np.ones((2, 4), np.float32), units=np.array([0, 1, 1, -1]))
    evidence = Evidence(size=2, readers=(unseen,))
    order = removal(evidence, "l2")
    empty = moments(inputs(1, 4)[0])
    assert held_losses(evidence, order, [empty], (2, 1, 0), 0.1) == pytest.approx([0, 0.25, 0.75])
