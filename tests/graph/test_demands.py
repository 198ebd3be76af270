"""What readers demand of a value's rank."""

import numpy as np
import pytest
from onnx import helper, numpy_helper

from onnxopt.graph import demands
from onnxopt.graph._onnx_ir import ir

LSTM = ("LSTM", ["s", "w", "r"], {"hidden_size": 2})


def demanded(*chain):
    """Return the rank demanded of 'v', which Mystery makes and a chain of nodes reads."""
    nodes = [helper.make_node("Mystery", ["x"], ["v"], domain="far")]
    read = "v"
    for index, (op_type, inputs, attributes) in enumerate(chain):
        names = [read if name == "s" else name for name in inputs]
        read = f"out{index}"
        nodes.append(helper.make_node(op_type, names, [read], **attributes))
    constants = {
        "w": np.ones((1, 8, 3), np.float32),
        "r": np.ones((1, 8, 2), np.float32),
        "axes": np.array([0]),
        "kernel": np.ones((4, 3, 3, 3), np.float32),
    }
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, None)],
        [helper.make_tensor_value_info(read, 1, None)],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )  # fmt: skip
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("far", 1)]
    model = ir.serde.deserialize_model(helper.make_model(graph, opset_imports=imports))
    return demands.rank(model.graph[0].outputs[0], 17)


@pytest.mark.parametrize(
    ("chain", "rank"),
    [
        ([LSTM], 3),
        ([("Unsqueeze", ["s", "axes"], {}), LSTM], 2),
        ([("Squeeze", ["s", "axes"], {}), ("Relu", ["s"], {}), LSTM], 4),
        ([("Transpose", ["s"], {"perm": [1, 0, 2, 3]})], 4),
        ([("Conv", ["s", "kernel"], {})], 4),
    ],
)
def test_demands_come_back_through_what_shifts_the_rank(chain, rank):
    assert demanded(*chain) == rank


@pytest.mark.parametrize(
    "chain",
    [
        [("Exp", ["s"], {})],
        [("Squeeze", ["s"], {}), LSTM],
        [("Reshape", ["s", "axes"], {}), LSTM],
        [("Transpose", ["s"], {})],
        [("Mystery", ["s"], {"domain": "far"})],
        [("Unsqueeze", ["x", "s"], {}), LSTM],
    ],
)
def test_where_nothing_is_demanded(chain):
    assert demanded(*chain) is None
