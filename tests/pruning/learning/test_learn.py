"""Whole models: what can learn is found, gradients are those of the error, a pupil comes nearer."""

import numpy as np
import onnx
import pytest
from onnx import parser

from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.samples import Samples
from onnxopt.pruning.learning import learn as learning
from onnxopt.pruning.learning.course import course
from onnxopt.pruning.learning.learn import learn
from onnxopt.pruning.learning.tape import Tape
from tests.quantizing.repair.nets import net, normal


def residual():
    text = """(float[N,3,8,8] x) => (float[N,5] y) {
        a = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w1, b1)
        ar = Relu(a)
        d = Conv <group=8, pads=[1,1,1,1]> (ar, w2)
        dr = Relu(d)
        p = Conv (dr, w3, b3)
        s = Add(p, ar)
        g = GlobalAveragePool(s)
        f = Flatten(g)
        y = Gemm <transB=1> (f, w4, b4)
    }"""
    model = net(
        text,
        w1=normal(8, 3, 3, 3) * 0.4, b1=normal(8) * 0.1, w2=normal(8, 1, 3, 3) * 0.4,
        w3=normal(8, 8, 1, 1) * 0.3, b3=normal(8) * 0.1, w4=normal(5, 8), b4=normal(5),
    )  # fmt: skip
    return named(model)


def named(proto):
    for number, node in enumerate(proto.graph.node):
        node.name = f"n{number}"
    return ir.serde.deserialize_model(onnx.shape_inference.infer_shapes(proto))


def pictures(count=40):
    return [{"x": normal(1, 3, 8, 8, seed=number)} for number in range(count)]


def disturbed(model, share=0.3):
    found = model.clone()
    for number, value in enumerate(found.graph.initializers.values()):
        array = value.const_value.numpy()
        noise = normal(*array.shape, seed=number) * array.std() * share
        value.const_value = ir.tensor(np.asarray(array + noise, np.float32))
    return found


def weights_of(model):
    return {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}


def test_what_can_learn_is_all_behind_the_first_weight():
    found = course(residual())
    assert set(found.weights) == {"w1", "b1", "w2", "w3", "b3", "w4", "b4"}
    assert found.given == ("x",)
    assert found.aims == ("y",)
    assert len(course(residual(), protect=["n0"]).weights) == 5


def test_an_unknown_operator_ends_the_way_in_front_of_it():
    model = named(
        parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,4] x) => (float[N,2] top, float[N,4] other)
        <float[4,4] w = {1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7}, int64[1] k = {2}> {
            a = MatMul(x, w)
            b = Tanh(a)
            top, at = TopK(b, k)
            z = Shape(a)
            q = Reshape(x, z)
            other = Add(q, b)
        }""")
    )
    found = course(model)
    assert found.weights == ("w",)
    assert set(found.aims) == {"b", "other"}
    assert set(found.given) == {"x", "q"}


def test_the_weight_of_an_operator_that_is_not_known_stays():
    model = named(
        parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,2] x) => (float[N,2] y) <float[2,2] w = {1,2,3,4}> {
            a = Einsum <equation="...i,ij->...j"> (x, w)
            y = Einsum <equation="ni,ij->nj"> (a, w)
        }""")
    )
    found = course(model)
    assert (found.weights, found.given, found.aims) == (("w",), ("a",), ("y",))


def test_a_choice_is_made_and_the_gradient_goes_past_it():
    model = named(
        parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,2] x) => (float[N,2] y)
        <float[2,2] w = {1,2,3,4}, float zero = {0}> {
            a = MatMul (x, w)
            p = Softmax (a)
            q = IsNaN (p)
            r = Not (q)
            b = Where (r, p, zero)
            y = MatMul (b, w)
        }""")
    )
    found = course(model)
    assert len(found.nodes) == 6
    assert (found.weights, found.given, found.aims) == (("w",), ("x",), ("y",))
    tape, x = Tape(found, 20), np.array([[1, -1]], np.float32)
    weights = weights_of(model)
    wanted = {"y": np.zeros((1, 2), np.float32)}
    _, gradients = tape.learn(weights, {"x": x}, wanted, {"y": 1.0})
    assert np.abs(gradients["w"]).min() > 0


def test_outputs_that_nothing_reads_do_not_end_a_way():
    model = named(
        parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,1,4] x) => (float[N,2,1] y, int64[N,2,1] at)
        <float[2,1,2] w = {1,2,3,4}> {
            a = Conv (x, w)
            b, unread = Dropout (a)
            c, never = MaxPool <kernel_shape=[2]> (b)
            y, at = MaxPool <kernel_shape=[2]> (c)
        }""")
    )
    found = course(model)
    assert [node.op_type for node in found.nodes] == ["Conv", "Dropout", "MaxPool"]
    assert found.aims == ("c",)
    x = np.ones((1, 1, 4), np.float32)
    made = Tape(found, 20).run(weights_of(model), {"x": x})
    np.testing.assert_array_equal(made["c"], [[[3, 3], [7, 7]]])


