"""Small models for the tests of passes."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from onnxopt.config import OptimizeConfig
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.testing import run as run_in_onnxruntime

CONFIG = OptimizeConfig()


def node(op_type, inputs, output, **attributes):
    outputs = [output] if isinstance(output, str) else output
    return helper.make_node(op_type, inputs, outputs, name=f"node_{outputs[0]}", **attributes)


def info(name, shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def model_of(nodes, inputs, outputs, constants=None, opset=17):
    tensors = [numpy_helper.from_array(np.asarray(a), n) for n, a in (constants or {}).items()]
    graph = helper.make_graph(nodes, "g", inputs, outputs, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def apply(proto, *passes, config=CONFIG):
    """Run passes on a model; return the result and what each did."""
    model = ir.serde.deserialize_model(proto)
    editor = Editor(model)
    done = [module.run(editor, config) for module in passes]
    return ir.serde.serialize_model(model), done


def ops(proto):
    return [n.op_type for n in proto.graph.node]


def same(before, after, feeds):
    """Assert that two models compute the same bit for bit, or to rounding for floats."""
    pairs = zip(run_in_onnxruntime(before, feeds), run_in_onnxruntime(after, feeds), strict=True)
    for want, got in pairs:
        assert want.dtype == got.dtype
        assert want.shape == got.shape
        if want.dtype.kind == "f":
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(got, want)
