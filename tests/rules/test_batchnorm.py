import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxopt.rules import batchnorm
from onnxopt.testing import assert_rewrites


def conv_batchnorm(group=1, bias=True):
    rng = np.random.default_rng(0)
    tensors = {
        "w": rng.standard_normal((8, 8 // group, 3, 3)) * 0.3,
        "b": rng.standard_normal(8),
        "gamma": rng.uniform(0.5, 1.5, 8),
        "beta": rng.standard_normal(8),
        "mean": rng.standard_normal(8),
        "variance": rng.uniform(0.5, 1.5, 8),
    }
    conv_inputs = ["x", "w", "b"] if bias else ["x", "w"]
    nodes = [
        helper.make_node("Conv", conv_inputs, ["c"], name="conv", pads=[1] * 4, group=group),
        helper.make_node(
            "BatchNormalization", ["c", "gamma", "beta", "mean", "variance"], ["y"], name="bn"
        ),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8, 9, 9])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 9, 9])],
        [
            numpy_helper.from_array(array.astype(np.float32), name)
            for name, array in tensors.items()
            if name in used
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_folds_into_conv_with_and_without_bias_and_in_groups():
    for bias in (True, False):
        for group in (1, 8):
            model = conv_batchnorm(group, bias)
            assert_rewrites(batchnorm.fold_batchnorm_into_conv, model, becomes=["Conv"])