def test_gradients_are_those_of_the_error():
    model = residual()
    found = course(model)
    tape = Tape(found, 20)
    rng = np.random.default_rng(0)
    weights = {
        name: facts.constant(model.graph.initializers[name]).astype(np.float64)
        for name in found.weights
    }
    given = {"x": rng.normal(size=(2, 3, 8, 8))}
    wanted, scales = {"y": rng.normal(size=(2, 5))}, {"y": 2.0}
    error, gradients = tape.learn(weights, given, wanted, scales)
    made = tape.run(weights, given)["y"]
    assert error == pytest.approx(np.square(made - wanted["y"]).mean() / 2)
    assert set(gradients) == set(weights)
    for name, gradient in gradients.items():
        towards = rng.normal(size=gradient.shape)
        ends = []
        for step in (1e-6, -1e-6):
            moved = {**weights, name: weights[name] + step * towards}
            ends.append(tape.learn(moved, given, wanted, scales)[0])
        slope = (ends[0] - ends[1]) / 2e-6
        assert np.vdot(gradient, towards) == pytest.approx(slope, rel=2e-3), name


def resized():
    text = """(float[N,3,8,8] x) => (float[N,3,8,8] y) {
        a = Conv <pads=[1,1,1,1]> (x, w1)
        b = InstanceNormalization (a, w2, b2)
        c = Relu(b)
        d = MaxPool <kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]> (c)
        e = ConvTranspose <strides=[2,2]> (d, w3, b3)
        f = AveragePool <kernel_shape=[3,3], pads=[1,1,1,1]> (e)
        y = Tanh(f)
    }"""
    scale = np.abs(normal(6)) + 0.5
    return named(
        net(
            text,
            w1=normal(6, 3, 3, 3) * 0.4, w2=scale, b2=normal(6) * 0.1,
            w3=normal(6, 3, 2, 2) * 0.4, b3=normal(3) * 0.1,
        )
    )  # fmt: skip


def test_a_pupil_learns_through_pools_and_normalizations():
    student = disturbed(resized())
    assert set(course(student).weights) == {"w1", "w2", "b2", "w3", "b3"}
    found = learn(resized(), student, Samples(pictures), passes=4, rate=1e-2)
    assert found.kept > 0
    assert min(found.passes) < 0.5 * found.before


@pytest.mark.parametrize("blocks", [False, True])
def test_a_pupil_comes_nearer_and_zeros_stay(blocks):
    teacher = residual()
    student = disturbed(teacher)
    held = student.graph.initializers["w3"]
    holes = held.const_value.numpy().copy()
    holes[:, ::3] = 0
    held.const_value = ir.tensor(holes)
    found = learn(teacher, student, Samples(pictures), passes=6, rate=1e-2, blocks=blocks)
    assert found.kept > 0
    assert min(found.passes) < 0.7 * found.before
    taught = {node.name: node for node in student.graph}["n4"].inputs[1].const_value.numpy()
    assert ((taught == 0) == (holes == 0)).all()


def test_the_same_lesson_has_the_same_outcome():
    ends = []
    for _ in range(2):
        student = disturbed(residual())
        learn(residual(), student, Samples(pictures), passes=2, rate=1e-2)
        ends.append(io.to_proto(student).SerializeToString())
    assert ends[0] == ends[1]


def test_what_gains_nothing_leaves_the_model_as_it_was():
    model = residual()
    student = model.clone()
    found = learn(model, student, Samples(pictures), passes=2)
    assert found.kept == 0
    for name, array in weights_of(student).items():
        np.testing.assert_array_equal(array, weights_of(model)[name])


def test_without_samples_put_aside_nothing_is_learned():
    found = learn(residual(), disturbed(residual()), Samples(lambda: pictures(4)))
    assert not found.passes
    assert "too few samples" in found.reason


def test_what_cannot_be_computed_is_said_and_changes_nothing(monkeypatch):
    def broken(*given):
        raise IndexError("out of\nrange")

    student = disturbed(residual())
    before = weights_of(student)
    monkeypatch.setattr("onnxopt.pruning.learning.tape.compute", broken)
    found = learn(residual(), student, Samples(pictures), passes=2)
    assert found.reason == "it could not be computed: out of range"
    for name, array in weights_of(student).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_model_without_weights_learns_nothing():
    model = named(
        parser.parse_model("""<ir_version: 10, opset_import: ["": 20]>
        g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }""")
    )
    found = learn(model, model.clone(), Samples(lambda: [{"x": normal(1, 4)}] * 20))
    assert "no gradient" in found.reason


def test_batches_hold_every_sample_once():
    found = [number for batch in learning._batches(np.arange(37)) for number in batch]
    assert found == list(range(37))
