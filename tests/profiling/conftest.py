import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.benchmarking.child.feedfile import save_feed

FLOAT = TensorProto.FLOAT


def graph(nodes, name, inputs=(), outputs=(), weights=()):
    return helper.make_graph(
        nodes,
        name,
        [helper.make_tensor_value_info(n, t, s) for n, t, s in inputs],
        [helper.make_tensor_value_info(n, t, s) for n, t, s in outputs],
        [numpy_helper.from_array(array, n) for n, array in weights],
    )


@pytest.fixture
def save(tmp_path):
    """Write a model and a feed of it; return both paths as the profiler wants them."""

    def write(made, feed):
        opsets = [helper.make_opsetid("", 17)]
        path, data = tmp_path / "model.onnx", tmp_path / "feed.npz"
        onnx.save(helper.make_model(made, opset_imports=opsets, ir_version=8), path)
        save_feed(data, feed)
        return str(path), str(data)

    return write


@pytest.fixture
def dense(save):
    """Write y = Relu(x·w)·v for x[64, 256], whose weights onnxruntime packs for itself."""
    rng = np.random.default_rng(0)
    weights = [
        ("w", rng.standard_normal((256, 512)).astype(np.float32)),
        ("v", rng.standard_normal((512, 32)).astype(np.float32)),
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
        helper.make_node("Relu", ["h"], ["r"], name="relu"),
        helper.make_node("MatMul", ["r", "v"], ["y"], name="second"),
    ]
    made = graph(nodes, "g", [("x", FLOAT, ["n", 256])], [("y", FLOAT, ["n", 32])], weights)
    return save(made, {"x": np.ones((64, 256), np.float32)})


@pytest.fixture
def looping(save):
    """Write a Loop of 7 rounds, each of which multiplies x[16, 16] by itself."""
    body = graph(
        [
            helper.make_node("MatMul", ["state", "state"], ["next"], name="product"),
            helper.make_node("Identity", ["on"], ["still"], name="still"),
        ],
        "body",
        [("i", TensorProto.INT64, []), ("on", TensorProto.BOOL, []), ("state", FLOAT, [16, 16])],
        [("still", TensorProto.BOOL, []), ("next", FLOAT, [16, 16])],
    )
    loop = helper.make_node("Loop", ["rounds", "", "x"], ["y"], name="loop", body=body)
    whole = graph(
        [loop], "g", [("x", FLOAT, [16, 16])], [("y", FLOAT, [16, 16])],
        [("rounds", np.array(7, np.int64))],
    )  # fmt: skip
    return save(whole, {"x": np.zeros((16, 16), np.float32)})


@pytest.fixture
def einsum(save):
    """Write one Einsum of three letters, which onnxruntime leaves as it is."""
    node = helper.make_node("Einsum", ["a", "b"], ["y"], name="sum", equation="bij,bjk->bik")
    shapes = {"a": [2, 5, 7], "b": [2, 7, 3]}
    made = graph([node], "g", [(n, FLOAT, s) for n, s in shapes.items()], [("y", FLOAT, [2, 5, 3])])
    return save(made, {n: np.ones(s, np.float32) for n, s in shapes.items()})
