"""What of a model can learn: its weights, the nodes behind them, what they read, where it is told.

From the weights on, nodes are followed as far as their operators are known. Some of what they make
is flat: it depends on the weights, but has no slope that leads to them (a comparison). What else
they read does not depend on the weights: it is computed once for each sample. An operator that is
not known ends a way, and what it reads is held against the original there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.learning.operators import Call, is_known, moved_by

_WEIGHTS = {
    "Add": (0, 1),
    "BatchNormalization": (1, 2),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Einsum": (0, 1),
    "Gemm": (1, 2),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "MatMul": (1,),
    "Mul": (0, 1),
    "PRelu": (1,),
    "RMSNormalization": (1,),
}
"""Where operators read what may learn."""

_NOTHING = ("Shape", "Size")
"""They read no numbers of a tensor."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """The part of a graph that learns; everything but nodes goes by name.

    `weights` are constants, `given` what is computed once, `aims` what is held against the
    original.
    """

    nodes: tuple[ir.Node, ...]
    weights: tuple[str, ...]
    given: tuple[str, ...]
    aims: tuple[str, ...]


def course(model: ir.Model, *, protect: Collection[str] = ()) -> Course:
    """Return what of a model's graph can learn; its layers of `protect` are left as they are."""
    graph, opset = model.graph, model.opset_imports.get("", 0)
    weights: dict[ir.Value, None] = {}
    live: set[ir.Value] = set()
    lost: set[ir.Value] = set()
    changing: set[ir.Value] = set()
    followed: list[ir.Node] = []
    aims: dict[ir.Value, None] = {}
    for node in graph:
        call = Call(node=node, opset=opset)
        own = _weights(node) if node.name not in protect and is_known(call) else []
        read = [value for value in node.inputs if value is not None]
        inner = {value for nested in facts.nested_graphs(node) for value in _captured(nested)}
        moved = [value for value in read if value in live or value in own]
        if node.op_type in _NOTHING or not (moved or changing & {*read, *inner}):
            continue
        changing.update(node.outputs)
        if inner or lost & set(read) or not _follows(call, moved):
            aims |= dict.fromkeys(value for value in (*read, *inner) if value in live)
            lost.update(node.outputs)
            continue
        followed.append(node)
        if moved and moved_by(node):
            live.update(_outputs(node))
        weights |= dict.fromkeys(own)
    aims |= dict.fromkeys(value for value in graph.outputs if value in live)
    return _narrowed(followed, weights, aims)


def _follows(call: Call, moved: Collection[ir.Value]) -> bool:
    """Tell whether gradients go through a node to all that it reads of what learns.

    They need not where its outputs are flat.
    """
    node = call.node
    made = _outputs(node)
    if not is_known(call) or (node.op_type != "Split" and set(made) - {node.outputs[0]}):
        return False
    if not moved or not moved_by(node):
        return True
    if not all(facts.is_float(value) for value in made):
        return False
    through = {node.inputs[place] for place in moved_by(node) if place < len(node.inputs)}
    others = {value for place, value in enumerate(node.inputs) if place not in moved_by(node)}
    return set(moved) <= through and not set(moved) & others


def _outputs(node: ir.Node) -> list[ir.Value]:
    """Return the outputs of a node that something reads."""
    return [value for value in node.outputs if facts.uses(value) or value.is_graph_output()]


def _weights(node: ir.Node) -> list[ir.Value]:
    """Return the constants of a node that may learn: float32, of more than one number."""
    found = []
    for place in _WEIGHTS.get(node.op_type, ()):
        value = node.inputs[place] if place < len(node.inputs) else None
        size = facts.static_shape(value) if facts.is_constant(value) else None
        if value is None or size is None or facts.dtype(value) != ir.DataType.FLOAT:
            continue
        if len(size) > 0 and any(dim > 1 for dim in size):
            found.append(value)
    return found


def _captured(graph: ir.Graph) -> set[ir.Value]:
    found: set[ir.Value] = set()
    for inner in facts.graphs_within(graph):
        found.update(inner.outputs)
        for node in inner:
            found.update(value for value in node.inputs if value is not None)
    return found


def _narrowed(
    followed: list[ir.Node], weights: dict[ir.Value, None], aims: dict[ir.Value, None]
) -> Course:
    """Leave out what leads to no aim."""
    needed, nodes = set(aims), []
    for node in reversed(followed):
        if needed & set(node.outputs):
            nodes.append(node)
            needed.update(value for value in node.inputs if value is not None)
    nodes.reverse()
    made = {value for node in nodes for value in node.outputs}
    read = dict.fromkeys(v for node in nodes for v in node.inputs if v is not None)
    given = [
        value.name or ""
        for value in read
        if value not in made and value not in weights and not facts.is_constant(value)
    ]
    return Course(
        nodes=tuple(nodes),
        weights=tuple(value.name or "" for value in weights if value in read),
        given=tuple(given),
        aims=tuple(value.name or "" for value in aims),
    )
