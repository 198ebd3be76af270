"""The dependency groups of a model: what can be taken out together, and what cannot, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from onnxopt.channels.labels import Labels
from onnxopt.channels.walk import Step, walk
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.passes import shapes
from onnxopt.pruning.groups import joins, layers, mixing, moving, recurrent
from onnxopt.pruning.groups.gathering import gathered
from onnxopt.pruning.groups.units import Units, because
from onnxopt.pruning.plan import Frozen, Groups

_OPSET = 9
"""The first operator set in which Where can put sizes in, and nothing broadcasts by an axis."""

_MANY = ("GRU", "LSTM", "RNN", "Split")
"""Operators whose outputs are all followed; of others only the first is."""


def _guarded(step: Step[Units]) -> Step[Units]:
    """Let a step give up where somebody reads an output that it does not follow."""

    def guarded(units: Units, node: ir.Node) -> bool:
        for output in node.outputs[1:] if node.op_type not in _MANY else ():
            if facts.uses(output) or output.is_graph_output():
                return units.refuse(f"a second output of {node.op_type} is read")
        return units.follow(step, node)

    return guarded


STEPS: dict[str, Step[Units]] = {
    name: _guarded(step)
    for table in (joins, layers, mixing, moving, recurrent)
    for name, step in table.STEPS.items()
}


def find_groups(model: ir.Model, *, protect: Collection[str] = ()) -> Groups:
    """Return what can be taken out of a model, in the order of its graph.

    `protect` are names of nodes, tensors or weights: what they make and read stays. Nothing is
    changed, but shapes of inner tensors that are not known yet are inferred, and noted. Raises
    ValueError where nodes or tensors have no names of their own (see `naming.tell_apart`).
    """
    _check_names(model)
    declared = [(value, value.shape, value.type) for value in model.graph.outputs]
    shapes.infer(model)
    for value, shape, kind in declared:
        value.shape, value.type = shape, kind
    units = Units(opset=model.opset_imports.get("", 0), labels=Labels(), outer=model.graph)
    for graph in facts.graphs_within(model.graph):
        walk(units, graph, STEPS)
    _protect(units, model, set(protect))
    found = gathered(units)
    if units.opset >= _OPSET:
        return found
    old = f"operator set {units.opset} is older than {_OPSET}"
    lost = (Frozen(tensor=group.name, node="", reason=old) for group in found)
    return Groups(groups=(), frozen=(*found.frozen, *lost))


def _check_names(model: ir.Model) -> None:
    names: Counter[str] = Counter()
    for graph in facts.graphs_within(model.graph):
        for node in graph:
            names[f"node {node.name or ''}"] += 1
            names.update(f"tensor {value.name}" for value in node.outputs if value.name)
    twice = [name for name, count in names.items() if count > 1 or name == "node "]
    if twice:
        raise ValueError(f"more than one is called so, or one has no name: {twice[0]}")


def _protect(units: Units, model: ir.Model, wanted: set[str]) -> None:
    """Let stay what wanted nodes make and read, and what wanted tensors and weights are of."""
    if not wanted:
        return
    nodes = {node.name or "": node for graph in facts.graphs_within(model.graph) for node in graph}
    for value, labels in units.tensors.items():
        beside = [value.producer(), *(use.node for use in facts.uses(value))]
        names = {value.name, *(node.name for node in beside if node is not None)}
        maker = value.producer()
        if maker is not None and wanted & names:
            units.stay(labels, because(maker, "protected"))
    for cut in units.cuts:
        node = nodes[cut.edge.node]
        weight = node.inputs[cut.edge.place]
        if weight is not None and weight.name in wanted:
            units.stay(cut.labels, because(node, "protected"))
