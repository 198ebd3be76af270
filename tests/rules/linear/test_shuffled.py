import numpy as np
import pytest

from onnxopt.rules.linear import shuffled
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (shuffled.fold_channel_shuffle_into_conv, shuffled.fold_gathered_channels_into_conv)


def shuffle(split=(2, 3, 2, 5, 4), perm=(0, 2, 1, 3, 4), batch=2, bias=True, channels=6, **options):
    g = Graph()
    x = g.input("x", batch, 6, 5, 4)
    turned = g.Transpose(g.Reshape(x, np.array(split)), perm=list(perm))
    mixed = g.Reshape(turned, np.array([2 if batch == 2 else -1, 6, 5, 4]))
    weights = [g.weight(8, channels, 3, 3), *([g.weight(8)] if bias else [])]
    return g.model(g.Conv(mixed, *weights, pads=[1] * 4, **options))


@pytest.mark.parametrize("bias", [True, False])
def test_shuffle_goes_into_the_weight(bias):
    assert_rewrites(RULES, shuffle(bias=bias), becomes=["Conv"])


def test_free_batch_is_kept():
    assert_rewrites(RULES, shuffle(split=(-1, 3, 2, 5, 4), batch="n"), becomes=["Conv"])


def test_over_one_axis():
    g = Graph()
    x = g.input("x", 1, 6, 7)
    turned = g.Transpose(g.Reshape(x, np.array([1, 2, 3, 7])), perm=[0, 2, 1, 3])
    mixed = g.Reshape(turned, np.array([1, 6, 7]))
    assert_rewrites(RULES, g.model(g.Conv(mixed, g.weight(4, 6, 3))), becomes=["Conv"])


def test_groups_see_other_channels():
    assert_untouched(RULES, shuffle(group=2, channels=3))


@pytest.mark.parametrize(
    ("split", "perm"),
    [((2, 3, 2, 5, 4), (0, 1, 2, 3, 4)), ((2, 3, 2, 5, 4), (0, 2, 1, 4, 3))],
)
def test_other_moves_are_left_alone(split, perm):
    assert_untouched(RULES, shuffle(split=split, perm=perm))


def test_rows_that_are_shuffled_with_channels_are_left_alone():
    g = Graph()
    x = g.input("x", 2, 6, 5, 4)
    turned = g.Transpose(g.Reshape(x, np.array([2, 3, 10, 4])), perm=[0, 2, 1, 3])
    mixed = g.Reshape(turned, np.array([2, 6, 5, 4]))
    assert_untouched(RULES, g.model(g.Conv(mixed, g.weight(8, 6, 1, 1))))


@pytest.mark.parametrize("order", [[2, 0, 1, 3], [-1, 0, 1, 2]])
def test_gathered_channels(order):
    g = Graph()
    mixed = g.Gather(g.input("x", 2, 4, 5, 5), np.array(order), axis=1)
    model = g.model(g.Conv(mixed, g.weight(3, 4, 1, 1), g.weight(3)))
    assert_rewrites(RULES, model, becomes=["Conv"])


@pytest.mark.parametrize("order", [[0, 0, 1, 2], [0, 1, 2]])
def test_channels_that_are_missing_or_doubled_are_left_alone(order):
    g = Graph()
    mixed = g.Gather(g.input("x", 2, 4, 5, 5), np.array(order), axis=1)
    assert_untouched(RULES, g.model(g.Conv(mixed, g.weight(3, len(order), 1, 1))))


def test_large_weight_that_others_read_is_not_kept_twice():
    g = Graph()
    x = g.input("x", 1, 128, 3, 3)
    mixed = g.Gather(x, np.arange(128)[::-1].copy(), axis=1)
    weight = g.weight(256, 128, 1, 1)
    assert_untouched(RULES, g.model(g.Add(g.Conv(mixed, weight), g.Conv(x, weight))))
