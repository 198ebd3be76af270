"""Which samples are held back, and that none is on both sides."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxopt.errors import DataError
from onnxopt.judging.samples import Samples


def counted(count):
    return Samples(lambda: ({"x": number} for number in range(count)))


@given(st.integers(1, 200), st.one_of(st.none(), st.integers(1, 50)))
def test_no_sample_is_fitted_and_held(count, most):
    samples = counted(count)
    fitted = [feed["x"] for feed in samples.fitted(most)]
    held = [feed["x"] for feed in samples.held(most)]
    assert held
    assert fitted
    assert sorted(fitted) == fitted
    if most is not None:
        assert max(len(fitted), len(held)) <= most
    if count >= 4:
        assert not {*fitted} & {*held}
    if most is None and count >= 4:
        assert sorted(fitted + held) == list(range(count))


def test_a_quarter_is_held_back_in_two_blocks():
    held = [feed["x"] for feed in counted(80).held()]
    assert held == [*range(20, 30), *range(60, 70)]


@given(st.integers(1, 200), st.integers(1, 300))
def test_what_is_held_back_is_neither_fitted_nor_chosen_by(count, most):
    samples = counted(count)
    numbered = list(samples.numbered(most))
    places = [feed["x"] for _, feed in numbered]
    assert len(places) == min(most, count - samples.held_count)
    assert sorted(places) == places
    assert not any(samples.is_held(place) for place in places)
    assert [aside for aside, _ in numbered] == [samples.is_aside(place) for place in places]


def test_an_eighth_is_put_aside():
    assert [place for place in range(80) if counted(80).is_aside(place)] == [*range(40, 50)]
    assert not any(counted(7).is_aside(place) for place in range(7))


def test_few_samples_are_for_everything():
    samples = counted(2)
    assert samples.held_count == 0
    assert [feed["x"] for feed in samples.held()] == [0, 1]


def test_no_samples_are_said():
    with pytest.raises(DataError, match="no calibration samples"):
        counted(0)


def test_no_more_are_read_than_wanted():
    samples = Samples(lambda: ({"x": number} for number in range(10**9)), most=20)
    assert samples.count == 20
