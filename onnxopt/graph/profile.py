"""What is in a model and what one run of it costs: nodes, operators, parameters, MACs.

A MAC is one multiplication with its addition. Counted are the operators that are made of them;
elementwise work is not. A dimension that is not known counts as 1, so that the figure is that of
one sample; every branch of an If counts, the body of a Loop counts once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.signature import spec_of
from onnxopt.graph.storage.kept import KEY as KEPT
from onnxopt.report import Profile

Sizes = Callable[[ir.Value | None], tuple[int, ...]]


def profile(
    model: ir.Model, *, path: str | None = None, sha256: str | None = None, file_bytes: int = 0
) -> Profile:
    """Profile a model; MACs need inferred shapes (`passes.shapes`) to be complete."""
    ops: Counter[str] = Counter()
    costs: Counter[str] = Counter()
    told = False
    tensors: dict[int, ir.TensorProtocol] = {}
    for graph, _ in facts.scopes(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                tensors[id(value)] = value.const_value
        for node in graph:
            if node.domain == KEPT:
                continue  # stands for what onnx_ir cannot hold, and comes back on saving
            ops[f"{node.domain}::{node.op_type}" if node.domain else node.op_type] += 1
            if (cost := macs(node)) is not None:
                costs[node.op_type] += cost
                told = True
            if node.op_type == "Constant" and (held := facts.tensor(node.outputs[0])) is not None:
                tensors[id(node)] = held
    graph = model.graph
    dims = {
        dim
        for value in (*graph.inputs, *graph.outputs)
        for dim in facts.shape(value) or ()
        if isinstance(dim, str)
    }
    return Profile(
        path=path,
        sha256=sha256,
        file_bytes=file_bytes,
        nodes=sum(ops.values()),
        ops=dict(ops.most_common()),
        parameters=sum(held.size for held in tensors.values()),
        parameter_bytes=sum(held.nbytes for held in tensors.values()),
        macs=sum(costs.values()) if told else None,
        opset=dict(model.opset_imports),
        inputs=tuple(spec_of(value) for value in graph.inputs),
        outputs=tuple(spec_of(value) for value in graph.outputs),
        dynamic_dims=tuple(sorted(dims)),
        macs_per_op=dict(costs.most_common()),
    )


def known_sizes(value: ir.Value | None) -> tuple[int, ...]:
    """Return a value's shape with 1 for what is not known; raise `TypeError` without a rank."""
    dims = facts.shape(value)
    if dims is None:
        raise TypeError
    return tuple(dim if isinstance(dim, int) and dim > 0 else 1 for dim in dims)


def macs(node: ir.Node, sizes: Sizes = known_sizes) -> int | None:
    """Count the MACs of one run of a node; None for operators that are not made of them.

    `sizes` gives the shape of a value in numbers, or raises `TypeError`.
    """
    count = _COSTS.get(node.op_type)
    if count is None or node.domain not in ("", "com.microsoft"):
        return None
    try:
        return count(node, sizes)
    except (IndexError, TypeError):
        return None  # a shape that is not known, or a node that its operator does not allow


def parameters(node: ir.Node) -> int:
    """Count the elements of the constants that a node reads directly."""
    held = (facts.tensor(value) for value in node.inputs)
    return sum(found.size for found in held if found is not None)


def _conv(node: ir.Node, sizes: Sizes, weight: int = 1) -> int:
    return math.prod(sizes(node.outputs[0])) * math.prod(sizes(node.inputs[weight])[1:])


def _conv_transpose(node: ir.Node, sizes: Sizes) -> int:
    return math.prod(sizes(node.inputs[0])) * math.prod(sizes(node.inputs[1])[1:])


def _matmul(node: ir.Node, sizes: Sizes, right: int = 1) -> int:
    if len(sizes(node.outputs[0])) > 0:
        return math.prod(sizes(node.outputs[0])) * sizes(node.inputs[0])[-1]
    return math.prod(sizes(node.inputs[right]))


def _gemm(node: ir.Node, sizes: Sizes) -> int:
    contracted = 0 if node.attributes.get_int("transA", 0) else 1
    left, right = sizes(node.inputs[0]), sizes(node.inputs[1])
    columns = right[0] if node.attributes.get_int("transB", 0) else right[1]
    return left[1 - contracted] * left[contracted] * columns


def _recurrent(node: ir.Node, sizes: Sizes) -> int:
    length, batch = sizes(node.inputs[0])[:2]
    return length * batch * sum(math.prod(sizes(node.inputs[index])) for index in (1, 2))


def _attention(node: ir.Node, sizes: Sizes) -> int:
    """Count Q·Kᵀ and its product with V; tokens are the last axis but one of queries and keys.

    onnxruntime's own Attention multiplies by the packed weights first. Cached keys are not seen.
    """
    first, second = sizes(node.inputs[0]), sizes(node.inputs[1])
    if node.domain and node.op_type == "Attention":
        return math.prod(first) * second[1] + 2 * math.prod(first) * first[1]
    return 2 * math.prod(first) * second[-2]


_COSTS: dict[str, Callable[[ir.Node, Sizes], int]] = {
    "Conv": _conv,
    "FusedConv": _conv,
    "ConvInteger": _conv,
    "QLinearConv": lambda node, sizes: _conv(node, sizes, weight=3),
    "ConvTranspose": _conv_transpose,
    "MatMul": _matmul,
    "FusedMatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": lambda node, sizes: _matmul(node, sizes, right=3),
    "DynamicQuantizeMatMul": _matmul,
    "Gemm": _gemm,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
    "DynamicQuantizeLSTM": _recurrent,
    **dict.fromkeys(("Attention", "MultiHeadAttention", "GroupQueryAttention"), _attention),
}
