"""Small networks to quantize, and int8 models of them made in the simplest way."""

import numpy as np

from onnxopt.graph import facts, io
from onnxopt.passes import shapes
from onnxopt.quantizing.calibration.choice import activations
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.naming import tell_apart
from onnxopt.quantizing.placement.cpu import place
from onnxopt.quantizing.solution import QuantizedWeight, Solution
from onnxopt.quantizing.spec import QParams
from onnxopt.quantizing.weights.limits import Plain
from onnxopt.quantizing.weights.matrix import from_rows, to_rows
from onnxopt.quantizing.weights.rounding import integers
from onnxopt.runtime.sessions.session import open_session, run
from tests.quantizing.repair.nets import net, normal


def pictures(**changes):
    """Return a net with a stem, a depthwise block with a residual sum, pooling and a classifier."""
    text = """(float[N,3,12,12] x) => (float[N,5] y) {
        a = Conv <strides=[2,2], pads=[1,1,1,1]> (x, w1, b1)
        ar = Clip(a, zero, six)
        d = Conv <group=8, pads=[1,1,1,1]> (ar, w2, b2)
        dr = Relu(d)
        p = Conv (dr, w3)
        s = Add(p, ar)
        m = MaxPool <kernel_shape=[2,2], strides=[2,2]> (s)
        g = GlobalAveragePool(m)
        f = Flatten(g)
        y = Gemm <transB=1> (f, w4, b4)
    }"""
    constants = {
        "w1": normal(8, 3, 3, 3) * 0.4, "b1": normal(8) * 0.1,
        "w2": normal(8, 1, 3, 3, seed=1) * 0.4, "b2": normal(8, seed=2) * 0.1,
        "w3": normal(8, 8, 1, 1, seed=3) * 0.4,
        "w4": normal(5, 8, seed=4), "b4": normal(5, seed=5),
        "zero": np.float32(0), "six": np.float32(6),
    }  # fmt: skip
    return prepared(net(text, **{**constants, **changes}))


def tokens():
    """Return a net of matrix products: one of constants behind a norm, one of activations."""
    text = """(float[N,6,16] x) => (float[N,6,16] y) {
        n = LayerNormalization(x, gain, shift)
        q = MatMul(n, wq)
        qb = Add(q, bq)
        k = MatMul(n, wk)
        t = Transpose <perm=[0,2,1]> (k)
        a = MatMul(qb, t)
        p = Softmax(a)
        y = MatMul(p, n)
    }"""
    return prepared(
        net(
            text,
            gain=np.ones(16, np.float32),
            shift=np.zeros(16, np.float32),
            wq=normal(16, 16) * 0.2,
            bq=normal(16),
            wk=normal(16, 16, seed=1) * 0.2,
        )
    )


def prepared(proto):
    model = io.from_proto(proto)
    tell_apart(model)
    shapes.infer(model)
    return model


def samples(model, count=6, seed=0):
    shape = [dim if isinstance(dim, int) else 1 for dim in facts.shape(model.graph.inputs[0])]
    return [{"x": normal(*shape, seed=seed + number)} for number in range(count)]


def session(model, **options):
    return open_session(io.to_proto(model).SerializeToString(), threads=1, **options)


def outputs(model, feeds, **options):
    opened = session(model, **options)
    return [run(opened, feed) for feed in feeds]


def observed(model, placement, feeds):
    """Observe the tensors of a placement the plain way: all of them as outputs."""
    import onnx

    proto = io.to_proto(model)
    given = {value.name for value in (*proto.graph.input, *proto.graph.output)}
    for name in placement.tensors:
        if name not in given:
            proto.graph.output.append(onnx.helper.make_tensor_value_info(name, 1, None))
    opened = open_session(proto.SerializeToString(), threads=1, optimize="none")
    found = {name: Observer() for name in placement.tensors}
    names = [name for name in placement.tensors if name not in feeds[0]]
    for feed in feeds:
        values = {**dict(zip(names, run(opened, feed, names), strict=True)), **feed}
        for name, observer in found.items():
            observer.see(values[name])
    return found


def solved(model, placement=None, feeds=None):
    """Return a solution with ranges of min and max and weights rounded to the nearest."""
    placement = placement or place(model)
    feeds = feeds or samples(model)
    seen = observed(model, place(model), feeds)
    solution = Solution(placement=placement, activations=activations(placement, seen, "minmax"))
    nodes = {node.name: node for node in model.graph}
    for unit in placement.units:
        if unit.weight is not None:
            array = facts.constant(nodes[unit.name].inputs[unit.weight.edge.place])
            found, scales = integers(to_rows(array, unit.weight), Plain())
            params = QParams(
                scale=scales,
                zero_point=np.zeros(len(scales), np.int8),
                axis=unit.weight.spec.axis,
            )
            solution.weights[unit.weight.edge] = QuantizedWeight(
                integers=from_rows(found, array.shape, unit.weight), params=params
            )
    return solution


def sqnr(wanted, found):
    lost = sum(np.square(one[0] - two[0]).sum() for one, two in zip(wanted, found, strict=True))
    return 10 * np.log10(sum(np.square(one[0]).sum() for one in wanted) / lost)
