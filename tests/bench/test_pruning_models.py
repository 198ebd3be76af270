"""What the benchmark says of pruned models is what they are."""

import numpy as np
import onnx
import pruning_coverage
import pruning_judge
import pruning_macs
import pruning_patterns as patterns
import pytest
from onnx import helper, numpy_helper


def model(nodes, weights, shape, out):
    inputs = [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)]
    outputs = [helper.make_tensor_value_info(out, onnx.TensorProto.FLOAT, None)]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, "graph", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def random(*shape):
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


def two_of_four(weight, axis):
    """Keep the two greatest of every four neighbours along an axis."""
    fours = np.moveaxis(weight.copy(), axis, -1)
    parts = fours.reshape(-1, 4)
    np.put_along_axis(parts, np.argsort(abs(parts), axis=1)[:, :2], 0, 1)
    return np.ascontiguousarray(np.moveaxis(parts.reshape(fours.shape), -1, axis))


def perceptron(first, second, bias):
    nodes = [
        helper.make_node("Gemm", ["x", "first"], ["a"], transB=1),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("MatMul", ["b", "second"], ["c"]),
        helper.make_node("Add", ["bias", "c"], ["y"]),
    ]
    return model(nodes, {"first": first, "second": second, "bias": bias}, ["n", 16], "y")


def convolutions(groups=1):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], group=groups, pads=[1, 1, 1, 1]),
        helper.make_node("ConvTranspose", ["a", "t"], ["y"], strides=[2, 2]),
    ]
    weights = {"w": random(8, 4 // groups, 3, 3), "t": random(8, 6, 2, 2)}
    return model(nodes, weights, [1, 4, 5, 5], "y")


def test_multiplications_of_products_are_counted():
    net = perceptron(random(32, 16), random(32, 4), random(4))
    assert pruning_macs.macs(net, {"x": random(3, 16)}) == 3 * (16 * 32 + 32 * 4)
    assert pruning_macs.parameters(net) == 16 * 32 + 32 * 4 + 4


@pytest.mark.parametrize("groups", [1, 2])
def test_multiplications_of_convolutions_are_counted(groups):
    counted = pruning_macs.macs(convolutions(groups), {"x": random(1, 4, 5, 5)})
    assert counted == 25 * 8 * (4 // groups) * 9 + 25 * 8 * 6 * 4


def test_feeds_may_hold_more_than_the_model_takes():
    net = perceptron(random(32, 16), random(32, 4), random(4))
    feed = {"x": random(1, 16), "mask": random(1, 16)}
    (found,) = pruning_macs.run(net, ["b"], feed)
    assert found.shape == (1, 32)


def test_two_of_four_holds_along_the_axis_that_is_summed_over():
    for axis in (0, 1):
        weight = two_of_four(random(8, 8), axis)
        assert patterns.kept_to(weight, axis) == patterns.EXACT
        assert patterns.kept_to(weight, 1 - axis) == patterns.OTHER
    assert patterns.kept_to(random(8, 8), 0) == patterns.WHOLE
    assert patterns.kept_to(np.zeros((6, 8), np.float32), 0) == patterns.OTHER


def test_zeros_that_a_layer_had_before_are_not_held_against_it():
    weight = random(8, 8)
    weight[0] = 0
    assert patterns.kept_to(weight, 1) == patterns.OTHER
    assert patterns.kept_to(weight, 1, own=0.125) == patterns.WHOLE
    assert patterns.kept_to(two_of_four(weight, 1), 1, own=0.125) == patterns.EXACT


def test_layers_know_their_axis():
    net = perceptron(random(32, 16), random(32, 4), random(4))
    assert [layer.axis for layer in patterns.layers(net)] == [1, 0]
    assert [layer.output for layer in patterns.layers(net)] == ["a", "y"]
    assert [layer.axis for layer in patterns.layers(convolutions())] == [1]


def test_loss_of_a_layer_alone_is_that_of_its_weight(tmp_path):
    first, second, bias = random(32, 16), random(32, 4), random(4)
    net = perceptron(first, second, bias)
    changed = perceptron(two_of_four(first, 1), two_of_four(second, 0), bias + 1)
    feed = {"x": random(3, 16)}
    alone, placed = patterns.losses(net, changed, [feed])
    hidden, y = (pruning_macs.run(net, [name], feed)[0] for name in ("b", "y"))
    error = hidden @ two_of_four(second, 0) + bias + 1 - y
    assert alone[1] == pytest.approx(10 * np.log10((y**2).sum() / (error**2).sum()), abs=1e-3)
    assert placed[0] == pytest.approx(alone[0])
    assert placed[1] != pytest.approx(alone[1])


def test_a_model_without_zeros_loses_nothing():
    net = perceptron(random(32, 16), random(32, 4), random(4))
    assert patterns.losses(net, net, [{"x": random(3, 16)}]) == ([], [])


def test_the_judge_sees_what_is_left_and_what_callers_notice(tmp_path):
    first, second = random(32, 16), random(32, 4)
    paths = [tmp_path / f"{name}.onnx" for name in ("whole", "half", "other")]
    onnx.save(perceptron(first, second, random(4)), paths[0])
    onnx.save(perceptron(first[:16], second[:16], random(4)), paths[1])
    onnx.save(perceptron(first, second[:, :2], random(2)), paths[2])
    feed = {"x": random(3, 16)}
    half = pruning_judge.described(paths[0], paths[1], feed)
    assert (half["macs"], half["signature"], half["shapes"]) == (0.5, [], [])
    other = pruning_judge.described(paths[0], paths[2], feed)
    assert other["shapes"] == ["y: (3, 4) became (3, 2)"]


def test_zeros_are_counted_in_weights_alone(tmp_path):
    net = perceptron(two_of_four(random(32, 16), 1), random(32, 4), np.zeros(4, np.float32))
    assert pruning_judge.zeros(net) == pytest.approx(256 / 640)


def test_results_with_other_shapes_are_faults(tmp_path):
    paths = [tmp_path / f"{name}.onnx" for name in ("whole", "other")]
    onnx.save(perceptron(random(32, 16), random(32, 4), random(4)), paths[0])
    onnx.save(perceptron(random(32, 16), random(32, 2), random(2)), paths[1])
    assert pruning_coverage._faults(paths[0], paths[0]) == []
    assert pruning_coverage._faults(*paths) == ["output y: (1, 4) became (1, 2)"]
    assert {"Gemm", "first", "y"} <= set(pruning_coverage._named(paths[0]))
