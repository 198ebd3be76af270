"""What the tests of parts share: slices, and a check of a result against the original."""

import numpy as np
import onnx

from onnxopt.rules.unread import cuts
from onnxopt.testing import apply_rules, operators, random_feeds, run
from tests.rules.graphs import END, cut

RULES = (cuts.slice_before_computing, cuts.gather_before_computing)


def last(g, x, axis):
    return cut(g, x, axis, -1, END)


def check(model, rules=RULES, becomes=None, fires=True, feeds=None):
    """Apply the rules once and hold the result against the original; return what it became."""
    feeds = feeds or random_feeds(model)
    result, outcome = apply_rules(model, rules)
    assert not outcome.crashed, outcome.crashed
    assert bool(outcome.done) == fires, outcome.refused
    onnx.checker.check_model(result, full_check=True)
    for before, after in zip(run(model, feeds), run(result, feeds), strict=True):
        assert before.shape == after.shape
        np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)
    if becomes is not None:
        assert operators(result) == dict(becomes)
    return result


def sizes(model):
    """Return the shapes of the floating-point constants."""
    return sorted(tuple(t.dims) for t in model.graph.initializer if t.data_type == 1)
