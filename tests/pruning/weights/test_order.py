import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.prune_config import IMPORTANCES as NAMES
from onnxopt.pruning.weights import downdate
from onnxopt.pruning.weights.evidence import Evidence, Reader, Writer
from onnxopt.pruning.weights.importance import IMPORTANCES
from onnxopt.pruning.weights.order import removal
from onnxopt.pruning.weights.refit import energies, noise, refit
from tests.pruning.weights.drawn import inputs, moments, rows

FEW = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 9999)
RIDGE = 0.01


def reader(seed, units, *, outputs=3, groups=1, off=0.0):
    x, q = inputs(seed, np.shape(units)[-1], groups=groups, off=off)
    weight = rows(seed, outputs * groups, np.shape(units)[-1])
    return Reader(rows=weight, units=np.asarray(units), moments=moments(x, q))


def drawn_units(seed, size, most=3):
    """Each unit some columns, in any order; some columns belong to no unit."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, most + 1, size=size)
    units = np.concatenate([np.repeat(np.arange(size), counts), np.full(rng.integers(3), -1)])
    return rng.permutation(units)


def loss(readers, gone, *, refitted=True):
    """The loss of all readers once units are gone, by refitting anew."""
    total = 0.0
    for part in readers:
        kept = ~np.isin(part.units, gone)
        made, shift = np.where(kept, part.rows, 0), np.zeros(len(part.rows))
        if refitted:
            found = refit(part.rows, kept, part.moments, ridge=RIDGE)
            made, shift = found.rows, found.shift
        lost = noise(made, shift, part.rows, part.moments)
        total += lost.sum() / energies(part.rows, part.moments).sum()
    return total


def cost(readers, gone):
    """What is to be least when a unit goes: the loss with its ridge, by refitting anew."""
    total = 0.0
    for part in readers:
        gram, cross = part.moments.centred()
        columns = np.flatnonzero(~np.isin(part.units, gone))
        h = gram[0][np.ix_(columns, columns)].astype(float)
        pull = RIDGE * np.trace(gram[0]) / len(gram[0])
        h += pull * np.eye(len(columns))
        rows_there = part.rows.astype(float)
        wanted = rows_there @ cross[0][:, columns] + pull * rows_there[:, columns]
        explained = np.sum(np.linalg.solve(h, wanted.T) * wanted.T)
        total -= explained / energies(part.rows, part.moments).sum()
    return total


@FEW
@given(seeds, st.integers(2, 6), st.integers(1, 2))
def test_obs_takes_what_costs_least_and_its_losses_are_those_of_refits(seed, size, count):
    readers = tuple(reader(seed + n, drawn_units(seed + n, size)) for n in range(count))
    found = removal(Evidence(size=size, readers=readers), "obs", RIDGE)
    gone = []
    for unit in found.order:
        costs = {other: cost(readers, [*gone, other]) for other in range(size) if other not in gone}
        assert costs[unit] <= min(costs.values()) + 1e-5
        gone.append(unit)
    expected = [loss(readers, found.order[:number]) for number in range(size + 1)]
    np.testing.assert_allclose(found.losses, np.maximum.accumulate(expected), rtol=1e-3, atol=1e-4)
    assert sorted(found.order) == list(range(size))


@FEW
@given(seeds, st.integers(2, 6), st.sampled_from([*IMPORTANCES]), st.booleans())
def test_the_losses_of_every_order_are_those_of_the_layer(seed, size, importance, refitted):
    readers = (reader(seed, drawn_units(seed, size)), reader(seed + 1, np.arange(size)))
    evidence = Evidence(size=size, readers=readers)
    found = removal(evidence, importance, RIDGE, refit=refitted)
    expected = [loss(readers, found.order[:n], refitted=refitted) for n in range(size + 1)]
    if refitted:
        expected = np.maximum.accumulate(expected)
    np.testing.assert_allclose(found.losses, expected, rtol=1e-3, atol=1e-3)


@FEW
@given(seeds, st.integers(1, 40))
def test_columns_that_wait_are_those_that_are_gone(seed, waiting):
    evidence = Evidence(size=30, readers=(reader(seed, drawn_units(seed, 30)),))
    whole = removal(evidence, "obs", RIDGE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(downdate, "_WAITING", waiting)
        found = removal(evidence, "obs", RIDGE)
    np.testing.assert_allclose(found.losses, whole.losses, rtol=1e-6, atol=1e-9)


@FEW
@given(seeds, st.integers(3, 8), st.sampled_from(["obs", "l2", "wanda", "activation"]))
def test_naming_units_otherwise_changes_nothing_else(seed, size, importance):
    units = drawn_units(seed, size)
    turn = np.random.default_rng(seed).permutation(size)
    first = reader(seed, units)
    second = Reader(
        rows=first.rows, units=np.where(units < 0, -1, turn[units]), moments=first.moments
    )
    found = removal(Evidence(size=size, readers=(first,)), importance, RIDGE)
    other = removal(Evidence(size=size, readers=(second,)), importance, RIDGE)
    np.testing.assert_array_equal(turn[found.order], other.order)
    np.testing.assert_allclose(found.losses, other.losses, rtol=1e-6, atol=1e-9)


def test_grouped_readers_are_many_small_problems():
    units = np.array([[0, 0, 1], [2, 3, 3]])
    x, q = inputs(5, 3, groups=2)
    weight, seen = rows(5, 4, 3), moments(x, q)
    found = removal(
        Evidence(size=4, readers=(Reader(rows=weight, units=units, moments=seen),)), "obs", RIDGE
    )
    for number in range(5):
        kept = ~np.isin(units, found.order[:number])
        lost = refit(weight, kept, seen, ridge=RIDGE).error.sum() / energies(weight, seen).sum()
        assert found.losses[number] == pytest.approx(lost, rel=1e-3, abs=1e-4)


def test_of_two_that_say_the_same_one_goes_for_nothing_and_the_other_stays():
    x, _ = inputs(6, 5)
    x[..., 1] = x[..., 0]
    weight = rows(6, 3, 5)
    weight[:, :2] *= 10
    evidence = Evidence(
        size=5, readers=(Reader(rows=weight, units=np.arange(5), moments=moments(x)),)
    )
    found = removal(evidence, "obs", 1e-6)
    assert found.order[0] in {0, 1}
    assert found.losses[1] < 1e-5
    assert {0, 1} - {int(found.order[0])} <= set(found.order[-2:].tolist())
    assert removal(evidence, "l2").order[-1] in {0, 1}
    assert found.kept(4).sum() == 4
    assert not found.kept(4)[found.order[0]]


def test_a_student_whose_inputs_are_off_starts_from_what_can_be_had():
    part = reader(7, np.arange(6), off=0.4)
    found = removal(Evidence(size=6, readers=(part,)), "obs", RIDGE)
    assert np.all(np.diff(found.losses) >= 0)
    assert found.losses[-1] == pytest.approx(1.0, abs=0.2)


def test_every_importance_has_its_name():
    assert {"auto", *IMPORTANCES} == set(NAMES)


@pytest.mark.parametrize("name", [*IMPORTANCES])
def test_an_importance_needs_no_samples_no_readers_and_no_scales(name):
    unseen = Reader(rows=rows(8, 3, 4), units=np.array([0, 1, 2, 2]))
    writer = Writer(rows=rows(9, 3, 5), units=np.arange(3))
    generator = np.random.default_rng(0)
    for evidence in (
        Evidence(size=3, readers=(unseen,)),
        Evidence(size=3, writers=(writer,)),
        Evidence(size=3, readers=(unseen,), writers=(writer,), scales=np.array([1.0, -2.0, 0.1])),
    ):
        scores = IMPORTANCES[name](evidence, generator)
        assert scores.shape == (3,)
        assert np.isfinite(scores).all()
        found = removal(evidence, name)
        assert found.losses[0] == pytest.approx(0, abs=1e-9)
        assert found.losses[-1] == pytest.approx(1.0)


def test_importances_are_what_their_sources_say():
    weight = np.array([[3.0, 1.0, -1.0], [4.0, 0.0, 2.0]], np.float32)
    x = np.array([[[[1.0, 10.0, 0.0], [-1.0, 10.0, 2.0]]]], np.float32)
    evidence = Evidence(
        size=3,
        readers=(Reader(rows=weight, units=np.arange(3), moments=moments(x)),),
        writers=(Writer(rows=np.ones((3, 2), np.float32), units=np.array([2, 1, 0])),),
        scales=np.array([-3.0, 2.0, 1.0]),
    )
    generator = np.random.default_rng(0)

    def of(name):
        return IMPORTANCES[name](evidence, generator)

    np.testing.assert_allclose(of("l1"), [9, 3, 5])
    np.testing.assert_allclose(of("l2"), np.sqrt([27, 3, 7]))
    np.testing.assert_allclose(of("activation"), [7, 10, 3 * np.sqrt(2)], rtol=1e-6)
    np.testing.assert_allclose(of("wanda"), [5, 10, np.sqrt(10)], rtol=1e-6)
    np.testing.assert_allclose(of("batchnorm"), [3, 2, 1])
    measured = Reader(
        rows=weight, units=np.arange(3), moments=moments(x), absolute=np.array([1.0, 10.0, 1.0])
    )
    found = IMPORTANCES["activation"](Evidence(size=3, readers=(measured,)), generator)
    np.testing.assert_allclose(found, [7, 10, 3])


def test_auto_is_obs_where_something_was_seen():
    part = reader(10, np.arange(6))
    evidence = Evidence(size=6, readers=(part,))
    np.testing.assert_array_equal(removal(evidence, "auto").order, removal(evidence, "obs").order)
    blind = Evidence(size=6, readers=(Reader(rows=part.rows, units=part.units),))
    np.testing.assert_array_equal(removal(blind, "auto").order, removal(blind, "l2").order)
