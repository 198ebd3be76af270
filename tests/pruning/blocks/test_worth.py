"""Blocks go by measured worth: the useless first, nothing unmeasured, no further than allowed."""

import math

import numpy as np
import pytest

from onnxopt.errors import DataError
from onnxopt.graph import io
from onnxopt.graph.editor import Editor
from onnxopt.graph.signature import signature_of
from onnxopt.judging.quality import Judge
from onnxopt.judging.samples import Samples
from onnxopt.pruning.blocks.find import find_blocks
from onnxopt.pruning.blocks.pairs import fit_blocks
from onnxopt.pruning.blocks.worth import Budget, count_macs, remove_blocks
from tests.pruning.blocks.nets import built, convolutions, pictures, sentences, transformer
from tests.quantizing.repair.nets import normal


def judged(model, feeds):
    judge = Judge(io.to_proto(model).SerializeToString(), feeds)
    return judge.noise


def weakened(model, weight, share):
    """Make a layer matter little, or not at all."""
    value = model.graph.initializers[weight]
    reader = next(iter(value.uses()))
    editor = Editor(model)
    new = editor.constant(share * value.const_value.numpy(), weight, reader.node)
    editor.set_input(reader.node, reader.idx, new)
    return model


def removed(model, feeds, budget, **options):
    samples = Samples(lambda: feeds)
    return list(remove_blocks(model, samples, judged(model, feeds[-4:]), budget, **options))


def test_the_block_that_does_nothing_goes_first_and_costs_nothing():
    model = weakened(transformer(3, norm_first=True), "wv1", np.float32(0))
    points = removed(model, sentences(24), Budget(blocks=1), hows=("identity",))
    (trial,) = points[0].removed
    assert (trial.block.entry, trial.block.exit) == ("h1", "m1")
    assert points[0].noise < 1e-9
    assert signature_of(points[0].model) == signature_of(model)
    assert points[0].cost == count_macs(points[0].model) / count_macs(model) < 1


def test_a_linear_block_is_replaced_without_loss_by_its_map():
    text = """(float[N,6] x) => (float[N,3] y) {
        h = MatMul(x, w0)
        a = MatMul(h, w1)
        b = Add(a, b1)
        c = MatMul(b, w2)
        s = Add(h, c)
        y = MatMul(s, w3)
    }"""
    shapes = {"w0": (6, 6), "w1": (6, 24), "b1": (24,), "w2": (24, 6), "w3": (6, 3)}
    model = built(text, **{name: normal(*shape) for name, shape in shapes.items()})
    feeds = [{"x": normal(8, 6, seed=n)} for n in range(16)]
    (point,) = removed(model, feeds, Budget(blocks=1), kinds=("residual",))
    assert point.removed[0].how == "map"
    assert point.sqnr_db > 40


def test_a_front_is_yielded_until_the_budget_is_reached():
    points = removed(transformer(3), sentences(24), Budget(cost=0.6), hows=("identity", "scale"))
    costs = [point.cost for point in points]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] <= 0.6 < ([1.0, *costs])[-2]
    assert [len(point.removed) for point in points] == list(range(1, len(points) + 1))
    last = [trial.noise for trial in points[-1].removed]
    assert last == [point.noise for point in points]


def test_no_block_goes_that_would_lose_too_much():
    model, feeds = convolutions(), pictures(24)
    assert removed(model, feeds, Budget(blocks=9, min_sqnr=200.0)) == []
    points = removed(model, feeds, Budget(blocks=9, min_sqnr=5.0))
    assert points
    assert all(point.sqnr_db >= 5.0 for point in points)


def test_what_is_protected_or_cannot_be_measured_stays():
    model, feeds = transformer(), sentences(16)
    inside = next(block for block in find_blocks(model) if block.exit == "m0").nodes[0]
    points = removed(model, feeds, Budget(blocks=2), protect=(inside,), hows=("identity",))
    assert all(inside not in trial.block.nodes for trial in points[-1].removed)
    samples = Samples(lambda: feeds)
    assert not list(remove_blocks(model, samples, lambda path, most: math.inf, Budget(blocks=1)))

    def broken(path, most):
        raise DataError("it does not run", "")

    assert not list(remove_blocks(model, samples, broken, Budget(blocks=1)))


