"""What can be proven about shapes with names in them."""

import pytest

from onnxopt.graph import dims
from onnxopt.graph._onnx_ir import ir


def value(*shape):
    made = ir.Value(name="v")
    made.shape = ir.Shape(shape)
    return made


def test_names_are_equal_to_themselves_and_the_unknown_to_nothing():
    assert dims.same(3, 3)
    assert dims.same("batch", "batch")
    assert not dims.same("batch", "N")
    assert not dims.same(None, None)
    assert dims.same_shape(value("N", 2), value("N", 2))
    assert not dims.same_shape(value(None, 2), value(None, 2))
    assert not dims.same_shape(value(1, 2), value(2))


@pytest.mark.parametrize(
    ("shape", "other", "keeps"),
    [
        (("N", 3), (), True),
        (("N", 3), (3,), True),
        (("N", 3), (1, 1), True),
        (("N", 3), ("N", 3), True),
        (("N", 3), (2, 1), False),
        (("N", 1), (3,), False),
        ((3,), (1, 3), False),
        ((None, 3), (1, 3), True),
    ],
)
def test_broadcasting_keeps_a_shape_only_where_that_is_certain(shape, other, keeps):
    assert dims.broadcast_keeps(value(*shape), other) == keeps


@pytest.mark.parametrize(
    ("source", "wanted", "target"),
    [
        (("N", 6), ("N", 2, 3), (0, 2, 3)),
        ((1, "N", 4), ("N", 4), (-1, 4)),
        (("N", "M"), ("M", "N"), None),
        (("N", "M", 2), ("N", 2, "M"), (0, 2, -1)),
        ((2, 0), (0, 2), None),
        ((4,), (), ()),
    ],
)
def test_reshape_targets_copy_names_in_place_and_infer_one_dimension(source, wanted, target):
    assert dims.reshape_target(source, wanted) == target


def test_axes_are_counted_from_the_front():
    assert dims.normalized_axes([-1, 0], 3) == (0, 2)
    assert dims.normalized_axes([2, 1], None) == (1, 2)
    assert dims.normalized_axes([-1], None) is None
    assert dims.normalized_axes([0, -3], 3) is None
