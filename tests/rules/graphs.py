"""A few lines to build small models with: `y = g.Mul(g.Relu(x), 0.5)`."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Graph:
    """Collects nodes; numbers and arrays among the inputs become initializers, floats in float32.

    Each output gets the name of its operator and a number, so that the first Relu makes `Relu_1`.
    """

    def __init__(self, opset=17, seed=0):
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self.nodes, self.inputs, self.initializers = [], [], []

    def input(self, name, *shape, dtype=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def const(self, content, dtype=None):
        array = np.asarray(content)
        if dtype is None and array.dtype == np.float64:
            dtype = np.float32
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array.astype(dtype or array.dtype), name))
        return name

    def weight(self, *shape):
        return self.const(self.rng.standard_normal(shape) * 0.3)

    def axes(self, op_type, x, axes, **attributes):
        """Make a reduction, Squeeze or Unsqueeze, whose axes are an attribute in old opsets."""
        schema = onnx.defs.get_schema(op_type, self.opset, "")
        if "axes" in schema.attributes:
            return self.node(op_type, x, axes=list(axes), **attributes)
        return self.node(op_type, x, np.array(axes, np.int64), **attributes)

    def node(self, op_type, *inputs, outputs=1, **attributes):
        given = [i if isinstance(i, str) else "" if i is None else self.const(i) for i in inputs]
        number = len(self.nodes) + 1
        made = [f"{op_type}_{number}" + ("" if k == 0 else f"_{k}") for k in range(outputs)]
        self.nodes.append(
            helper.make_node(op_type, given, made, name=f"{op_type}_{number}", **attributes)
        )
        return made[0] if outputs == 1 else tuple(made)

    def __getattr__(self, op_type):
        if not op_type[:1].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **options: self.node(op_type, *inputs, **options)

    def model(self, *outputs, dtype=TensorProto.FLOAT):
        """Finish with these outputs; their shapes are inferred."""
        infos = [helper.make_tensor_value_info(name, dtype, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.initializers)
        imports = [helper.make_opsetid("", self.opset)]
        if any(node.domain == "com.microsoft" for node in self.nodes):
            imports.append(helper.make_opsetid("com.microsoft", 1))
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


END = 2**63 - 1
"""The stop of a Slice that goes to the end."""


def ints(*values):
    return np.array(values, np.int64)


def cut(g, x, axis, start, stop, step=1):
    """Slice one axis, in the form of the graph's operator set."""
    if g.opset < 10:
        return g.Slice(x, starts=[start], ends=[stop], axes=[axis])
    rows = [ints(start), ints(stop), ints(axis)] + ([ints(step)] if step != 1 else [])
    return g.Slice(x, *rows)
