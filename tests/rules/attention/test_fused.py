import numpy as np
import pytest
from onnx import TensorProto

from onnxopt.rules.attention import fused, guard
from onnxopt.rules.layout import reshapes
from onnxopt.testing import apply_rules, assert_rewrites, assert_untouched, random_feeds, run
from tests.rules.attention.attention import PART, Attention, shape

RULES = [fused.fuse_multi_head_attention, reshapes.merge_reshapes]
VARIED = ["overridable", "wrong constant", "half precision"]
MHA = ["MultiHeadAttention"]


def ops(model):
    return [node.op_type for node in model.graph.node]


def test_packed_operands():
    a = Attention()
    model = a.g.model(a.whole())
    assert_rewrites(RULES, model, becomes=MHA, target="cpu", loses=VARIED)


def test_on_targets_without_onnxruntimes_operators_it_stays():
    a = Attention()
    model = a.g.model(a.whole())
    for target in ("portable", "tensorrt"):
        assert_untouched(RULES[0], model, target=target)


@pytest.mark.parametrize("sizes", [(2, 1, 3, 5), (1, 4, 3, 5), (2, 4, 3, 5)])
def test_a_mask_of_full_size_goes_in(sizes):
    a = Attention()
    model = a.g.model(a.whole(a.g.input("mask", *sizes)))
    assert_rewrites(RULES, model, becomes=MHA, target="cpu", loses=VARIED)


@pytest.mark.parametrize("sizes", [(2, 1, 1, 5), (5,), (3, 5), (3, 1), (1, 1, 1, 1), (4, 3, 5)])
def test_another_mask_is_spread(sizes):
    a = Attention()
    model = a.g.model(a.whole(a.g.input("mask", *sizes)))
    assert_rewrites(RULES, model, becomes=["Expand", *MHA], target="cpu", loses=VARIED)


@pytest.mark.parametrize("keys", [5, "T"])
def test_sizes_that_are_names(keys):
    a = Attention("N", "S", keys)
    mask = a.g.input("mask", "N", 1, 1, keys)
    model = a.g.model(a.whole(mask))
    feeds = random_feeds(model)
    generator = np.random.default_rng(0)
    for name, tokens in (("q", 3), ("k", 5), ("v", 5)):
        feeds[name] = generator.standard_normal((2, tokens, 32)).astype(np.float32)
    feeds["mask"] = generator.standard_normal((2, 1, 1, 5)).astype(np.float32)
    result, outcome = apply_rules(model, RULES, "cpu")
    assert outcome.done["fuse_multi_head_attention"] == 1
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-5)


def test_masks_of_too_many_heads_or_another_batch_are_refused():
    for batch, sizes in ((2, ("M", 1, 3, 5)), (1, (2, 1, 3, 5)), (2, (2, "H", 3, 5))):
        a = Attention(batch=batch)
        assert_untouched(RULES[0], a.g.model(a.whole(a.g.input("mask", *sizes))), target="cpu")


