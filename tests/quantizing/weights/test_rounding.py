import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.quantizing.weights import rounding
from onnxopt.quantizing.weights.adaround import adaround
from onnxopt.quantizing.weights.descent import descend, refitted
from onnxopt.quantizing.weights.gptq import gptq
from onnxopt.quantizing.weights.gram import Moments, shrunk, squared
from onnxopt.quantizing.weights.limits import Plain
from onnxopt.quantizing.weights.pairs import AnyOrder, Pairs
from onnxopt.quantizing.weights.rounding import METHODS, Believed, choose, fit, integers
from onnxopt.quantizing.weights.scales import nearest, widest_scales

FEW = settings(max_examples=20, deadline=None)
LIMITS = {
    "plain": lambda columns: Plain(),
    "pairs": lambda columns: Pairs(np.full(columns, 255)),
    "any order": lambda columns: AnyOrder(np.full(columns, 255)),
}


def problem(seed, rows=6, columns=10, groups=1, samples=30):
    """Weights, and the moments of inputs that go together."""
    rng = np.random.default_rng(seed)
    mixed = rng.normal(size=(groups, samples, 3)) @ rng.normal(size=(groups, 3, columns))
    inputs = np.maximum(mixed + 0.3 * rng.normal(size=mixed.shape), 0)
    gram = np.einsum("gnc,gnd->gcd", inputs, inputs).astype(np.float32) / samples
    weights = rng.normal(size=(groups * rows, columns)).astype(np.float32)
    return weights, gram if groups > 1 else gram[0]


def lost(rows, whole, scales, gram):
    return squared(rows - whole * scales[:, None], gram)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("groups", [1, 3])
def test_integers_are_allowed_and_no_row_is_worse_than_nearest(method, limits, groups):
    rows, gram = problem(3, groups=groups)
    limits = limits(10)
    whole, scales = integers(rows, limits, Believed(gram), method)
    plain, own = integers(rows, limits, Believed(gram))
    assert whole.dtype == np.int8
    assert scales.dtype == np.float32
    assert limits.allow(whole).all()
    believed = shrunk(gram, 0.1, 0.3)
    before, after = lost(rows, plain, own, believed), lost(rows, whole, scales, believed)
    assert (after <= before * (1 + 1e-5)).all()
    assert method in {"nearest", "gptq"} or after.sum() < before.sum()


@FEW
@given(st.integers(0, 999), st.sampled_from(sorted(LIMITS)), st.sampled_from([1, 2]))
def test_descent_never_loses_and_ends_where_no_single_step_gains(seed, kind, groups):
    rows, gram = problem(seed, rows=3, columns=6, groups=groups)
    limits, scales = LIMITS[kind](6), widest_scales(rows) * np.float32(4)
    start = nearest(rows, scales, limits)
    found, steps = descend(rows, start, scales, limits, gram, sweeps=50, refit=False)
    assert limits.allow(found).all()
    np.testing.assert_array_equal(steps, scales)
    reached = lost(rows, found, scales, gram)
    assert (reached <= lost(rows, start, scales, gram)).all()
    for column, by in itertools.product(range(6), (-1, 1)):
        other = found.copy()
        other[:, column] += by
        ahead = lost(rows, other, scales, gram)
        assert (~limits.allow(other) | (ahead >= reached * (1 - 1e-3))).all()


def everything(rows, scales, limits, gram, near=2):
    """Return the least error of each row over all allowed integers near the weights."""
    best = []
    for row, scale in zip(rows, scales, strict=True):
        middle = np.rint(row / scale).astype(int)
        ranges = [range(max(m - near, -127), min(m + near, 127) + 1) for m in middle]
        tried = np.array(list(itertools.product(*ranges)))
        tried = tried[limits.allow(tried)]
        best.append(squared(row - tried * np.float32(scale), gram).min())
    return np.array(best)


