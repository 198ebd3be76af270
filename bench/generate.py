"""Generates models of any number of nodes out of patterns that exporters write.

`generate.py NODES OUT.onnx`. One value of shape [batch, 8, 4, 4] flows through blocks that a seed
picks: convolutions with BatchNormalization, LayerNorm and GELU spelt out, pairs of transposes,
reshapes with computed shapes, chains of casts, clips and constants, branches, repeated and dead
computation. Every block adds a tenth of what it computed to what it was given and every tenth one
normalizes, so the values stay near one however long the chain is. Chains of about a thousand nodes
stand side by side and are added up at the end: onnxruntime's SkipLayerNormFusion (1.32) overflows
the stack on a chain of several thousand.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SHAPE = (8, 4, 4)
_CHANNELS = SHAPE[0]
_LENGTH = 1000
_LEAST = 12  # nodes of the largest block, with what adds it


class Chain:
    """A graph that grows; every block takes the name of a value and returns that of another."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def node(self, op: str, *inputs: str, **attributes: Any) -> str:
        """Append a node with one output and return the output's name."""
        name = f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def constant(self, array: Any, dtype: type = np.float32) -> str:
        """Hold an array: as an initializer, or (one in three) as a Constant node."""
        tensor = numpy_helper.from_array(np.asarray(array, dtype), "")
        if self.rng.random() < 1 / 3:
            return self.node("Constant", value=tensor)
        tensor.name = f"weight_{len(self.initializers)}"
        self.initializers.append(tensor)
        return str(tensor.name)

    def weights(self, *shape: int) -> str:
        """Hold random weights that keep the size of what they are multiplied with."""
        fan_in = int(np.prod(shape[1:])) or 1
        return self.constant(self.rng.normal(size=shape, scale=fan_in**-0.5))


def generate(nodes: int, seed: int = 0) -> onnx.ModelProto:
    """Return a model of about `nodes` nodes in its main graph; it takes any batch."""
    chain = Chain(seed)
    ends: list[str] = []
    while len(chain.nodes) < nodes - _LEAST:
        ends.append(_lengthen(chain, "input", min(nodes, len(chain.nodes) + _LENGTH)))
    chain.nodes.append(helper.make_node("Mean", ends, ["output"], name="last"))
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *SHAPE])
        for name in ("input", "output")
    ]
    graph = helper.make_graph(chain.nodes, "mixed", values[:1], values[1:], chain.initializers)
    opsets = [helper.make_opsetid("", 20)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9, producer_name="bench")


def _lengthen(chain: Chain, x: str, nodes: int) -> str:
    """Append blocks to `x` until the graph has about `nodes` nodes."""
    for turn in range(nodes):
        if len(chain.nodes) >= nodes - _LEAST // 2:
            break
        if turn % 10 == 9:
            x = layer_norm(chain, x)
            continue
        y = BLOCKS[int(chain.rng.integers(len(BLOCKS)))](chain, x)
        x = chain.node("Add", x, chain.node("Mul", y, chain.constant(0.1)))
    return x


def conv(chain: Chain, x: str) -> str:
    """Conv, BatchNormalization, Relu."""
    y = chain.node("Conv", x, chain.weights(_CHANNELS, _CHANNELS, 3, 3), pads=[1, 1, 1, 1])
    scale, variance = (chain.constant(chain.rng.uniform(0.5, 1.5, _CHANNELS)) for _ in range(2))
    bias, mean = (chain.constant(chain.rng.normal(size=_CHANNELS)) for _ in range(2))
    return chain.node("Relu", chain.node("BatchNormalization", y, scale, bias, mean, variance))


def padded_conv(chain: Chain, x: str) -> str:
    """Pad, depthwise Conv, Mul and Add with a constant each channel, HardSwish spelt out."""
    pads = chain.constant([0, 0, 1, 1, 0, 0, 1, 1], np.int64)
    weight = chain.weights(_CHANNELS, 1, 3, 3)
    y = chain.node("Conv", chain.node("Pad", x, pads), weight, group=_CHANNELS)
    y = chain.node("Mul", y, chain.weights(_CHANNELS, 1, 1))
    y = chain.node("Add", y, chain.weights(_CHANNELS, 1, 1))
    six = chain.node("Add", y, chain.constant(3))
    six = chain.node("Clip", six, chain.constant(0), chain.constant(6))
    return chain.node("Div", chain.node("Mul", y, six), chain.constant(6))


def linear(chain: Chain, x: str) -> str:
    """MatMul with a bias."""
    return chain.node("Add", chain.node("MatMul", x, chain.weights(4, 4)), chain.weights(4))


def gelu_erf(chain: Chain, x: str) -> str:
    """x·½·(1 + erf(x/√2))."""
    y = chain.node("Erf", chain.node("Div", x, chain.constant(2**0.5)))
    y = chain.node("Mul", x, chain.node("Add", y, chain.constant(1)))
    return chain.node("Mul", y, chain.constant(0.5))


