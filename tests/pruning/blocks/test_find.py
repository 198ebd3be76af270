"""Blocks are found by who depends on whom: with sums, in layers, in chains, and nowhere else."""

import numpy as np
import pytest

from onnxopt.pruning.blocks.find import find_blocks
from tests.pruning.blocks.nets import built, convolutions, transformer
from tests.quantizing.repair.nets import normal


def ends(model, kind):
    return [(block.entry, block.exit) for block in find_blocks(model) if block.kind == kind]


def test_sub_blocks_of_a_post_norm_encoder_end_behind_their_norm():
    assert ends(transformer(), "residual") == [
        ("h0", "m0"), ("m0", "h1"), ("h1", "m1"), ("m1", "h2"),
    ]  # fmt: skip


def test_sub_blocks_of_a_pre_norm_encoder_end_at_their_sum():
    assert ends(transformer(norm_first=True), "residual") == [
        ("h0", "m0"), ("m0", "h1"), ("h1", "m1"), ("m1", "h2"),
    ]  # fmt: skip


@pytest.mark.parametrize("norm_first", [False, True])
def test_layers_are_periods_at_either_phase(norm_first):
    found = ends(transformer(3, norm_first=norm_first), "layer")
    assert found == [("h0", "h1"), ("m0", "m1"), ("h1", "h2"), ("m1", "m2"), ("h2", "h3")]


def test_the_mask_is_read_and_is_no_part_of_a_block():
    model = transformer()
    inside = {name for block in find_blocks(model) for name in block.nodes}
    outside = {node.name for node in model.graph if node.outputs[0].name in ("w", "u", "mask")}
    assert not inside & outside


def test_convolutions_have_a_residual_block_and_chains():
    model = convolutions()
    assert ends(model, "residual") == [("ar", "s")]
    assert ends(model, "chain") == [
        ("ar", "br"), ("br", "c"), ("ar", "c"), ("sr", "dr"), ("dr", "er"), ("sr", "er"),
    ]  # fmt: skip
    assert {(block.axis, block.channels) for block in find_blocks(model)} == {(1, 6)}


def residual(**more):
    parts = {"inner": "", "behind": "", "extra": "", "shape": "float[N,4]", **more}
    text = f"""(float[N,4] x{parts["extra"]}) => (float[N,4] y) {{
        h = MatMul(x, w0)
        a = MatMul(h, w1)
        {parts["inner"] or "b = Relu(a)"}
        c = MatMul(b, w2)
        s = Add(h, c)
        {parts["behind"] or "y = Relu(s)"}
    }}"""
    weights = {f"w{n}": normal(4, 4, seed=n) for n in range(3)}
    return built(text, **weights)


def test_a_block_whose_inside_is_read_elsewhere_is_only_what_can_go():
    plain, tapped = residual(), residual(behind="z = Relu(s)\ny = Add(z, b)")
    whole = next(block for block in find_blocks(plain) if block.exit == "s")
    less = [block for block in find_blocks(tapped) if (block.entry, block.exit) == ("h", "s")]
    assert len(whole.nodes) == 4
    assert [len(block.nodes) for block in less] == [2]


def test_a_sum_with_what_bypasses_the_entry_is_no_block():
    text = """(float[N,4] x) => (float[N,4] y) {
        h = MatMul(x, w0)
        side = MatMul(x, w1)
        a = Relu(h)
        b = Add(a, side)
        c = MatMul(b, w2)
        y = Add(h, c)
    }"""
    model = built(text, **{f"w{n}": normal(4, 4, seed=n) for n in range(3)})
    assert ends(model, "residual") == []


def test_what_attention_looks_at_may_come_from_elsewhere():
    text = """(float[N,5,4] x, float[N,6,4] memory) => (float[N,5,4] y) {
        h = MatMul(x, w0)
        m = MatMul(memory, w0)
        q = MatMul(h, w1)
        k = MatMul(m, w2)
        t = Transpose <perm=[0,2,1]> (k)
        s = MatMul(q, t)
        p = Softmax(s)
        o = MatMul(p, m)
        y = Add(o, h)
    }"""
    (block,) = find_blocks(built(text, **{f"w{n}": normal(4, 4, seed=n) for n in range(3)}))
    assert (block.entry, block.exit) == ("h", "y")
    assert len(block.nodes) == 8  # the memory, too, has no other reader


def test_other_channels_other_shapes_and_quantized_models_have_no_blocks():
    text = """(float[N,3,8,8] x) => (float[N,6,4,4] y) {
        a = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w0)
        y = Conv <pads=[1,1,1,1]> (a, w1)
    }"""
    wide = built(text, w0=normal(4, 3, 3, 3), w1=normal(6, 4, 3, 3))
    assert find_blocks(wide) == ()
    text = """(float[N,4] x) => (float[N,4] y) {
        i = QuantizeLinear(x, scale, zero)
        h = DequantizeLinear(i, scale, zero)
        a = MatMul(h, w)
        b = Relu(a)
        j = QuantizeLinear(b, scale, zero)
        c = DequantizeLinear(j, scale, zero)
        y = Add(c, h)
    }"""
    constants = {"scale": np.float32(0.1), "zero": np.int8(0)}
    assert find_blocks(built(text, w=normal(4, 4), **constants)) == ()


def test_what_holds_graphs_stays():
    text = """(float[N,4] x, bool flag) => (float[N,4] y) {
        h = MatMul(x, w0)
        a = MatMul(h, w1)
        b = If (flag) <
            then_branch = yes () => (float[N,4] t) { t = Relu(a) },
            else_branch = no () => (float[N,4] f) { f = Neg(a) }
        >
        y = Add(h, b)
    }"""
    model = built(text, w0=normal(4, 4), w1=normal(4, 4, seed=1))
    assert ends(model, "residual") == []