def test_queries_that_see_nothing_give_zeros():
    a = Attention()
    model = a.g.model(a.whole(a.hidden(2, 1, 3, 5), guard=True))
    rules = [guard.guard_by_mask, *RULES]
    result, outcome = apply_rules(model, rules, "cpu")
    assert outcome.done["fuse_multi_head_attention"] == 1
    assert "IsNaN" not in ops(result)
    feeds = random_feeds(model)
    feeds["seen"][0, 0, 1] = 0
    want, got = run(model, feeds)[0], run(result, feeds)[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(got[0, 1], 0)


@pytest.mark.parametrize("where", ["product", "query", "keys", "turned keys", "divisor", "both"])
def test_the_scale_may_stand_anywhere(where):
    a = Attention()
    g = a.g
    q = a.part(a.packed("q", 3))
    k = a.part(a.packed("k", 5))
    if where in ("query", "both"):
        q = g.Mul(q, 0.5)
    if where in ("keys", "both"):
        k = g.Mul(k, 0.5)
    k = g.Transpose(k, perm=(0, 1, 3, 2))
    if where == "turned keys":
        k = g.Mul(0.5, k)
    s = g.MatMul(q, k)
    s = {"product": lambda: g.Mul(s, 0.5), "divisor": lambda: g.Div(s, 4.0)}.get(where, lambda: s)()
    p = g.Softmax(s, axis=-1)
    model = g.model(a.merge(g.MatMul(p, a.part(a.packed("v", 5)))))
    result = assert_rewrites(RULES, model, target="cpu", loses=[*VARIED, "read twice"])
    assert set(ops(result)) <= {"MultiHeadAttention", "Transpose", "Reshape"}


def test_parted_operands():
    a = Attention()
    q, k, v = (a.g.input(name, 2, 4, tokens, 8) for name, tokens in (("q", 3), ("k", 5), ("v", 5)))
    p = a.probabilities(q, a.g.Transpose(k, perm=(0, 1, 3, 2)))
    model = a.g.model(a.merge(a.g.MatMul(p, v)))
    wanted = ["Transpose", "Reshape", *MHA]
    assert_rewrites(RULES, model, becomes=wanted, target="cpu", loses=VARIED)


def test_values_of_another_size():
    a = Attention()
    q, k = a.part(a.packed("q", 3)), a.part(a.packed("k", 5), perm=(0, 2, 3, 1))
    v = a.part(a.packed("v", 5, width=6), width=6)
    model = a.g.model(a.merge(a.g.MatMul(a.probabilities(q, k), v), width=6))
    assert_rewrites(RULES, model, becomes=MHA, target="cpu", loses=VARIED)


@pytest.mark.parametrize("scale", [-0.5, 0.0])
def test_scales_that_the_kernel_does_not_know(scale):
    a = Attention()
    assert_untouched(RULES[0], a.g.model(a.whole(scale=scale)), target="cpu")


def test_a_scale_for_each_key_is_no_scale():
    a = Attention()
    q, k = a.part(a.packed("q", 3)), a.part(a.packed("k", 5), perm=(0, 2, 3, 1))
    p = a.probabilities(q, k, scale=np.ones(5, np.float32))
    model = a.g.model(a.merge(a.g.MatMul(p, a.part(a.packed("v", 5)))))
    assert_untouched(RULES[0], model, target="cpu")


def test_softmax_over_queries_is_no_attention():
    a = Attention()
    q, k = a.part(a.packed("q", 3)), a.part(a.packed("k", 5), perm=(0, 2, 3, 1))
    p = a.g.Softmax(a.g.MatMul(q, k), axis=2)
    model = a.g.model(a.merge(a.g.MatMul(p, a.part(a.packed("v", 5)))))
    assert_untouched(RULES[0], model, target="cpu")


def test_integers_and_doubles_are_left_alone():
    a = Attention()
    q, k, v = (a.g.input(name, 2, 4, 3, 8, dtype=11) for name in "qkv")
    s = a.g.MatMul(q, a.g.Transpose(k, perm=(0, 1, 3, 2)))
    y = a.g.Transpose(a.g.MatMul(a.g.Softmax(s, axis=-1), v), perm=PART)
    assert_untouched(RULES[0], a.g.model(a.g.Reshape(y, shape(0, 0, 32)), dtype=11), target="cpu")


def test_attention_of_the_standard():
    a = Attention(opset=23)
    mask = a.g.input("mask", 2, 1, 3, 5)
    model = a.g.model(a.whole(mask))
    result, outcome = apply_rules(model, [fused.fuse_attention], "portable")
    assert outcome.done == {"fuse_attention": 1}
    assert "Attention" in ops(result)
    feeds = random_feeds(model)
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", ["input", "chosen", "small"])
def test_a_query_that_sees_no_key_gets_the_mean_and_no_zeros(form):
    lowest = float(np.finfo(np.float32).min)
    a = Attention(opset=23)
    if form == "input":
        mask = a.g.input("mask", 2, 1, 3, 5)
    else:
        chosen = a.g.input("chosen", 2, 1, 3, 5, dtype=TensorProto.BOOL)
        mask = a.g.Where(chosen, 0.0, lowest if form == "chosen" else -1e4)
    model = a.g.model(a.whole(mask))
    result, outcome = apply_rules(model, [fused.fuse_attention], "portable")
    assert outcome.done == {"fuse_attention": 1}
    assert ("Max" in ops(result)) == (form != "small")
    feeds = random_feeds(model)
    seen = np.zeros((2, 1, 3, 5), bool)
    seen[0, 0, 0, 1:3] = seen[1, 0, 2] = True
    feeds |= {"mask": np.where(seen, 0, lowest).astype(np.float32)} if form == "input" else {}
    feeds |= {} if form == "input" else {"chosen": seen}
    close = 1e-3 if form == "small" else 1e-5  # beside -1e4 scores round to thousandths
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=close)


def test_heads_that_were_repeated_for_groups_of_queries():
    a = Attention(opset=23)
    g = a.g
    q = a.part(a.packed("q", 3))
    shared = []
    for name in "kv":
        few = g.Transpose(g.Reshape(g.input(name, 2, 5, 16), shape(0, 0, 2, 8)), perm=PART)
        many = g.Expand(g.Unsqueeze(few, shape(2)), shape(2, 2, 2, 5, 8))
        shared.append(g.Reshape(many, shape(2, 4, 5, 8)))
    p = a.probabilities(q, g.Transpose(shared[0], perm=(0, 1, 3, 2)))
    model = g.model(a.merge(g.MatMul(p, shared[1])))
    result, outcome = apply_rules(model, [fused.fuse_attention], "portable")
    assert outcome.done == {"fuse_attention": 1}
    attention = next(node for node in result.graph.node if node.op_type == "Attention")
    assert {name.split("_")[0] for name in attention.input} == {"Transpose"}
    feeds = random_feeds(model)
    np.testing.assert_allclose(run(result, feeds)[0], run(model, feeds)[0], rtol=1e-4, atol=1e-5)