def gelu_tanh(chain: Chain, x: str) -> str:
    """½·x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))."""
    cube = chain.node("Mul", chain.node("Pow", x, chain.constant(3)), chain.constant(0.044715))
    y = chain.node("Mul", chain.node("Add", x, cube), chain.constant((2 / np.pi) ** 0.5))
    y = chain.node("Add", chain.node("Tanh", y), chain.constant(1))
    return chain.node("Mul", chain.node("Mul", x, chain.constant(0.5)), y)


def silu(chain: Chain, x: str) -> str:
    """x·sigmoid(x), through a Dropout that does nothing."""
    return chain.node("Dropout", chain.node("Mul", x, chain.node("Sigmoid", x)))


def layer_norm(chain: Chain, x: str) -> str:
    """(x - mean) / √(mean((x - mean)²) + ε) · weight + bias, over the last axis."""
    axes = chain.constant([-1], np.int64)
    centred = chain.node("Sub", x, chain.node("ReduceMean", x, axes))
    square = chain.node("Pow", centred, chain.constant(2))
    variance = chain.node("ReduceMean", square, axes)
    deviation = chain.node("Sqrt", chain.node("Add", variance, chain.constant(1e-5)))
    y = chain.node("Mul", chain.node("Div", centred, deviation), chain.constant(np.ones(4)))
    return chain.node("Add", y, chain.constant(np.zeros(4)))


def transposes(chain: Chain, x: str) -> str:
    """Two transposes with a Relu between them, which cancel."""
    y = chain.node("Relu", chain.node("Transpose", x, perm=[0, 2, 3, 1]))
    return chain.node("Transpose", y, perm=[0, 3, 1, 2])


def reshapes(chain: Chain, x: str) -> str:
    """Flatten and unflatten, the batch taken from the shape of the input."""
    shape, first = chain.node("Shape", x), chain.constant(0, np.int64)
    batch = chain.node("Gather", shape, first, axis=0)
    batch = chain.node("Unsqueeze", batch, chain.constant([0], np.int64))
    rows = chain.node("Concat", batch, chain.constant([-1], np.int64), axis=0)
    whole = chain.node("Concat", batch, chain.constant(SHAPE, np.int64), axis=0)
    return chain.node("Reshape", chain.node("Tanh", chain.node("Reshape", x, rows)), whole)


def casts(chain: Chain, x: str) -> str:
    """To double and back, then to what it is already."""
    y = chain.node("Cast", chain.node("Cast", x, to=TensorProto.DOUBLE), to=TensorProto.FLOAT)
    return chain.node("Cast", y, to=TensorProto.FLOAT)


def clips(chain: Chain, x: str) -> str:
    """Clip, Relu, Max and Min, one after the other."""
    y = chain.node("Clip", x, chain.constant(-2), chain.constant(2))
    y = chain.node("Max", chain.node("Relu", y), chain.constant(0.1))
    return chain.node("Min", y, chain.constant(1.5))


def constants(chain: Chain, x: str) -> str:
    """Arithmetic among constants, and several of them applied in turn."""
    factor = chain.node("Mul", chain.constant(0.5), chain.node("Sqrt", chain.constant(4)))
    y = chain.node("Mul", chain.node("Mul", x, factor), chain.constant(0.7))
    return chain.node("Add", chain.node("Add", y, chain.constant(0.2)), chain.constant(0.3))


def repeated(chain: Chain, x: str) -> str:
    """The same computation twice, once with its operands the other way round."""
    offset = chain.constant(0.25)
    one, two = chain.node("Add", x, offset), chain.node("Add", offset, x)
    return chain.node("Mul", chain.node("Tanh", one), chain.node("Tanh", two))


def dead(chain: Chain, x: str) -> str:
    """A branch that nobody reads beside one that is read."""
    chain.node("Exp", chain.node("Neg", x))
    return chain.node("Identity", chain.node("Softplus", x))


def pieces(chain: Chain, x: str) -> str:
    """Slices that are put together again, between an Unsqueeze and its Squeeze."""
    axis = chain.constant([1], np.int64)
    parts = [
        chain.node("Slice", x, chain.constant([a], np.int64), chain.constant([b], np.int64), axis)
        for a, b in ((0, 4), (4, 8))
    ]
    y = chain.node("Unsqueeze", chain.node("Concat", *parts, axis=1), axis)
    return chain.node("Squeeze", y, axis)


def branch(chain: Chain, x: str) -> str:
    """An If whose condition is known, with graphs that read a value from outside."""
    condition = chain.constant(chain.rng.random() < 0.5, np.bool_)
    graphs = {}
    for name, op in (("then_branch", "Sigmoid"), ("else_branch", "Tanh")):
        inner = f"{name}_{len(chain.nodes)}"
        output = helper.make_tensor_value_info(inner, TensorProto.FLOAT, None)
        graphs[name] = helper.make_graph([helper.make_node(op, [x], [inner])], name, [], [output])
    return chain.node("If", condition, **graphs)


BLOCKS: tuple[Callable[[Chain, str], str], ...] = (
    conv, padded_conv, linear, gelu_erf, gelu_tanh, silu, layer_norm, transposes, reshapes, casts,
    clips, constants, repeated, dead, pieces, branch,
)  # fmt: skip


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: generate.py NODES OUT.onnx")
    Path(sys.argv[2]).write_bytes(generate(int(sys.argv[1])).SerializeToString())
