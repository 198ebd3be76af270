import numpy as np
import pytest

from onnxopt.quantizing.weights.pairs import Pairs
from onnxopt.quantizing.weights.permute import clipped, meeting_losses, pairing_order


def heavy_tailed(*shape, seed=0):
    return np.random.default_rng(seed).standard_t(2, shape)


def matchings(items):
    """Every way to pair off."""
    if not items:
        yield []
        return
    first, *others = items
    for mate in others:
        for rest in matchings([item for item in others if item != mate]):
            yield [(first, mate), *rest]


def lost(loss, order):
    return sum(loss[a, b] for a, b in zip(order[0::2], order[1::2], strict=False))


@pytest.mark.parametrize("seed", range(6))
def test_finds_the_best_of_all_pairings(seed):
    rows = heavy_tailed(40, 8, seed=seed)
    loss = meeting_losses(rows)
    best = min(sum(loss[pair] for pair in pairs) for pairs in matchings(list(range(8))))
    assert lost(loss, pairing_order(rows)) == pytest.approx(best)


@pytest.mark.parametrize("channels", [2, 7, 64, 65])
def test_returns_every_channel_once_and_never_loses_more(channels):
    rows = heavy_tailed(20, channels)
    order = pairing_order(rows)
    assert sorted(order) == list(range(channels))
    assert clipped(rows[:, order]) <= clipped(rows)


def test_what_a_meeting_costs_is_what_the_pair_is_clipped_by():
    rows = heavy_tailed(30, 2, 3)
    bounds, importance = np.array([255, 200]), np.array([1.0, 7.0])
    scales = np.abs(rows).max(axis=(1, 2)) / 150
    loss = meeting_losses(rows, bounds, importance, scales=scales)
    assert loss[0, 1] > 0
    assert loss[0, 1] == loss[1, 0]
    found = clipped(rows, bounds, importance, scales=scales)
    assert found == pytest.approx(loss[0, 1], rel=1e-4)


def test_clips_as_much_as_the_integers_are_shrunk():
    rows = heavy_tailed(50, 4, 3)
    scales = np.abs(rows).max(axis=(1, 2)) / 127
    integers = np.rint(rows / scales[:, None, None]).transpose(0, 2, 1).reshape(50, -1)
    limits = Pairs(np.full(12, 255))
    assert limits.overflows(integers).any()
    shrunk = (((limits.project(integers) - integers) * scales[:, None]) ** 2).sum()
    # The sum here is in real numbers, that of integers up to one step larger on each side.
    assert clipped(rows) == pytest.approx(shrunk, rel=0.1)
    assert clipped(rows) <= shrunk


def test_neighbours_are_those_of_the_kernel_across_positions():
    rows = np.zeros((1, 3, 2))
    rows[0, 2, 0] = rows[0, 0, 1] = 1.0  # columns 2 and 3 of six
    assert clipped(rows) > 0
    rows = np.zeros((1, 3, 2))
    rows[0, 1, 0] = rows[0, 2, 0] = 1.0  # columns 1 and 2
    assert clipped(rows) == 0


def test_separates_two_heavy_channels_and_leaves_light_ones_in_order():
    rows = np.full((4, 6), 0.001)
    rows[:, :2] = 1.0
    order = pairing_order(rows).tolist()
    assert order.index(0) // 2 != order.index(1) // 2
    light = np.full((4, 6), 0.001)
    light[:, 3] = 1.0
    assert pairing_order(light).tolist() == list(range(6))


def test_weights_of_other_signs_may_meet():
    rows = np.array([[1.0, -1.0, 1.0, -1.0]])
    order = pairing_order(rows)
    assert clipped(rows[:, order]) == 0
    assert clipped(rows[:, [0, 2, 1, 3]]) > 0


def test_the_odd_channel_is_last_and_alone():
    rows = np.array([[1.0, 1.0, 1.0, 0.001, 0.001]])
    order = pairing_order(rows)
    assert clipped(rows[:, order]) == 0
    assert order[-1] < 3


def test_important_inputs_and_small_bounds_are_counted():
    rows = np.ones((3, 4))
    bounds = np.array([255, 255, 3, 3])
    order = pairing_order(rows, bounds).tolist()
    assert order.index(0) // 2 != order.index(1) // 2
    assert clipped(rows[:, order], bounds[order]) == 0
    loss = meeting_losses(rows, importance=np.array([1.0, 1.0, 1e-6, 1e-6]))
    assert loss[0, 2] < loss[0, 1] * 0.01


def test_zeros_and_no_rows_change_nothing():
    assert pairing_order(np.zeros((3, 4))).tolist() == [0, 1, 2, 3]
    assert pairing_order(np.zeros((0, 4))).tolist() == [0, 1, 2, 3]
    assert pairing_order(np.ones((2, 1))).tolist() == [0]
