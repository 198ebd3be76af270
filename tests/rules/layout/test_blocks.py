import numpy as np
import pytest

from onnxopt.rules.layout import blocks
from onnxopt.testing import assert_rewrites, assert_untouched
from tests.rules.graphs import Graph

RULES = (blocks.fuse_space_to_depth, blocks.fuse_depth_to_space)
FREE = ("free batch",)


def rearranged(shape, split, perm, join, opset=17, dtype=1):
    g = Graph(opset)
    x = g.input("x", *shape, dtype=dtype)
    turned = g.Transpose(g.Reshape(x, np.array(split)), perm=perm)
    return g.model(g.Reshape(turned, np.array(join)), dtype=dtype)


def space_to_depth(block, **options):
    shape, split = (2, 3, 2 * block, 4 * block), (2, 3, 2, block, 4, block)
    return rearranged(shape, split, [0, 3, 5, 1, 2, 4], (2, 3 * block**2, 2, 4), **options)


@pytest.mark.parametrize("block", [2, 3])
@pytest.mark.parametrize("opset", [7, 13, 20])
def test_space_to_depth(block, opset):
    model = space_to_depth(block, opset=opset)
    assert_rewrites(RULES, model, becomes=["SpaceToDepth"], without=("half precision",))


@pytest.mark.parametrize(
    ("split", "perm", "mode"),
    [
        ((2, 2, 2, 3, 4, 5), [0, 3, 4, 1, 5, 2], "DCR"),
        ((2, 3, 2, 2, 4, 5), [0, 1, 4, 2, 5, 3], "CRD"),
    ],
)
def test_depth_to_space(split, perm, mode):
    model = rearranged((2, 12, 4, 5), split, perm, (2, 3, 8, 10))
    without = ("half precision",)
    result = assert_rewrites(RULES, model, becomes=["DepthToSpace"], without=without)
    (node,) = result.graph.node
    assert {a.name: a.s.decode() for a in node.attribute if a.name == "mode"} == {"mode": mode}


def test_free_batch_is_kept():
    model = rearranged(("n", 3, 4, 6), (-1, 3, 2, 2, 3, 2), [0, 3, 5, 1, 2, 4], (-1, 12, 2, 3))
    assert_rewrites(RULES, model, becomes=["SpaceToDepth"], without=("half precision",))


@pytest.mark.parametrize(
    ("shape", "split", "perm", "join"),
    [
        # torch's pixel unshuffle: channels before blocks
        ((2, 3, 4, 6), (2, 3, 2, 2, 3, 2), [0, 1, 3, 5, 2, 4], (2, 12, 2, 3)),
        # the blocks come in the other order
        ((2, 3, 4, 6), (2, 3, 2, 2, 3, 2), [0, 5, 3, 1, 2, 4], (2, 12, 2, 3)),
        # blocks that are not square
        ((2, 3, 4, 6), (2, 3, 2, 2, 2, 3), [0, 3, 5, 1, 2, 4], (2, 18, 2, 2)),
        # split across rows
        ((2, 3, 8, 3), (2, 3, 2, 2, 3, 2), [0, 3, 5, 1, 2, 4], (2, 12, 2, 3)),
        # joined otherwise
        ((2, 3, 4, 6), (2, 3, 2, 2, 3, 2), [0, 3, 5, 1, 2, 4], (2, 12, 3, 2)),
        # the batch is split too
        ((4, 3, 4, 6), (2, 6, 2, 2, 3, 2), [0, 3, 5, 1, 2, 4], (2, 24, 2, 3)),
        # windows, as Swin makes them
        ((2, 4, 4, 3), (2, 2, 2, 2, 2, 3), [0, 1, 3, 2, 4, 5], (8, 4, 3)),
    ],
)
def test_other_moves_are_left_alone(shape, split, perm, join):
    assert_untouched(RULES, rearranged(shape, split, perm, join))


@pytest.mark.parametrize("dtype", [6, 10])
def test_types_without_a_kernel_are_left_alone(dtype):
    assert_untouched(RULES, space_to_depth(2, dtype=dtype))
