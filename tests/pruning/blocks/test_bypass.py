"""A block that is bypassed computes its patch, and leaves a valid model with the same signature."""

import numpy as np
import onnx
import pytest

from onnxopt.graph import io
from onnxopt.graph.signature import signature_of
from onnxopt.pruning.blocks.bypass import bypass
from onnxopt.pruning.blocks.find import find_blocks
from onnxopt.pruning.blocks.pairs import Exposed
from onnxopt.pruning.blocks.plan import Affine
from tests.pruning.blocks.nets import built, convolutions, pictures, sentences, transformer
from tests.quantizing.repair.nets import normal, outputs


def patches(channels):
    full = Affine(matrix=normal(channels, channels), shift=normal(channels))
    return (None, Affine(matrix=normal(channels, seed=1), shift=normal(channels)), full)


@pytest.mark.parametrize(
    ("make", "feed"),
    [
        (transformer, sentences(1)[0]),
        (lambda: transformer(norm_first=True), sentences(1)[0]),
        (convolutions, pictures(1)[0]),
    ],
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_every_block_can_be_bypassed_every_way(make, feed, which):
    whole = make()
    before = signature_of(whole)
    for block in find_blocks(whole):
        model = make()
        patch = patches(block.channels)[which]
        bypass(model, block, patch)
        proto = io.to_proto(model)
        onnx.checker.check_model(proto, full_check=True)
        assert signature_of(model) == before
        assert not {node.name for node in model.graph} & set(block.nodes)
        outputs(proto, feed)
        entry = Exposed(model, [block.entry])(feed)[block.entry]
        if patch is not None:
            made = Exposed(model, [block.exit])(feed)[block.exit]
            wanted = np.moveaxis(patch(np.moveaxis(entry, block.axis, -1)), -1, block.axis)
            np.testing.assert_allclose(made, wanted, rtol=1e-4, atol=1e-4)


def test_an_exit_that_is_an_output_keeps_its_name():
    text = """(float[N,4] x) => (float[N,4] y) {
        h = MatMul(x, w0)
        a = MatMul(h, w1)
        y = Add(h, a)
    }"""
    model = built(text, w0=normal(4, 4), w1=normal(4, 4, seed=1))
    (block,) = find_blocks(model)
    bypass(model, block)
    (found,) = outputs(io.to_proto(model), {"x": normal(2, 4)})
    np.testing.assert_allclose(found, normal(2, 4) @ normal(4, 4), rtol=1e-5, atol=1e-6)
    assert [value.name for value in model.graph.outputs] == ["y"]
    assert len(model.graph) == 1