def pretended(losses, otherwise):
    """Say what is lost by which of attention (a) and MLP (p) of two layers is gone."""
    first = {"n4": "a0", "n14": "p0", "n20": "a1", "n30": "p1"}
    tried = []

    def noise(path, most):
        left = {node.name for node in io.load(path).graph}
        gone = " ".join(sorted(part for node, part in first.items() if node not in left))
        tried.append((gone, most))
        return losses.get(gone, otherwise)

    return noise, tried


@pytest.mark.parametrize(
    ("layer", "taken"), [(0.12, [["h1"]]), (0.2, [["h1"], ["h1", "h2"]])], ids=["layer", "halves"]
)
def test_the_way_to_a_cost_that_loses_least_is_taken(layer, taken):
    """The MLP of the first layer pays best by itself; a layer, or both MLPs, are half."""
    model, feeds = transformer(), sentences(8)
    losses = {"p0": 0.03, "a0": 0.06, "a1": 0.05, "p1": 0.1, "p0 p1": 0.15, "a0 p0": layer}
    noise, tried = pretended(losses, 0.9)
    points = list(
        remove_blocks(
            model, Samples(lambda: feeds), noise, Budget(cost=0.5), hows=("identity",),
            kinds=("residual", "layer"),
        )
    )  # fmt: skip
    assert [[trial.block.exit for trial in point.removed] for point in points] == taken
    assert points[-1].noise == min(layer, 0.15)
    assert points[-1].cost <= 0.5
    tries = [gone for gone, _ in tried]
    assert ("p0 p1" in tries) == (layer > 0.03 + 0.1), "what must lose more is not tried"


def test_nothing_is_run_further_than_it_can_matter():
    model, feeds, hows = transformer(), sentences(16), ("identity", "map")
    plain = removed(model, feeds, Budget(cost=0.5), hows=hows)
    judge, seen = Judge(io.to_proto(model).SerializeToString(), feeds[-4:]), []

    def whole(path, most):
        seen.append(most)
        return judge.judge(path).noise

    same = list(remove_blocks(model, Samples(lambda: feeds), whole, Budget(cost=0.5), hows=hows))
    names = [
        [(trial.block.name, trial.how) for trial in found[-1].removed] for found in (plain, same)
    ]
    assert names[0] == names[1]
    assert plain[-1].noise == pytest.approx(same[-1].noise)
    assert min(seen) < math.inf


@pytest.mark.parametrize("memory", [1, 1 << 29])
def test_all_blocks_are_seen_in_one_pass_where_there_is_memory(memory):
    model, feeds, passes = transformer(), sentences(8), []

    def read():
        passes.append(len(passes))
        return feeds

    samples = Samples(read)
    passes.clear()
    blocks = find_blocks(model)
    found = fit_blocks(model, model, blocks, samples, max_memory=memory)
    assert set(found) == {block.name for block in blocks}
    assert len(passes) == (len(blocks) if memory == 1 else 1)


def test_blocks_whose_shapes_differ_at_run_time_are_left_out():
    text = """(float[N,4] x, int64[1] most) => (float[K,4] y) {
        h = MatMul(x, w0)
        z = Slice(h, zero, most, zero)
        a = MatMul(z, w1)
        b = Relu(a)
        y = MatMul(b, w1)
    }"""
    model = built(text, w0=normal(4, 4), w1=normal(4, 4, seed=1), zero=np.array([0]))
    feeds = [{"x": normal(6, 4, seed=n), "most": np.array([3])} for n in range(8)]
    blocks = [block for block in find_blocks(model) if block.entry == "h"]
    assert not fit_blocks(model, model, blocks, Samples(lambda: feeds))
