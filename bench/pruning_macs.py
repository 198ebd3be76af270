"""Counts the multiplications of a model by running it: the same count for every tool's result.

Products and convolutions of the main graph count, of which onnxruntime is asked the shapes; what
recurrent operators and nested graphs multiply does not.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime

PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul", "Attention")
Shape = tuple[int, ...]


def macs(model: onnx.ModelProto, feed: Mapping[str, np.ndarray]) -> int:
    """Return the multiply-adds of one run on a feed."""
    nodes = [node for node in model.graph.node if node.op_type in PRODUCTS and not node.domain]
    names = {name for node in nodes for name in (*node.input[:2], node.output[0])}
    known = shapes(model, names, feed)
    return sum(_of(node, known) for node in nodes)


def _of(node: onnx.NodeProto, known: Mapping[str, Shape]) -> int:
    first, second = (known[name] for name in node.input[:2])
    if node.op_type == "Conv":
        return math.prod(known[node.output[0]]) * math.prod(second[1:])
    if node.op_type == "ConvTranspose":
        return math.prod(first) * math.prod(second[1:])
    if node.op_type == "Attention":
        return 2 * math.prod(known[node.output[0]]) * second[-2]
    turned = any(entry.name == "transA" and entry.i for entry in node.attribute)
    return math.prod(known[node.output[0]]) * first[-2 if turned else -1]


def shapes(
    model: onnx.ModelProto, names: set[str], feed: Mapping[str, np.ndarray]
) -> dict[str, Shape]:
    """Return the shapes of tensors, of any in the main graph."""
    known: dict[str, Shape] = {name: array.shape for name, array in feed.items()}
    known |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    wanted = sorted(names - set(known))
    if wanted:
        outputs = run(model, wanted, feed)
        known |= {name: array.shape for name, array in zip(wanted, outputs, strict=True)}
    return known


def run(
    model: onnx.ModelProto, names: list[str], feed: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Run a model once and return tensors of its main graph."""
    return opened(model, names).run(names, dict(known_of(model, feed)))


def known_of(
    model: onnx.ModelProto, feed: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what a model takes of a feed."""
    inputs = {value.name for value in model.graph.input}
    return ((name, array) for name, array in feed.items() if name in inputs)


def opened(model: onnx.ModelProto, names: list[str]) -> onnxruntime.InferenceSession:
    """Load a model with one thread, of which `names` are outputs, too."""
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    there = {value.name for value in shown.graph.output}
    shown.graph.output.extend(onnx.ValueInfoProto(name=n) for n in names if n not in there)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    # Nothing may be fused away that is to be seen.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        shown.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def parameters(model: onnx.ModelProto) -> int:
    """Return how many numbers of floating point a model holds, in initializers and Constants."""
    return sum(
        math.prod(tensor.dims)
        for tensor in constants(model).values()
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    )


def constants(model: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    """Return the constant tensors of the main graph by name."""
    found: dict[str, Any] = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].HasField("t"):
            found[node.output[0]] = node.attribute[0].t
    return found
