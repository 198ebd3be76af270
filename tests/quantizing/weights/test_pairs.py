import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from onnxopt.quantizing.weights.limits import Plain
from onnxopt.quantizing.weights.pairs import AnyOrder, Pairs, limits_for
from onnxopt.runtime.machine.multiply import Kernels

BOUNDS = st.integers(1, 9).flatmap(
    lambda columns: nps.arrays(np.int64, columns, elements=st.integers(0, 255))
)


def integers(columns, rows=5):
    heavy = st.one_of(st.integers(-127, 127), st.integers(96, 127), st.integers(-127, -96))
    return nps.arrays(np.int32, (rows, columns), elements=heavy)


FEW = settings(max_examples=40)


@st.composite
def weights(draw):
    bounds = draw(st.one_of(BOUNDS, BOUNDS.map(lambda bounds: np.maximum(bounds, 250))))
    return bounds, draw(integers(len(bounds)))


def overflows(bounds, row):
    """What a kernel can meet, by trying the corners of all that its inputs can be."""
    found = []
    for j in range(0, len(row) - 1, 2):
        corners = [
            a * int(row[j]) + b * int(row[j + 1])
            for a in (0, int(bounds[j]))
            for b in (0, int(bounds[j + 1]))
        ]
        found.append(max(corners) > 32767 or min(corners) < -32768)
    return found


@FEW
@given(weights())
def test_a_pair_overflows_where_one_of_its_corners_does(drawn):
    bounds, rows = drawn
    found = Pairs(bounds).overflows(rows)
    assert found.tolist() == [overflows(bounds, row) for row in rows]
    assert Pairs(bounds).allow(rows).tolist() == [not any(overflows(bounds, row)) for row in rows]


@FEW
@given(weights())
def test_what_is_projected_is_allowed_and_what_was_allowed_stays(drawn):
    bounds, rows = drawn
    limits = Pairs(bounds)
    found = limits.project(rows)
    assert limits.allow(found).all()
    pairs = np.repeat(limits.overflows(rows), 2, axis=1)
    kept = np.ones(rows.shape, bool)
    kept[:, : pairs.shape[1]] = ~pairs
    assert (found[kept] == rows[kept]).all()
    assert (np.abs(found) <= np.abs(rows)).all()
    assert (found * rows >= 0).all()


@given(
    nps.arrays(np.int64, 2, elements=st.integers(120, 255)),
    nps.arrays(np.int32, 2, elements=st.integers(90, 127)),
    nps.arrays(np.float64, 2, elements=st.floats(1e-3, 1)),
    st.sampled_from((-1, 1)),
)
def test_no_other_integers_are_much_nearer(bounds, sizes, importance, sign):
    row = sign * sizes[None]
    found = Pairs(bounds, importance).project(row)
    first, second = np.meshgrid(np.arange(sizes[0] + 1), np.arange(sizes[1] + 1), indexing="ij")
    fits = bounds[0] * first + bounds[1] * second <= (32767 if sign > 0 else 32768)
    lost = importance[0] * (sizes[0] - first) ** 2 + importance[1] * (sizes[1] - second) ** 2
    assert (importance * (row - found) ** 2).sum() <= lost[fits].min() * 1.03 + 1e-9


@pytest.mark.parametrize("make", [Pairs, AnyOrder])
@FEW
@given(drawn=weights(), data=st.data())
def test_an_interval_is_what_is_allowed_and_no_less(make, drawn, data):
    bounds, rows = drawn
    limits = make(bounds)
    rows = limits.project(rows)
    column = data.draw(st.integers(0, len(bounds) - 1))
    low, high = limits.interval(rows, column)
    for ends, step in ((low, -1), (high, 1)):
        rows[:, column] = ends
        assert limits.allow(rows).all()
        rows[:, column] = ends + step
        assert not limits.allow(rows).any()


@FEW
@given(weights())
def test_in_no_order_does_what_suits_any_order_overflow(drawn):
    bounds, rows = drawn
    limits = AnyOrder(bounds)
    found = limits.project(rows)
    assert limits.allow(found).all()
    for shift in range(len(bounds)):
        assert Pairs(bounds).allow(np.roll(found, shift, axis=1)).all()
    fits = limits.allow(rows)
    assert (found[fits] == rows[fits]).all()


def test_of_any_order_one_weight_may_be_large():
    row = np.array([[127, 60, 1, 0, -3]])
    found = AnyOrder(np.full(5, 255)).project(row)
    two = np.sort(found[0])[-2:]
    assert two.sum() == 128
    assert found[0, 2:].tolist() == [1, 0, -3]
    options = [(127 - (128 - cap)) ** 2 + (60 - cap) ** 2 for cap in range(61) if cap >= 1]
    assert ((row - found) ** 2).sum() == min(options)


def test_groups_have_bounds_and_importance_of_their_own():
    bounds = np.array([[255, 255], [100, 100]])
    rows = np.full((4, 2), 127)
    found = Pairs(bounds, np.array([[1.0, 1e6], [1.0, 1.0]])).project(rows)
    assert found.tolist() == [[1, 127], [1, 127], [127, 127], [127, 127]]
    low, high = Pairs(bounds).interval(rows, 0)
    assert low.tolist() == [-127] * 4
    assert high.tolist() == [1, 1, 127, 127]


def test_counts_what_overflowed_and_what_still_does():
    limits = Pairs(np.full(5, 255))
    rounded = np.array([[127, 127, 100, 100, 127], [1, 2, 3, 4, 5], [-90, -90, 0, 0, 0]])
    found = limits.certificate(rounded, limits.project(rounded))
    assert (found.rows, found.pairs, found.overflowing) == (3, 6, 3)
    assert (found.remaining, found.rows_mended) == (0, 2)
    assert limits.certificate(rounded, rounded).remaining == 3


def test_int8_rows_do_not_overflow_in_the_arithmetic_itself():
    limits = Pairs(np.full(4, 255))
    rows = np.array([[127, 127, -127, -127]], np.int8)
    assert limits.overflows(rows).all()
    assert limits.allow(limits.project(rows)).all()
    assert limits.project(rows).dtype == np.int8
    assert AnyOrder(np.full(4, 255)).allow(AnyOrder(np.full(4, 255)).project(rows)).all()
    assert limits.interval(rows, 0)[1].tolist() == [1]


def test_what_is_allowed_follows_from_how_kernels_add():
    bounds = np.full(4, 255)
    exact = Kernels(isa="vnni", adds_in_16_bits=False)
    paired = Kernels(isa="avx2", adds_in_16_bits=True, exact=("depthwise Conv",))
    unordered = Kernels(isa="avx2", adds_in_16_bits=True, neighbours=False)
    assert isinstance(limits_for(exact, "Conv", bounds), Plain)
    assert isinstance(limits_for(paired, "Conv", bounds, depthwise=True), Plain)
    assert isinstance(limits_for(paired, "Conv", bounds), Pairs)
    assert isinstance(limits_for(unordered, "Conv", bounds), AnyOrder)