def test_rounding_comes_near_to_the_best_of_all_integers():
    best, reached, plain = [], {"gptq": [], "descent": [], "adaround": []}, []
    for seed in range(12):
        rows, gram = problem(seed, rows=2, columns=4)
        limits, scales = Plain(), widest_scales(rows) * np.float32(12)
        start = gptq(rows, scales, limits, gram, dampening=1e-4)
        descended, _ = descend(rows, start, scales, limits, gram, refit=False)
        best.append(everything(rows, scales, limits, gram))
        plain.append(lost(rows, nearest(rows, scales, limits), scales, gram))
        reached["gptq"].append(lost(rows, start, scales, gram))
        reached["descent"].append(lost(rows, descended, scales, gram))
        reached["adaround"].append(lost(rows, adaround(rows, scales, limits, gram), scales, gram))
    least = np.sum(best)
    assert least <= np.sum(reached["descent"]) <= np.sum(reached["gptq"])
    assert np.sum(reached["descent"]) < 1.5 * least
    assert np.sum(reached["gptq"]) < 0.75 * np.sum(plain)
    assert np.sum(reached["adaround"]) < 0.85 * np.sum(plain)


def test_gptq_is_what_the_recursion_says():
    rows, gram = problem(0, rows=3, columns=7)
    scales = widest_scales(rows) * np.float32(6)
    damped = gram.astype(np.float64) + 0.01 * np.trace(gram) / 7 * np.eye(7)
    factor = np.linalg.cholesky(np.linalg.inv(damped)).T
    left, expected = rows.astype(np.float64), np.zeros((3, 7), int)
    for column in range(7):
        expected[:, column] = np.clip(np.rint(left[:, column] / scales), -127, 127)
        lack = (left[:, column] - expected[:, column] * scales) / factor[column, column]
        left[:, column:] -= lack[:, None] * factor[column, column:]
    found = gptq(rows, scales, Plain(), gram, by_weight=False)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fit", ["gptq", "descent"])
def test_blocks_do_not_show(fit, monkeypatch):
    rows, gram = problem(0, rows=4, columns=30, samples=200)
    scales = widest_scales(rows) * np.float32(4)

    def found():
        if fit == "gptq":
            return gptq(rows, scales, Plain(), gram)
        return descend(rows, nearest(rows, scales, Plain()), scales, Plain(), gram)[0]

    whole = found()
    monkeypatch.setattr(f"onnxopt.quantizing.weights.{fit}._BLOCK", 7)
    assert lost(rows, found(), scales, gram).sum() == pytest.approx(
        lost(rows, whole, scales, gram).sum(), rel=1e-3
    )


def test_groups_are_rounded_as_if_each_were_alone():
    rows, gram = problem(5, rows=4, groups=3)
    for made in (
        lambda part, own: gptq(part, widest_scales(part), Plain(), own, by_weight=False),
        lambda part, own: descend(
            part, nearest(part, widest_scales(part), Plain()), widest_scales(part), Plain(), own
        )[0],
    ):
        whole = made(rows, gram)
        alone = [made(rows[4 * g : 4 * g + 4], gram[g]) for g in range(3)]
        np.testing.assert_array_equal(whole, np.concatenate(alone))


def test_a_scale_is_fitted_to_integers_in_closed_form():
    rows, gram = problem(1)
    scales = widest_scales(rows) * np.float32(5)
    whole = nearest(rows, scales, Plain())
    found = refitted(rows, whole, scales, gram)
    reached = lost(rows, whole, found, gram)
    for factor in (0.98, 1.02):
        assert (lost(rows, whole, found * np.float32(factor), gram) > reached).all()
    assert (refitted(rows, np.zeros_like(whole), scales, gram) == scales).all()


def test_a_refitted_scale_keeps_its_bound():
    rows, gram = problem(1)
    least = widest_scales(rows) * np.float32(3)
    for method in METHODS:
        whole, scales = integers(rows, Plain(), Believed(gram), method, least=least)
        assert (scales >= least).all()
        assert np.abs(whole).max() <= 127


