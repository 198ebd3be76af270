import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def save(tmp_path):
    """Write an MLP (x[batch, 8] to y[batch, 4]) with so many hidden units, and return its path."""

    def write(name, hidden=16, input_name="x"):
        rng = np.random.default_rng(0)
        weights = {"w": (8, hidden), "v": (hidden, 4)}
        graph = helper.make_graph(
            [
                helper.make_node("MatMul", [input_name, "w"], ["h"]),
                helper.make_node("MatMul", ["h", "v"], ["y"]),
            ],
            "graph",
            [helper.make_tensor_value_info(input_name, TensorProto.FLOAT, ["batch", 8])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 4])],
            [
                numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), key)
                for key, shape in weights.items()
            ],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        path = tmp_path / name
        onnx.save(model, path)
        return path

    return write
