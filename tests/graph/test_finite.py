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
        "masked": np.array(-np.inf, kind),
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


def test_nan_at_the_end_of_a_large_weight_in_a_file_is_found(tmp_path):
    weight = np.zeros(700_001, np.float32)
    weight[-1] = np.nan
    inputs, outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [700_001])] for name in "xy"
    )
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "g", inputs, outputs, [numpy_helper.from_array(weight, "w")])
    path = tmp_path / "model.onnx"
    path.write_bytes(helper.make_model(graph, ir_version=8).SerializeToString())
    assert not_finite(io.load(path)) == ["w"]