@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_dead_inputs_are_no_trouble(method):
    rows, gram = problem(1)
    rows[2], gram[4], gram[:, 4] = 0, 0, 0
    whole, scales = integers(rows, Plain(), None if gram is None else Believed(gram), method)
    assert not whole[2].any()
    assert scales[2] == 1
    assert np.isfinite(scales).all()
    # What was never there in the samples is rounded to the nearest: it may come yet.
    far = np.abs(rows[:, 4] - whole[:, 4] * scales)
    assert (far <= 0.501 * scales).all()
    whole, scales = integers(rows, Plain(), Believed(np.zeros_like(gram)), method)
    assert np.isfinite(scales).all()


@pytest.mark.parametrize("gram", [None, np.linspace(1, 2, 10, dtype=np.float32)])
@pytest.mark.parametrize("method", METHODS)
def test_without_knowledge_of_pairs_rounding_is_nearest(method, gram):
    rows, _ = problem(1)
    whole, scales = integers(rows, Plain(), None if gram is None else Believed(gram), method)
    np.testing.assert_array_less(np.abs(rows / scales[:, None] - whole)[np.abs(whole) < 127], 0.51)


def test_the_choice_is_what_does_best_on_held_out_samples():
    rows, gram = problem(7, rows=20, samples=4000)
    seen = Moments(gram=gram)
    way = choose(rows, Plain(), seen, seen)
    assert way.method == "descent"
    assert way.ridge == min(0.03, 0.3, 3.0)
    assert way.lost < 0.7 * way.nearest
    found = fit(way, rows, Plain(), seen)
    assert way.lost == pytest.approx(lost(rows, *found, gram).sum(), rel=1e-3)


@pytest.mark.parametrize("groups", [1, 2])
def test_ways_are_tried_with_some_rows_of_each_group(groups, monkeypatch):
    """No row depends on another one, so the first few of each group stand for themselves."""
    rows, gram = problem(3, rows=9, groups=groups, samples=400)
    seen = Moments(gram=gram)
    least = np.linspace(0.001, 0.1, len(rows), dtype=np.float32)
    monkeypatch.setattr(rounding, "_TRIED", 3)
    monkeypatch.setattr(rounding, "_LARGE", 1)
    way = choose(rows, Plain(), seen, seen, least=least)
    few = [group * 9 + place for group in range(groups) for place in (0, 4, 8)]
    whole, scales = fit(way, rows, Plain(), seen, least=least)
    difference = rows - whole * scales[:, None]
    assert way.lost == pytest.approx(squared(difference[few], gram).sum(), rel=1e-3)


def test_samples_that_tell_nothing_of_others_leave_the_nearest():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(40, 16)).astype(np.float32)
    one = rng.normal(size=(1, 16)).astype(np.float32)
    alone = Moments(gram=one.T @ one)
    way = choose(rows, Plain(), alone, Moments(gram=np.eye(16, dtype=np.float32)))
    assert way.method == "nearest"
    assert way.ridge is None
    assert way.lost == way.nearest


def test_rows_make_up_for_what_the_layers_in_front_have_lost():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(8, 6)).astype(np.float32)

    def met(samples):
        x = rng.normal(size=(samples, 6))
        seen = 0.8 * x + 0.05 * rng.normal(size=x.shape)
        return Moments(
            gram=(seen.T @ seen / samples).astype(np.float32),
            off=((x - seen).T @ seen / samples).astype(np.float32),
        )

    way = choose(rows, Plain(), met(5000), met(5000))
    assert way.aimed
    assert way.lost < -1 < way.nearest
    whole, scales = fit(way, rows, Plain(), met(5000))
    assert np.median(whole * scales[:, None] / rows) == pytest.approx(1 / 0.8, rel=0.02)
