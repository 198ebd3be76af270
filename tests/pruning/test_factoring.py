"""Layers get ranks by what they lose per MAC, and are split to make up for those before them."""

import math

import numpy as np
import onnx
import pytest

from onnxopt.graph import io
from onnxopt.graph.signature import signature_of
from onnxopt.judging.quality import Judge
from onnxopt.judging.samples import Samples
from onnxopt.pruning.factored import factorable
from onnxopt.pruning.factoring import Unit, allocate, factored
from tests.pruning.blocks.nets import convolutions, pictures, sentences, transformer
from tests.quantizing.repair.nets import outputs


def samples(count=24):
    feeds = sentences(count, length=12)
    return Samples(lambda: feeds)


def judged(model, feeds):
    judge = Judge(io.to_proto(model).SerializeToString(), feeds)
    return lambda path: judge.judge(path).noise


def test_a_share_of_the_macs_is_left_and_the_rest_is_near():
    model = transformer(2, 32)
    noise = judged(model, sentences(4, seed=5))
    found = factored(model, samples(), 0.6, noise=noise)
    proto = io.to_proto(found.model)
    onnx.checker.check_model(proto, full_check=True)
    assert signature_of(found.model) == signature_of(model)
    assert 0.5 < found.share <= 0.6
    named = {name for layer in found.layers for name in layer.nodes}
    assert named == set(factorable(model))
    assert any(layer.rank is not None for layer in found.layers)
    whole = factored(model, samples(), 1.0, noise=noise)
    assert all(layer.rank is None for layer in whole.layers)
    (before,), (after,) = (
        outputs(io.to_proto(one), sentences(1, seed=9)[0]) for one in (model, whole.model)
    )
    np.testing.assert_allclose(before, after, rtol=1e-4, atol=1e-5)


def test_protected_layers_stay_whole():
    model = transformer(1, 32)
    name = next(iter(factorable(model)))
    found = factored(model, samples(8), 0.6, protect=(name,))
    assert all(name not in layer.nodes for layer in found.layers)


def test_what_falls_off_quickly_gets_the_lower_rank():
    curves = {("q",): np.geomspace(1, 1e-6, 65), ("s",): np.linspace(1, 0, 65)}
    units = [Unit(nodes=name, outputs=64, columns=64, macs=4096) for name in curves]
    chosen = allocate(units, curves, 0.7)
    assert chosen["s",] is None
    assert chosen["q",] in (8, 16, 24)
    assert allocate(units, curves, 1.0) == {("q",): None, ("s",): None}


def test_what_cannot_be_judged_stays_whole():
    found = factored(transformer(1, 32), samples(8), 0.5, noise=lambda path: math.inf)
    assert {layer.rank for layer in found.layers} == {None}


def test_an_even_share_gives_every_layer_the_same():
    found = factored(transformer(1, 32), samples(8), 0.5)
    ranks = [layer.rank for layer in found.layers]
    assert ranks == [8, 8, 8]
    assert found.share < 0.5


@pytest.mark.parametrize("share", [0.5, 0.8])
def test_later_layers_make_up_for_earlier_ones(share):
    model, feeds = transformer(3, 32, norm_first=True), sentences(40, length=12)
    judge = Judge(io.to_proto(model).SerializeToString(), feeds[10:15])
    seen = Samples(lambda: feeds)
    noise = [
        judge.judge(io.to_proto(found.model).SerializeToString()).noise
        for found in (
            factored(model, seen, share, ridge=0.001, pull=pull) for pull in (0.01, np.inf)
        )
    ]
    assert noise[0] < noise[1]


def test_convolutions_are_split_too():
    model, feeds = convolutions(16), pictures(16)
    found = factored(model, Samples(lambda: feeds), 0.6)
    proto = io.to_proto(found.model)
    onnx.checker.check_model(proto, full_check=True)
    assert sum(layer.rank is not None for layer in found.layers) == 4
    assert found.share <= 0.6
    outputs(proto, feeds[0])
