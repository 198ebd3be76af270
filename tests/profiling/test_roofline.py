"""How near work is to the ceiling."""

import math

import pytest

from onnxopt.profiling.roofline import CACHED, STREAMED, Work, bandwidth, reached
from onnxopt.report import Ceiling

MACHINE = Ceiling(provider="cpu", threads=1, gflops=100.0, gbs=20.0, cached_gbs=80.0)


def test_what_fits_the_caches_moves_faster():
    assert bandwidth(MACHINE, 1000) == bandwidth(MACHINE, CACHED) == 80
    assert bandwidth(MACHINE, STREAMED) == bandwidth(MACHINE, 10 * STREAMED) == pytest.approx(20)
    assert bandwidth(MACHINE, math.sqrt(CACHED * STREAMED)) == pytest.approx(40)


@pytest.mark.parametrize("cached", [math.nan, 5.0])
def test_a_small_copy_that_launching_slows_is_no_ceiling(cached):
    device = Ceiling(provider="cuda", threads=1, gflops=1e5, gbs=2000.0, cached_gbs=cached)
    assert bandwidth(device, 1000) == 2000


def test_half_of_the_ceiling_is_half():
    found = reached([Work(ms=2.0, macs=50_000_000, bytes=1000)], MACHINE)
    assert (found.gflops, found.gbs) == (pytest.approx(50), pytest.approx(0.0005))
    assert (found.of_ceiling, found.bound) == (pytest.approx(0.5), "compute")
    found = reached([Work(ms=0.1, macs=0, bytes=2_000_000)], MACHINE)
    assert (found.gflops, found.of_ceiling, found.bound) == (None, pytest.approx(0.25), "memory")


def test_each_part_has_its_own_bound():
    heavy = Work(ms=1.0, macs=25_000_000, bytes=8)
    light = Work(ms=3.0, macs=0, bytes=80_000, calls=2)
    found = reached([heavy, light], MACHINE)
    assert found.of_ceiling == pytest.approx((0.5 + 0.001) / 4)
    assert found.bound == "compute"


def test_calls_are_held_against_the_ceiling_of_their_own_size():
    whole = reached([Work(ms=100.0, macs=0, bytes=STREAMED)], MACHINE)
    parts = reached([Work(ms=100.0, macs=0, bytes=STREAMED, calls=1000)], MACHINE)
    assert whole.of_ceiling == pytest.approx(4 * parts.of_ceiling)


@pytest.mark.parametrize(
    ("work", "ceiling"),
    [
        (Work(ms=1.0, macs=None, bytes=8), MACHINE),
        (Work(ms=1.0, macs=8, bytes=None), MACHINE),
        (Work(ms=1.0, macs=0, bytes=0), MACHINE),
        (Work(ms=0.0, macs=8, bytes=8), MACHINE),
        (Work(ms=1.0, macs=8, bytes=8), None),
        (
            Work(ms=1.0, macs=8, bytes=8),
            Ceiling(provider="cpu", threads=1, gflops=math.nan, gbs=math.nan),
        ),
    ],
)
def test_nothing_is_claimed_where_work_or_ceiling_is_not_known(work, ceiling):
    found = reached([work], ceiling)
    assert (found.of_ceiling, found.bound) == (None, None)


def test_operators_with_an_unknown_node_claim_no_work():
    known = Work(ms=1.0, macs=1000, bytes=8)
    found = reached([known, Work(ms=1.0, macs=None, bytes=8)], MACHINE)
    assert (found.gflops, found.of_ceiling) == (None, None)
    assert found.gbs is not None
