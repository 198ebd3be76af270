"""Models and a naive way to see all their tensors, for the tests of collecting."""

import numpy as np
import onnx
from onnx import TensorProto

from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import shapes
from onnxopt.runtime.sessions.session import open_session
from onnxopt.runtime.sessions.session import run as run_session
from tests.passes.graphs import info, model_of, node

FREE = ["n", 3, "h", "w"]


def loaded(proto):
    """Load a model and infer its types and shapes, as whoever collects does."""
    model = ir.serde.deserialize_model(onnx.ModelProto.FromString(proto.SerializeToString()))
    shapes.infer(model)
    return model


def convolutional(opset=17, dims=FREE):
    """Two convolutions with a Relu, a sum, and a pooled end: every rank down to 2."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "w2": rng.standard_normal((8, 8, 1, 1)).astype(np.float32),
        "w3": rng.standard_normal((8, 5)).astype(np.float32),
    }
    nodes = [
        node("Conv", ["x", "w1"], "a", pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "w2"], "c"),
        node("Add", ["b", "c"], "d"),
        node("GlobalAveragePool", ["d"], "e"),
        node("Flatten", ["e"], "f"),
        node("MatMul", ["f", "w3"], "y"),
    ]
    return model_of(nodes, [info("x", dims)], [info("y", None)], constants, opset)


INNER = ("a", "b", "c", "d", "e", "f", "y")


def naive(proto, names, feed, optimize="all"):
    """Return the tensors of the unmodified main graph, all of them exposed at once."""
    exposed = onnx.ModelProto.FromString(proto.SerializeToString())
    del exposed.graph.output[:]
    exposed.graph.output.extend(info(name, None, TensorProto.FLOAT) for name in names)
    session = open_session(exposed.SerializeToString(), optimize=optimize)
    return dict(zip(names, run_session(session, feed, names), strict=True))


def computed(exposed, feed):
    """Run an exposed model: arrays by output name."""
    proto = ir.serde.serialize_model(exposed.model)
    session = open_session(proto.SerializeToString(), optimize="none")
    return dict(zip(exposed.outputs, run_session(session, feed, exposed.outputs), strict=True))
