import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnxopt.prune_config import IMPORTANCES
from onnxopt.pruning.weights.elements import ELEMENT_SCORES, above, fours, masks
from onnxopt.pruning.weights.sparse import by_fours, of_fours, of_mask, of_share, sparse
from onnxopt.quantizing.weights.gram import squared
from tests.pruning.weights.drawn import inputs, moments, rows

FEW = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 9999)


def gram_of(seed, columns, groups=1):
    return moments(inputs(seed, columns, groups=groups)[0]).centred()[0]


def decibels(found, weight, gram):
    return 10 * np.log10(squared(weight, gram).sum() / squared(weight - found, gram).sum())


@FEW
@given(seeds, st.floats(0, 0.99), st.sampled_from(["row", "layer", "global"]))
def test_masks_let_go_exactly_what_is_asked_for_and_the_least(seed, sparsity, scope):
    layers = [np.abs(rows(seed + n, 4, 6 + n)) for n in range(3)]
    kept = masks(layers, sparsity, scope)
    parts = {
        "row": [(mask, score) for m, s in zip(kept, layers, strict=True)
                for mask, score in zip(m, s, strict=True)],
        "layer": list(zip(kept, layers, strict=True)),
        "global": [(np.concatenate([m.ravel() for m in kept]),
                    np.concatenate([s.ravel() for s in layers]))],
    }[scope]  # fmt: skip
    for mask, score in parts:
        assert (~mask).sum() == round(sparsity * mask.size)
        if mask.any() and not mask.all():
            assert score[~mask].max() <= score[mask].min()


def test_a_threshold_lets_go_what_is_below():
    kept = above([np.array([[0.1, 0.5]]), np.array([[0.7, 0.49]])], 0.5)
    np.testing.assert_array_equal(np.concatenate(kept), [[False, True], [True, False]])


@FEW
@given(seeds, st.integers(1, 3), st.integers(1, 11))
def test_two_of_four_stay_along_the_channels_of_each_position(seed, positions, channels):
    scores = np.abs(rows(seed, 5, positions * channels))
    mask = fours(scores, channels)
    for at in range(positions):
        for start in range(at * channels, (at + 1) * channels - 3, 4):
            stop = min(start + 4, (at + 1) * channels)
            part, score = mask[:, start:stop], scores[:, start:stop]
            assert np.all(part.sum(axis=1) == 2)
            assert np.all(np.where(part, score, np.inf).min(1) >= np.where(part, 0, score).max(1))
        behind = at * channels + channels - channels % 4
        assert mask[:, behind : (at + 1) * channels].all()


@FEW
@given(
    seeds, st.integers(4, 40), st.integers(1, 2), st.floats(0, 0.9),
    st.sampled_from(["share", "fours", "mask"]),
)  # fmt: skip
def test_sparse_rows_never_lose_more_than_masking_does(seed, columns, groups, sparsity, kind):
    weight = rows(seed, 3 * groups, columns).astype(float)
    gram = gram_of(seed, columns, groups)
    given_mask = masks([np.abs(weight)], sparsity)[0]
    choice = {
        "share": of_share(sparsity, columns),
        "fours": of_fours(columns),
        "mask": of_mask(given_mask),
    }[kind]
    found = sparse(weight, gram, choice)
    assert np.all(found.rows[~found.kept] == 0)
    masked = np.where(found.kept, weight, 0)
    assert np.all(squared(weight - found.rows, gram) <= squared(weight - masked, gram))
    if kind == "mask":
        np.testing.assert_array_equal(found.kept, given_mask)
    if kind == "share":
        assert (~found.kept).sum() == round(sparsity * found.kept.size)


@pytest.mark.parametrize("channels", [None, 10, 70])
def test_two_of_four_are_exact_and_well_above_magnitude(channels):
    columns = 140
    weight, gram = rows(0, 16, columns), gram_of(0, columns)
    found = sparse(weight, gram, of_fours(columns, channels))
    run = channels or columns
    by_four = found.kept.reshape(16, -1, run)[:, :, : run - run % 4].reshape(16, -1, 4)
    assert np.all(by_four.sum(axis=2) == 2)
    assert found.kept.reshape(16, -1, run)[:, :, run - run % 4 :].all()
    plain = np.where(fours(np.abs(weight), channels), weight, 0)
    assert decibels(found.rows, weight, gram) >= decibels(plain, weight, gram) + 3


