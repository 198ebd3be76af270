import json
import subprocess
import sys

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from onnxopt.runtime.sessions.session import open_session

WIDTH, LAYERS = 1024, 75
MODEL_BYTES = LAYERS * WIDTH * WIDTH * 4

OPTIMIZE = """
import json, sys
import onnxopt, onnxruntime
from onnxopt.runtime.machine.memory import peak_rss_bytes
onnxopt.optimize  # loads what there is to import
before = peak_rss_bytes()
report = onnxopt.optimize(sys.argv[1], sys.argv[2], verify=False, measure=False)
done = {rule: count for step in report.steps for rule, count in step.done.items()}
print(json.dumps([report.peak_rss_bytes - before, done]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model of 300 MB with external data; every weight will be scaled, so all are rewritten."""
    path = tmp_path_factory.mktemp("large") / "model.onnx"
    rng = np.random.default_rng(0)
    nodes, weights, last = [], [], "x"
    with path.with_name("weights").open("wb") as data:
        for layer in range(LAYERS):
            array = (rng.random((WIDTH, WIDTH), np.float32) - np.float32(0.5)) / 9
            weight = TensorProto(name=f"w{layer}", dims=array.shape, data_type=TensorProto.FLOAT)
            weight.data_location = TensorProto.EXTERNAL
            weight.external_data.add(key="location", value="weights")
            weight.external_data.add(key="offset", value=str(data.tell()))
            array.tofile(data)
            scale = rng.uniform(0.9, 1.1, WIDTH).astype(np.float32)
            weights += [weight, numpy_helper.from_array(scale, f"s{layer}")]
            nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [f"m{layer}"]))
            nodes.append(helper.make_node("Mul", [f"m{layer}", f"s{layer}"], [f"y{layer}"]))
            nodes.append(helper.make_node("Tanh", [f"y{layer}"], [f"t{layer}"]))
            last = f"t{layer}"
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", WIDTH]) for name in ("x", last)
    ]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    opsets = [helper.make_opsetid("", 17)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(proto.SerializeToString())
    return path


def test_a_model_whose_every_weight_is_rewritten_is_never_in_memory(model, tmp_path):
    output = tmp_path / "out.onnx"
    command = [sys.executable, "-c", OPTIMIZE, str(model), str(output)]
    child = subprocess.run(command, capture_output=True, check=True, text=True)
    growth, done = json.loads(child.stdout)
    assert done["fold_scale_into_linear"] == LAYERS
    assert growth < MODEL_BYTES / 2
    feed = {"x": np.random.default_rng(1).standard_normal((1, WIDTH)).astype(np.float32)}
    (before,), (after,) = (
        open_session(path, optimize="none").run(None, feed) for path in (model, output)
    )
    assert np.abs(before).max() > 0.01
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5 * np.abs(before).max())
