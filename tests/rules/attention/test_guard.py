import numpy as np
import pytest

from onnxopt.rules.attention import guard
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, random_feeds, run
from tests.rules.attention.attention import Attention

RULE = guard.guard_by_mask
VARIED = ["overridable", "wrong constant"]


def product(a, mask=None):
    q = a.g.input("q", 2, 4, 3, 8)
    k = a.g.input("k", 2, 4, 8, 5)
    v = a.g.input("v", 2, 4, 5, 8)
    return a.g.MatMul(a.guarded(a.probabilities(q, k, mask=mask)), v)


def test_without_a_mask_the_guard_never_acts():
    a = Attention()
    assert_rewrites(RULE, a.g.model(product(a)), becomes=["MatMul", "Mul", "Softmax", "MatMul"])


@pytest.mark.parametrize("sizes", [(2, 1, 3, 5), (2, 1, 1, 5), (5,), (3, 5), (1, 4, 3, 5)])
def test_a_finite_mask_lets_it_never_act(sizes):
    a = Attention()
    model = a.g.model(product(a, a.hidden(*sizes, fill=-3.4e38)))
    result = assert_rewrites(RULE, model, loses=VARIED)
    assert "IsNaN" not in [node.op_type for node in result.graph.node]


@pytest.mark.parametrize("sizes", [(2, 1, 3, 5), (2, 1, 1, 5), (5,), (3, 5), (1, 4, 3, 5)])
def test_queries_that_see_nothing_still_give_zeros(sizes):
    a = Attention()
    model = a.g.model(product(a, a.hidden(*sizes)))
    assert_rewrites(RULE, model, loses=VARIED)
    result, outcome = apply_rules(model, [RULE])
    assert outcome.done
    feeds = random_feeds(model)
    feeds["seen"][..., :] = 0
    np.testing.assert_array_equal(run(result, feeds)[0], 0)
    feeds["seen"].reshape(-1)[0] = 1
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-5, atol=1e-6)


def test_masked_by_choice_is_not_understood():
    a = Attention()
    scores = a.g.Where(a.g.input("seen", 2, 1, 3, 5, dtype=9), a.g.input("s", 2, 4, 3, 5), -np.inf)
    p = a.g.Softmax(scores, axis=-1)
    assert_untouched(RULE, a.g.model(a.g.MatMul(a.guarded(p), a.g.input("v", 2, 4, 5, 8))))


def test_another_axis_or_another_number_is_left_alone():
    a = Attention()
    p = a.g.Softmax(a.g.MatMul(a.g.input("q", 2, 5, 8), a.g.input("k", 2, 8, 5)), axis=1)
    assert_untouched(RULE, a.g.model(a.g.MatMul(a.guarded(p), a.g.input("v", 2, 5, 8))))
    a = Attention()
    p = a.g.Softmax(a.g.MatMul(a.g.input("q", 2, 5, 8), a.g.input("k", 2, 8, 5)), axis=-1)
    other = a.g.Where(a.g.IsNaN(p), 0.5, p)
    assert_untouched(RULE, a.g.model(a.g.MatMul(other, a.g.input("v", 2, 5, 8))))


def test_what_is_finite_is_told_apart():
    a = Attention()
    g = a.g
    chosen = g.Where(g.input("seen", 1, 1, 1, 5, dtype=9), 0.0, np.float32(-1e9))
    spread = g.Expand(chosen, np.array([2, 1, 3, 5]))
    assert_rewrites(RULE, g.model(product(a, spread)), loses=VARIED)
    a = Attention()
    mask = a.g.input("mask", 2, 1, 3, 5)
    result = assert_rewrites(RULE, a.g.model(product(a, mask)))
    assert "ReduceMax" in [node.op_type for node in result.graph.node]
