import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def _build(nodes, inputs, outputs, initializers=(), opset=OPSET, extra_domains=(), functions=()):
    """Make a model of nodes; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        list(nodes),
        "graph",
        [_info(*entry) for entry in inputs],
        [_info(*entry) for entry in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in initializers],
    )
    opsets = [helper.make_opsetid("", opset)]
    opsets += [helper.make_opsetid(domain, 1) for domain in extra_domains]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8, functions=list(functions))


def _info(name, type_, shape):
    if isinstance(type_, onnx.TypeProto):
        return helper.make_value_info(name, type_)
    return helper.make_tensor_value_info(name, type_, shape)


@pytest.fixture
def build():
    """Give the function that makes models."""
    return _build


@pytest.fixture
def save(tmp_path):
    """Write a model beside the test and return its path."""

    def write(model, name="model.onnx"):
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write


@pytest.fixture
def dense():
    """A small MLP: x[batch, 8] to y[batch, 4] by two matrix products and a Relu."""
    rng = np.random.default_rng(0)
    return _build(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"]),
            helper.make_node("Relu", ["h"], ["r"]),
            helper.make_node("MatMul", ["r", "v"], ["y"]),
        ],
        [("x", TensorProto.FLOAT, ["batch", 8])],
        [("y", TensorProto.FLOAT, ["batch", 4])],
        [
            ("w", rng.standard_normal((8, 16)).astype(np.float32)),
            ("v", rng.standard_normal((16, 4)).astype(np.float32)),
        ],
    )
