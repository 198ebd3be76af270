import numpy as np
import pytest

from onnxopt.rules.layout import regrouped
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULE = regrouped.transpose_without_grouping


def grouped(merged, perm, parted, shape=(2, 3, 4, 5)):
    g = Graph(17)
    x = g.input("x", *shape)
    y = g.Reshape(x, np.array(merged, np.int64))
    y = g.Transpose(y, perm=perm)
    return g.model(g.Reshape(y, np.array(parted, np.int64)))


@pytest.mark.parametrize(
    ("merged", "perm", "parted"),
    [
        ((6, 4, 5), (0, 2, 1), (2, 3, 5, 4)),
        ((-1, 4, 5), (0, 2, 1), (2, 3, 5, 4)),
        ((2, 12, 5), (0, 2, 1), (2, 5, 3, 4)),
        ((2, 60), (1, 0), (3, 4, 5, 2)),
    ],
)
def test_axes_that_are_merged_and_parted_again(merged, perm, parted):
    assert_rewrites(RULE, grouped(merged, perm, parted), becomes=["Transpose"])


@pytest.mark.parametrize(
    ("merged", "perm", "parted"),
    [
        ((6, 4, 5), (0, 2, 1), (3, 2, 5, 4)),
        ((6, 4, 5), (0, 2, 1), (2, 3, 20)),
        ((4, 6, 5), (0, 2, 1), (4, 5, 2, 3)),
        ((2, 3, 4, 5), (0, 1, 3, 2), (2, 3, 5, 4)),
    ],
)
def test_other_reshapes_stay(merged, perm, parted):
    assert_untouched(RULE, grouped(merged, perm, parted))


def test_names_are_enough():
    g = Graph(17)
    x = g.input("x", "N", 3, "S", 5)
    sizes = g.Shape(x)
    length = g.Slice(sizes, np.array([2]), np.array([3]))
    lead = g.Slice(sizes, np.array([0]), np.array([2]))
    y = g.Reshape(x, g.Concat(np.array([-1]), length, np.array([5]), axis=0))
    y = g.Transpose(y, perm=[0, 2, 1])
    model = g.model(g.Reshape(y, g.Concat(lead, np.array([5]), length, axis=0)))
    assert_rewrites(RULE, model, without=["also an output", "read twice", "overridable"])
