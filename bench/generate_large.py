"""Generates models of any size with external data: `generate_large.py GB SHARE OUT.onnx`.

Layers of 64 MB in a row, every weight random and written to the disk in full. SHARE of them are
such that their weight is rewritten: a 1×1 convolution followed by BatchNormalization, or a MatMul
whose result is scaled and shifted by constants. The others, a MatMul with a bias, stay as they are.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 4096
_LAYER_BYTES = WIDTH * WIDTH * 4


class Layers:
    """A chain of layers that grows, its weights going to a file as they are made."""

    def __init__(self, data: Path, width: int) -> None:
        self.rng = np.random.Generator(np.random.SFC64(0))
        self.width = width
        self.data = data
        self.end = 0
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str) -> str:
        """Append a node and return the name of its output."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name))
        return f"{name}_out"

    def vector(self, low: float, high: float) -> str:
        """Hold a number for each channel, inside the model."""
        array = self.rng.uniform(low, high, self.width).astype(np.float32)
        name = f"vector_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def weight(self, *shape: int) -> str:
        """Write random weights, such that a Relu behind them keeps the size of what comes in."""
        array = self.rng.random(shape, np.float32)
        array -= np.float32(0.5)
        array *= np.float32((24 / self.width) ** 0.5)
        tensor = TensorProto(name=f"weight_{len(self.initializers)}", dims=shape)
        tensor.data_type, tensor.data_location = TensorProto.FLOAT, TensorProto.EXTERNAL
        for key, value in (
            ("location", self.data.name), ("offset", self.end), ("length", array.nbytes),
        ):  # fmt: skip
            tensor.external_data.add(key=key, value=str(value))
        with self.data.open("ab") as file:
            array.tofile(file)
        self.end += array.nbytes
        self.initializers.append(tensor)
        return tensor.name


def generate(path: Path, layers: int, share: float, width: int = WIDTH) -> None:
    """Write a model of so many layers, `share` of them to be rewritten, and its data beside it."""
    data = path.with_name(f"{path.name}.data")
    data.unlink(missing_ok=True)
    chain = Layers(data, width)
    x = "input"
    for turn in range(layers):
        rewritten = int((turn + 1) * share) > int(turn * share)
        if not rewritten:
            y = chain.node("MatMul", x, chain.weight(width, width))
            x = chain.node("Relu", chain.node("Add", y, chain.vector(-0.1, 0.1)))
        elif turn % 4 < 2:
            x = _convolution(chain, x)
        else:
            y = chain.node("MatMul", x, chain.weight(width, width))
            y = chain.node("Mul", y, chain.vector(0.8, 1.2))
            x = chain.node("Relu", chain.node("Add", y, chain.vector(-0.1, 0.1)))
    chain.nodes.append(helper.make_node("Identity", [x], ["output"], name="last"))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])
        for name in ("input", "output")
    ]
    graph = helper.make_graph(chain.nodes, "large", values[:1], values[1:], chain.initializers)
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="bench")
    path.write_bytes(model.SerializeToString())


def _convolution(chain: Layers, x: str) -> str:
    """Conv, BatchNormalization, Relu on rows that are made pixels and rows again."""
    shape = f"pixels_{len(chain.initializers)}"
    chain.initializers.append(numpy_helper.from_array(np.array([0, -1, 1, 1]), shape))
    y = chain.node("Reshape", x, shape)
    y = chain.node("Conv", y, chain.weight(chain.width, chain.width, 1, 1))
    scale, variance = chain.vector(0.8, 1.2), chain.vector(0.8, 1.2)
    bias, mean = chain.vector(-0.1, 0.1), chain.vector(-0.1, 0.1)
    y = chain.node("Relu", chain.node("BatchNormalization", y, scale, bias, mean, variance))
    rows = f"rows_{len(chain.initializers)}"
    chain.initializers.append(numpy_helper.from_array(np.array([0, -1]), rows))
    return chain.node("Reshape", y, rows)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: generate_large.py GB SHARE OUT.onnx")
    count = round(float(sys.argv[1]) * 1e9 / _LAYER_BYTES)
    generate(Path(sys.argv[3]), count, float(sys.argv[2]))
