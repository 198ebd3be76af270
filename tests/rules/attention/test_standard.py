import numpy as np
import pytest

from onnxopt.rules.attention import standard
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, random_feeds, run
from tests.rules.attention.attention import PART, shape
from tests.rules.graphs import Graph

RULE = standard.respell_attention_by_the_standard
OPTIONS = {
    "target": "cpu",
    "loses": ["overridable", "half precision"],
    "without": ["also an output", "read twice"],
}


def attention(opset=23, mask=None, more=(), grouped=False, **attributes):
    g = Graph(opset)
    q = g.input("q", 2, 3, 32)
    if grouped:
        keys = [repeated(g, g.input(name, 2, 5, 16)) for name in "kv"]
    else:
        keys = [g.input(name, 2, 5, 32) for name in "kv"]
    inputs = [q, *keys, None, None, mask and g.input("mask", *mask), *more]
    options = {"num_heads": 4, "scale": 0.3, **attributes}
    y = g.MultiHeadAttention(*inputs, domain="com.microsoft", **options)
    model = g.model(y)
    for size in (2, 3, 32):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=size)
    return model


def repeated(g, packed):
    few = g.Transpose(g.Reshape(packed, shape(0, 0, 2, 8)), perm=PART)
    return g.Reshape(g.Expand(g.Unsqueeze(few, shape(2)), shape(2, 2, 2, 5, 8)), shape(2, 4, 5, 8))


@pytest.mark.parametrize("mask", [None, (2, 1, 3, 5), (1, 4, 3, 5)])
def test_packed_operands(mask):
    wanted = ["Attention"] if mask is None else ["Max", "Attention"]
    assert_rewrites(RULE, attention(mask=mask), becomes=wanted, **OPTIONS)


def test_without_a_scale_both_have_the_same():
    assert_rewrites(RULE, attention(scale=None), becomes=["Attention"], **OPTIONS)
    assert_rewrites(RULE, attention(scale=0.0), becomes=["Attention"], **OPTIONS)


def test_queries_that_see_no_key_are_treated_alike():
    model = attention(mask=(2, 1, 3, 5))
    result, outcome = apply_rules(model, [RULE], "cpu")
    assert outcome.done
    feeds = random_feeds(model)
    feeds["mask"][0, 0, 1] = np.finfo(np.float32).min
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-5)


def test_heads_that_were_repeated_are_not_any_more():
    model = attention(mask=(2, 1, 3, 5), grouped=True)
    assert_rewrites(RULE, model, becomes=["Max", "Attention"], **OPTIONS)


def test_what_the_standard_does_not_have_stays():
    assert_untouched(RULE, attention(unidirectional=1), target="cpu")
    assert_untouched(RULE, attention(opset=22), target="cpu")
    for target in ("portable", "cuda"):
        assert_untouched(RULE, attention(), target=target)
