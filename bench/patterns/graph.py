"""What the forms are written with: a graph to put nodes in, and the register of all forms."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

IMAGE = (1, 8, 16, 16)
TOKENS = (2, 16, 32)


class Graph:
    """Collects the nodes of one form; `y = g.Mul(g.Relu(x), 0.5)` adds two.

    Among the inputs of a node a name is a value, None an input that is left out; a number becomes
    a float32 scalar, a list a vector of int64, an array stays as it is. Weights are noise of a
    generator that is seeded with the form's name. `makes` is the shape of the outputs where shape
    inference finds none.
    """

    def __init__(self, name: str, opset: int) -> None:
        self.opset = opset
        self.makes: tuple[int, ...] | None = None
        self.rng = np.random.default_rng(zlib.crc32(name.encode()))
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def input(self, name: str, *shape: int | str, dtype: int = TensorProto.FLOAT) -> str:
        """Add an input of the graph; return its name."""
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def weight(self, *shape: int) -> str:
        """Add float32 noise of standard deviation 0.3."""
        return self.constant(self.noise(*shape))

    def positive(self, count: int) -> str:
        """Add a float32 vector of numbers between 0.5 and 1.5."""
        return self.constant(self.rng.uniform(0.5, 1.5, count).astype(np.float32))

    def noise(self, *shape: int) -> np.ndarray:
        """Return what `weight` would add."""
        return (self.rng.standard_normal(shape) * 0.3).astype(np.float32)

    def constant(self, content: Any) -> str:
        """Add an initializer; return its name."""
        if isinstance(content, list):
            content = np.array(content, np.int64)
        array = np.float32(content) if isinstance(content, (int, float)) else content
        name = f"c{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op_type: str, *inputs: Any, outputs: int = 1, **attributes: Any) -> Any:
        """Add a node; return its output, or a tuple where there are several."""
        given = ["" if i is None else i if isinstance(i, str) else self.constant(i) for i in inputs]
        number = len(self.nodes)
        made = [f"t{number}" + (f"_{k}" if k else "") for k in range(outputs)]
        name = f"n{number}_{op_type}"
        self.nodes.append(helper.make_node(op_type, given, made, name=name, **attributes))
        return made[0] if outputs == 1 else tuple(made)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if not op_type[:1].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **options: self.node(op_type, *inputs, **options)

    def conv(self, x: str, to: int, kernel: int = 3, **options: Any) -> str:
        """Add a Conv that keeps height and width; `bias=False` for one without.

        `channels` says how many it reads per group where that is not 8.
        """
        options = {"pads": [kernel // 2] * 4} | options
        operands = [x, self.weight(to, options.pop("channels", 8), kernel, kernel)]
        if options.pop("bias", True):
            operands.append(self.weight(to))
        return str(self.Conv(*operands, kernel_shape=[kernel, kernel], **options))

    def batchnorm(self, x: str, channels: int = 8) -> str:
        """Add a BatchNormalization as inference sees it."""
        scale, shift, mean = self.positive(channels), self.weight(channels), self.weight(channels)
        return str(self.BatchNormalization(x, scale, shift, mean, self.positive(channels)))

    def dense(self, x: str, rows: int, columns: int) -> str:
        """Add a MatMul with the Add of its bias."""
        return str(self.Add(self.MatMul(x, self.weight(rows, columns)), self.weight(columns)))

    def model(self, outputs: tuple[str, ...]) -> onnx.ModelProto:
        """Finish with these outputs; types and shapes are inferred, those of outputs too."""
        infos = [helper.make_empty_tensor_value_info(name) for name in outputs]
        if self.makes:
            infos = [
                helper.make_tensor_value_info(name, TensorProto.FLOAT, self.makes)
                for name in outputs
            ]
        graph = helper.make_graph(self.nodes, "g", self.inputs, infos, self.initializers)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        return onnx.shape_inference.infer_shapes(model, data_prop=True)


@dataclass(frozen=True, kw_only=True)
class Form:
    """One wasteful thing that exporters write; `about` is the docstring of what writes it."""

    name: str
    about: str
    make: Callable[[], onnx.ModelProto]


FORMS: dict[str, Form] = {}


def form(
    *shape: int | str, opset: int = 17, name: str = "", **bound: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Enter a function `(graph, x, **bound) → output or outputs` into `FORMS`.

    `shape` is that of the input x. One function may be entered several times, under other names.
    """

    def enter(write: Callable[..., Any]) -> Callable[..., Any]:
        called = name or write.__name__

        def make() -> onnx.ModelProto:
            graph = Graph(called, opset)
            made = write(graph, graph.input("x", *shape), **bound)
            return graph.model(made if isinstance(made, tuple) else (made,))

        FORMS[called] = Form(name=called, about=write.__doc__ or "", make=make)
        return write

    return enter
