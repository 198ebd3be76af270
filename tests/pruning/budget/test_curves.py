from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.pruning.budget.curves import curve, multiple_for, widths_of
from onnxopt.runtime.machine.isa import Processor
from tests.pruning.budget.nets import group

WIDE = Processor(name="x", architecture="x86_64", features=("avx2", "avx512f"), cores=1)
NARROW = Processor(name="x", architecture="x86_64", features=("avx2",), cores=1)

losses = st.lists(st.floats(0, 1e6) | st.just(float("nan")), min_size=1, max_size=30)


def channels(size, places=1, kind="channels"):
    units = np.repeat(np.arange(size), places)
    return group("g", size, {("n", 1, 0): (units, "writes")}, {"n": (1, units)}, kind=kind)


def test_widths_are_multiples_of_what_kernels_work_on():
    assert multiple_for("cpu", WIDE) == 16
    assert multiple_for("cpu", NARROW) == 8
    assert multiple_for("portable", WIDE) == multiple_for("cuda", WIDE) == 8
    assert multiple_for("tensorrt", WIDE) == 8
    assert widths_of(channels(32), 8) == (32, 24, 16, 8)
    assert widths_of(channels(100), 16) == (100, 96, 80, 64, 48, 32, 16)


def test_small_groups_go_in_small_steps():
    assert widths_of(channels(12), 16) == (12, 10, 8, 6, 4, 2)
    assert widths_of(channels(5), 8) == (5, 4, 3, 2, 1)
    assert widths_of(channels(1), 8) == (1,)


def test_groups_of_a_multiple_keep_one_unless_small_steps_are_allowed():
    assert widths_of(channels(31), 16) == (31, 16)
    assert widths_of(channels(16), 16) == (16,)
    assert widths_of(channels(31), 16, small=True) == (31, 28, 24, 20, 16, 12, 8, 4)
    assert widths_of(channels(16), 16, small=True) == (16, 12, 8, 4)
    assert widths_of(channels(32), 16, small=True) == (32, 16)


def test_only_all_places_of_a_unit_have_to_come_to_a_multiple():
    assert widths_of(channels(6, places=64, kind="heads"), 16) == (6, 5, 4, 3, 2, 1)
    assert widths_of(channels(16, places=4), 8) == (16, 14, 12, 10, 8, 6, 4, 2)
    assert widths_of(channels(32, places=4, kind="state"), 8) == (32, 24, 16, 8)


def test_some_units_always_stay():
    assert widths_of(channels(32), 8, least=10) == (32, 24, 16)
    assert widths_of(channels(32), 8, least=33) == (32,)


@given(st.integers(1, 200), st.sampled_from([1, 4, 8, 16, 32]), st.integers(1, 8))
def test_widths_fall_from_all_and_never_to_nothing(size, multiple, places):
    found = widths_of(channels(size, places), multiple)
    assert found[0] == size
    assert all(one > other > 0 for one, other in pairwise(found))


@given(losses)
def test_losses_never_fall_and_start_at_nothing(measured):
    found = curve("g", [0.0, *measured], [1])
    assert found.loss(found.size) == 0
    assert np.all(found.losses[1:] >= found.losses[:-1])
    assert found.widths[0] == found.size


@given(losses)
def test_the_hull_is_convex_and_touches_from_below(measured):
    found = curve("g", [0.0, *measured], [])
    known = np.isfinite(found.hull)
    assert np.array_equal(known, np.isfinite(found.losses))
    hull = found.hull[known]
    assert np.all(hull <= found.losses[known] * (1 + 1e-9) + 1e-9)
    assert np.all(np.diff(hull, 2) >= -1e-6 * (1 + hull.max()))
    assert hull[-1] == found.losses[known][-1]


def test_what_a_convex_curve_loses_is_its_hull():
    found = curve("g", [0.0, 1.0, 4.0, 9.0], [2, 1])
    assert found.hull == pytest.approx(found.losses)
    assert found.loss(1) == 4.0
    assert curve("g", [0.0, 3.0, 4.0, 9.0], []).hull == pytest.approx([0, 2, 4, 9])
