"""What is in a model and what one run of it costs: nodes, operators, parameters, MACs.

Counted are the operators that are made of MACs (`work`); elementwise work is not. A dimension that
is not known counts as 1, so that the figure is that of one sample; every branch of an If counts,
the body of a Loop counts once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from onnxopt.graph import facts, work
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
    if not work.is_counted(node.op_type) or node.domain not in ("", "com.microsoft"):
        return None
    return _count(node, sizes)


def known_macs(node: ir.Node, sizes: Sizes = known_sizes) -> int | None:
    """Count the MACs of one run of a node, as `macs`; 0 for operators that are known to have none.

    None is left for what cannot be told, and for nodes that hold graphs: theirs is done inside.
    """
    known = node.domain in ("", "ai.onnx", "com.microsoft")
    return _count(node, sizes) if known else None


def _count(node: ir.Node, sizes: Sizes) -> int | None:
    equation = node.attributes.get_string("equation", "") if node.op_type == "Einsum" else ""
    read, written = (
        [_shape(value, sizes) for value in each] for each in (node.inputs, node.outputs)
    )
    return work.macs(node.op_type, read, written, equation or "")


def _shape(value: ir.Value | None, sizes: Sizes) -> tuple[int, ...] | None:
    try:
        return sizes(value)
    except TypeError:
        return None


def parameters(node: ir.Node) -> int:
    """Count the elements of the constants that a node reads directly."""
    held = (facts.tensor(value) for value in node.inputs)
    return sum(found.size for found in held if found is not None)
