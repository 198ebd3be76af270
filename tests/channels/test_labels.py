"""Labels: what is tied has one scale, what meets its inverse none; shapes carry labels along."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.channels.labels import FROZEN, Labels
from onnxopt.channels.moving import reshaped


def test_tied_labels_share_a_scale_and_inverses_go_the_other_way():
    labels = Labels()
    one, other, third = (labels.fresh((3,)) for _ in range(3))
    labels.tie(one, other)
    labels.tie(other, third, inverse=True)
    solved = labels.solve()
    assert solved.sizes.tolist() == [3]
    assert solved.places(one, 0).tolist() == solved.places(other, 0).tolist() == [0, 1, 2]
    assert solved.places(third, 0).tolist() == solved.places(one, 0, divide=True).tolist()
    assert solved.places(third, 0).tolist() == [3, 4, 5]


def test_a_frozen_label_freezes_what_is_tied_to_it():
    labels = Labels()
    one, other = labels.fresh((3,)), labels.fresh((3,))
    labels.tie(one, other, inverse=True)
    labels.freeze(other[1:2])
    solved = labels.solve()
    assert solved.places(one, 0).tolist() == [0, 4, 1]
    assert labels.all_frozen(np.array([FROZEN, other[1]]))


def test_bounds_meet_in_the_scale_that_they_are_about():
    labels = Labels()
    one, other = labels.fresh((2,)), labels.fresh((2,))
    labels.tie(one, other, inverse=True)
    labels.bound(one, np.array([0.25, 0.5]))
    labels.bound(other, np.array([0.1, 0.2]))
    solved = labels.solve()
    assert solved.least.tolist() == [0.25, 0.5]
    assert solved.most.tolist() == [10.0, 5.0]


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.booleans()), max_size=15),
    st.sets(st.integers(0, 9)),
)
def test_any_ties_hold_for_any_scales(ties, frozen):
    labels = Labels()
    ten = labels.fresh((10,))
    for one, other, inverse in ties:
        labels.tie(ten[one], ten[other], inverse=inverse)
    for one in frozen:
        labels.freeze(ten[one])
    solved = labels.solve()
    if not solved.groups(ten):
        return
    scales = np.arange(2.0, 2.0 + solved.sizes[0])
    factors = np.r_[scales, 1 / scales, 1.0][solved.places(ten, 0)]
    for one, other, inverse in ties:
        expected = 1 / factors[other] if inverse else factors[other]
        assert math.isclose(factors[one], expected)
    assert all(factors[one] == 1.0 for one in frozen)


@st.composite
def reshapes(draw):
    """Draw a shape, another of the same size, and labels along some axes of the first."""
    parts = draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    cuts = [draw(st.lists(st.booleans(), min_size=len(parts), max_size=len(parts))) for _ in "ab"]
    shapes = [_grouped(parts, cut) for cut in cuts]
    differ = [size if draw(st.booleans()) else 1 for size in shapes[0]]
    return shapes[0], shapes[1], np.arange(1, 1 + math.prod(differ)).reshape(differ)


def _grouped(parts, cuts):
    shape = [1]
    for part, cut in zip(parts, cuts, strict=True):
        if cut:
            shape.append(part)
        else:
            shape[-1] *= part
    return tuple(shape)


@given(reshapes())
def test_labels_move_as_the_elements_do(case):
    old, new, labels = case
    moved = reshaped(labels, old, new)
    expected = np.broadcast_to(labels, old).reshape(new)
    assert moved is not None
    assert (np.broadcast_to(moved, new) == expected).all()


def test_unknown_dimensions_may_stay_where_they_are():
    heads = reshaped(np.arange(6), ("batch", "tokens", 6), ("batch", "tokens", 2, 3))
    assert heads.shape == (2, 3)
    pixels = reshaped(np.arange(4).reshape(4, 1, 1), ("b", 4, "h", "w"), ("b", 4, None))
    assert pixels.shape == (1, 4, 1)
    assert reshaped(np.arange(4).reshape(4, 1, 1), ("b", 4, "h", "w"), ("b", None)) is None
    assert reshaped(np.arange(4), ("b", 4), (None,)) is None
