import numpy as np
import pytest

from onnxopt.rules.attention import rotary
from onnxopt.rules.layout import slices
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, random_feeds, run
from tests.rules.attention.attention import PART, shape
from tests.rules.graphs import Graph

RULE = rotary.fuse_rotary_embedding
LOSES = ["overridable", "wrong constant", "half precision", "read twice", "also an output"]


def halves(g, x, size=8, swapped=False):
    low = g.Slice(x, shape(0), shape(size // 2), shape(3))
    high = g.Slice(x, shape(size // 2), shape(2**31), shape(3))
    return g.Concat(*((g.Neg(low), high) if swapped else (g.Neg(high), low)), axis=-1)


def angles(g, tokens, batch=1, twice=True):
    phi = g.input("phi", batch, tokens, 4)
    other = phi if twice else g.Mul(phi, 2.0)
    both = g.Concat(phi, other, axis=-1)
    return [g.Unsqueeze(g.node(curve, both), shape(1)) for curve in ("Cos", "Sin")]


def turned(g, x, cosines, sines, **options):
    return g.Add(g.Mul(x, cosines), g.Mul(halves(g, x, **options), sines))


@pytest.mark.parametrize("batch", [1, 2])
def test_parted_queries(batch):
    g = Graph()
    model = g.model(turned(g, g.input("x", 2, 3, 5, 8), *angles(g, 5, batch)))
    result = assert_rewrites(RULE, model, target="cpu", loses=LOSES)
    assert "RotaryEmbedding" in [node.op_type for node in result.graph.node]


def test_packed_queries_are_turned_before_they_are_parted():
    g = Graph()
    parted = g.Reshape(g.input("x", 2, 5, 24), shape(0, 0, 3, 8))
    x = g.Transpose(parted, perm=PART)
    model = g.model(turned(g, x, *angles(g, 5)))
    result = assert_rewrites(RULE, model, target="cpu", loses=LOSES)
    kinds = [node.op_type for node in result.graph.node]
    assert kinds.index("RotaryEmbedding") < kinds.index("Transpose")


def test_constant_angles():
    g = Graph()
    phi = np.random.default_rng(0).standard_normal((1, 1, 5, 4))
    tables = [g.const(np.concatenate([f(phi), f(phi)], -1)) for f in (np.cos, np.sin)]
    model = g.model(turned(g, g.input("x", 2, 3, 5, 8), *tables))
    assert_rewrites(RULE, model, target="cpu", loses=LOSES)


def test_after_the_slices_became_a_split():
    g = Graph()
    model = g.model(turned(g, g.input("x", "N", 3, "S", 8), *angles(g, "S")))
    rules = [slices.merge_slices_into_split, RULE]
    result, outcome = apply_rules(model, rules, "cpu")
    assert outcome.done["fuse_rotary_embedding"] == 1
    generator = np.random.default_rng(0)
    feeds = {
        "x": generator.standard_normal((2, 3, 6, 8)).astype(np.float32),
        "phi": generator.standard_normal((1, 6, 4)).astype(np.float32),
    }
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-5, atol=1e-6)


def test_the_operator_of_the_standard():
    for batch in (1, 2):
        g = Graph(23)
        model = g.model(turned(g, g.input("x", 2, 3, 5, 8), *angles(g, 5, batch)))
        result, outcome = apply_rules(model, [RULE], "portable")
        assert outcome.done["fuse_rotary_embedding"] == 1
        feeds = random_feeds(model)
        got, want = run(result, feeds)[0], run(model, feeds)[0]
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def test_what_turns_otherwise_is_left_alone():
    g = Graph()
    model = g.model(turned(g, g.input("x", 2, 3, 5, 8), *angles(g, 5), swapped=True))
    assert_untouched(RULE, model, target="cpu")
    g = Graph()
    model = g.model(turned(g, g.input("x", 2, 3, 5, 8), *angles(g, 5, twice=False)))
    assert_untouched(RULE, model, target="cpu")
    g = Graph()
    model = g.model(turned(g, g.input("x", 2, 3, 5, 8), *angles(g, 5)))
    for target in ("portable", "tensorrt"):
        assert_untouched(RULE, model, target=target)
