import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.graph import io
from onnxopt.graph.finite import not_finite


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_weights_with_nan_or_infinity_are_found(kind, tmp_path):
    largest = np.finfo(kind).max
    weights = {
        "fine": np.ones(1000, kind),
        "large": np.full(1000, largest, kind),
        "nan": np.array([1, np.nan] * 500, kind),
        "inf": np.array([np.inf, -np.inf, 0] * 300, kind),
    }
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    nodes = [helper.make_node("Identity", [name], [f"{name}_out"]) for name in weights]
    outputs = [helper.make_tensor_value_info(f"{n}_out", element, None) for n in weights]
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    assert not_finite(io.load(path)) == ["nan", "inf"]
