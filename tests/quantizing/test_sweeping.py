"""Segments compute what the whole does, and layers see what the quantized layers before them do."""

import numpy as np
import pytest

from onnxopt.graph import facts
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.placement.cpu import place
from onnxopt.quantizing.solution import Solution
from onnxopt.quantizing.sweeping import walk
from onnxopt.quantizing.weights.solve import Solver
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.segments import cut
from onnxopt.sweep.shelf import Shelf
from tests.quantizing.repair.nets import net, normal
from tests.quantizing.small import outputs, pictures, prepared, samples, solved, sqnr, tokens


def begun(model):
    solution = solved(model)
    return Solution(placement=solution.placement, activations=solution.activations)


@pytest.mark.parametrize("make", [pictures, tokens])
def test_walking_beats_rounding_each_layer_by_itself(make):
    model = make()
    feeds = samples(model, 16)
    others = samples(model, 16, seed=100)
    wanted = outputs(model, others)
    plain = model.clone()
    insert(plain, solved(model))
    solution = begun(model)
    walk(model, solution, feeds, Solver(), held=lambda number: number % 4 == 3)
    walked = model.clone()
    insert(walked, solution)
    assert sqnr(wanted, outputs(walked, others)) > sqnr(wanted, outputs(plain, others)) - 1


def test_layers_are_solved_in_their_order_with_inputs_of_both_models():
    model, seen = pictures(), {}

    def solve(layer):
        seen[layer.unit.name] = layer
        return Solver(method="nearest")(layer)

    walk(model, begun(model), samples(model, 8), solve, held=lambda number: number == 7)
    assert list(seen) == ["n0", "n2", "n4", "n9"]
    for layer in seen.values():
        assert (layer.fit.samples, layer.held.samples) == (7, 1)
        assert layer.input_params is not None
        # Both models see nearly the same, and not exactly the same.
        assert 0 < np.abs(layer.fit.cross - layer.fit.gram).max() < 0.3 * layer.fit.gram.max()
    assert seen["n2"].fit.gram.shape == (8, 9, 9)


def test_biases_make_up_for_the_mean_error():
    model = pictures()
    feeds = samples(model, 12)
    solution = begun(model)
    walk(model, solution, feeds, Solver(method="nearest"))
    insert(made := model.clone(), solution)
    wanted, found = (np.concatenate([o[0] for o in outputs(m, feeds)]) for m in (model, made))
    spread = np.abs(wanted - found).mean()
    assert np.abs((wanted - found).mean(axis=0)).max() < spread


def test_a_model_on_the_way_is_left_as_it_was():
    model = pictures()
    before = outputs(model, samples(model))
    walk(model, begun(model), samples(model), Solver(method="nearest"))
    np.testing.assert_array_equal(before, outputs(model, samples(model)))


def test_units_in_a_body_are_rounded_without_samples():
    text = """(bool c, float[2,4] x) => (float[2,3] y) {
        y = If (c) <then_branch = one () => (float[2,3] a) { a = MatMul(x, w) },
                    else_branch = two () => (float[2,3] b) { b = MatMul(x, v) }>
    }"""
    model = prepared(net(text, w=normal(4, 3), v=normal(4, 3, seed=1)))
    placement = place(model)
    assert len(placement.units) == 2
    from onnxopt.quantizing.calibration.choice import activations
    from onnxopt.quantizing.calibration.observers import Observer

    seen = {name: Observer() for name in placement.tensors}
    feeds = [{"c": np.array(flag), "x": normal(2, 4)} for flag in (True, False)]
    for observer in seen.values():
        observer.see(feeds[0]["x"])
    solution = Solution(placement=placement, activations=activations(placement, seen, "minmax"))
    walk(model, solution, feeds, Solver())
    assert len(solution.weights) == 2
    wanted = outputs(model, feeds)
    insert(model, solution)
    assert sqnr(wanted, outputs(model, feeds)) > 30


def test_what_goes_between_segments_is_integers():
    model = pictures()
    insert(model, solved(model))
    found = cut(model.graph, {"n0", "n2", "n4", "n9"})
    assert found.before == {"n0": 0, "n2": 1, "n4": 2, "n9": 3}
    values = {value.name: value for node in model.graph for value in node.outputs}
    for segment in found.segments[1:]:
        assert {facts.dtype(values[name]).name for name in segment.reads} == {"UINT8"}


def test_what_is_needed_later_stays_until_it_was_read():
    model = pictures()
    segments = cut(model.graph, {"n0", "n2", "n4", "n9"}).segments
    made = [name for segment in segments for name in segment.makes]
    gone = [name for segment in segments for name in segment.last_read]
    assert "ar" in segments[1].makes
    assert "ar" not in segments[1].last_read + segments[2].last_read
    assert {*made, "x"} - set(gone) == {"f"}, "which the last layer reads, and nobody runs"


def test_moments_of_parts_are_those_of_all():
    x, q = normal(2, 30, 5), normal(2, 30, 5, seed=1)
    whole, one, two = (Moments.of(2, 5) for _ in range(3))
    for number in range(6):
        part = slice(5 * number, 5 * number + 5)
        whole.see(x[:, part], q[:, part])
        (one if number < 2 else two).see(x[:, part], q[:, part])
    for moments in (whole, one, two):
        moments.settle()
    both = one.merged(two)
    for name in ("gram", "cross", "mean", "seen", "power"):
        np.testing.assert_allclose(getattr(both, name), getattr(whole, name), rtol=1e-4, atol=1e-5)
    gram = np.einsum("gpi,gpj->gij", q, q) / 30
    np.testing.assert_allclose(whole.gram, gram, rtol=1e-4, atol=1e-5)
    centred, _ = whole.centred()
    flat = q - q.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(
        centred, np.einsum("gpi,gpj->gij", flat, flat) / 30, rtol=1e-3, atol=1e-4
    )


def test_a_shelf_gives_back_what_it_has_no_room_for():
    with Shelf(room=100) as shelf:
        arrays = [np.full(20, number, np.float32) for number in range(4)]
        for number, array in enumerate(arrays):
            shelf.put(number, "a", array)
        shelf.put(0, "a", arrays[3])
        assert shelf.room == 20
        np.testing.assert_array_equal(shelf.get(0, "a"), arrays[3])
        np.testing.assert_array_equal(shelf.get(2, "a"), arrays[2])
        shelf.drop(2, "a")
        with pytest.raises(KeyError):
            shelf.get(2, "a")


def test_nothing_runs_where_no_layer_is_to_be_seen():
    model = pictures()
    solution = begun(model)
    unread = iter(lambda: pytest.fail("a sample was read"), None)
    walk(model, solution, unread, Solver(method="nearest", use_samples=False), seen=False)
    wanted = solved(model)
    for edge, weight in wanted.weights.items():
        np.testing.assert_array_equal(solution.weights[edge].integers, weight.integers)