@FEW
@given(seeds, st.integers(4, 40), st.integers(1, 2), st.sampled_from([0.001, 0.1, 1.0]))
def test_another_mask_of_fours_is_exact_and_never_loses_more(seed, columns, groups, ridge):
    weight = rows(seed, 3 * groups, columns).astype(float)
    gram = gram_of(seed, columns, groups)
    once = sparse(weight, gram, of_fours(columns), ridge=ridge)
    found = sparse(weight, gram, of_fours(columns), ridge=ridge, project=by_fours())
    assert np.all(squared(weight - found.rows, gram) <= squared(weight - once.rows, gram))
    assert np.all(found.rows[~found.kept] == 0)
    whole = columns - columns % 4
    assert np.all(found.kept[:, :whole].reshape(-1, 4).sum(axis=1) == 2)
    assert found.kept[:, whole:].all()


def test_another_mask_loses_less_where_there_are_many_columns():
    weight, gram = rows(0, 16, 140), gram_of(0, 140)
    once = sparse(weight, gram, of_fours(140, 70), ridge=0.01)
    found = sparse(weight, gram, of_fours(140, 70), ridge=0.01, project=by_fours(70))
    assert (found.kept == fours(np.abs(found.rows), 70)).all()
    assert decibels(found.rows, weight, gram) >= decibels(once.rows, weight, gram) + 0.3


def test_the_rows_are_near_the_best_with_their_mask():
    weight, gram = rows(1, 4, 30), gram_of(1, 30).astype(float)
    found = sparse(weight, gram, of_share(0.5, 30), ridge=1e-4, iterations=60)
    for row, made, kept in zip(weight, found.rows, found.kept, strict=True):
        best = np.linalg.solve(gram[0][np.ix_(kept, kept)], gram[0][kept] @ row)
        least = np.zeros(30)
        least[kept] = best
        lost = squared((row - least)[None], gram)
        assert squared((row - made)[None], gram) <= 1.05 * lost


def test_every_importance_of_elements_has_scores_of_their_form():
    x, _ = inputs(2, 6, groups=2)
    weight = rows(2, 4, 6)
    assert set(ELEMENT_SCORES) <= set(IMPORTANCES)
    for score in ELEMENT_SCORES.values():
        assert score(weight, moments(x)).shape == weight.shape
        np.testing.assert_array_equal(score(weight, None), np.abs(weight))


def test_second_order_is_what_an_element_costs_when_its_row_makes_up_for_it():
    weight, gram = rows(3, 2, 5), gram_of(3, 5)[0].astype(float)
    x, _ = inputs(3, 5)
    found = ELEMENT_SCORES["obs"](weight, moments(x))
    h = gram + 0.1 * np.trace(gram) / 5 * np.eye(5)
    for column in range(5):
        others = np.delete(np.arange(5), column)
        moved = np.linalg.solve(h[np.ix_(others, others)], h[others, column])
        left = h[column, column] - h[column, others] @ moved
        np.testing.assert_allclose(found[:, column] ** 2, weight[:, column] ** 2 * left, rtol=1e-4)


def test_columns_in_another_order_are_two_of_four_of_others_but_a_mask_stays_a_mask():
    weight, gram = rows(4, 4, 12), gram_of(4, 12)
    kept = masks([np.abs(weight)], 0.5)[0]
    turn = np.random.default_rng(4).permutation(12)
    straight = sparse(weight, gram, of_mask(kept), iterations=60)
    turned = sparse(
        weight[:, turn], gram[:, turn][:, :, turn], of_mask(kept[:, turn]), iterations=60
    )
    np.testing.assert_allclose(turned.rows, straight.rows[:, turn], atol=1e-2)
