"""Write a graph node by node, with the names that PyTorch's exporter gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
from onnx import TensorProto, helper, numpy_helper

if TYPE_CHECKING:
    import numpy as np

_ELEMENT_TYPES = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}


class GraphWriter:
    """A graph that grows: every call returns the name of the value that it made."""

    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """Append a node with one output: `output`, or a name of operator and number."""
        name = f"/{op}_{len(self._nodes) + 1}"
        output = output or f"{name}_output_0"
        self._nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """Add an initializer; the same name again is the same initializer."""
        if name not in self._initializers:
            self._initializers[name] = numpy_helper.from_array(array.copy(order="C"), name)
        return name

    def model(
        self,
        name: str,
        inputs: dict[str, tuple[str, list[int | str]]],
        outputs: dict[str, tuple[str, list[int | str]]],
        *,
        opset: int,
    ) -> onnx.ModelProto:
        """Return the checked model; inputs and outputs map a name to element type and shape."""
        graph = helper.make_graph(
            self._nodes,
            name,
            [_value_info(*item) for item in inputs.items()],
            [_value_info(*item) for item in outputs.items()],
            list(self._initializers.values()),
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", opset)],
            producer_name="onnxopt-models",
            ir_version=8,
        )
        onnx.checker.check_model(model, full_check=True)
        return model


def _value_info(name: str, kind: tuple[str, list[int | str]]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, _ELEMENT_TYPES[kind[0]], kind[1])
