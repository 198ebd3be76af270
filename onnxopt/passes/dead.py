"""Removes what nobody reads, through all nested graphs, and branches that are never taken."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator

import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import branches, loops
from onnxopt.passes.inline import drop_unused_functions

NAME = "dead"
SUMMARY = "Removes what nobody reads, through nested graphs, and branches never taken"


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Remove dead nodes, initializers, functions, optional outputs and branches, until all live.

    Graph inputs and outputs stay, read or not.
    """
    done = _sweep(editor)
    while True:
        found: Counter[str] = Counter()
        for graph in _live_graphs(editor):
            for node in graph:
                if node.op_type == "If" and not node.domain:
                    found += branches.simplify(editor, node)
                elif node.op_type in ("Loop", "Scan") and not node.domain:
                    found += loops.simplify(editor, node)
        if not found:
            break
        done += found + _sweep(editor)
    for graph, opsets in facts.scopes(editor.model):
        done["omit_outputs"] += _omit_outputs(editor, graph, opsets)
        done["omit_inputs"] += sum(_omit_inputs(node) for node in graph)
        for value in list(graph.initializers.values()):
            done["remove_dead_initializers"] += editor.drop_initializer(value)
    if editor.model.functions:
        done["remove_dead_functions"] += drop_unused_functions(editor)
    return +done


def _sweep(editor: Editor) -> Counter[str]:
    return Counter(remove_dead_nodes=sum(editor.sweep(graph) for graph in _live_graphs(editor)))


def _live_graphs(editor: Editor) -> Iterator[ir.Graph]:
    """Yield every graph, outer ones first, that is still part of the model when its turn comes."""
    tops = (editor.model.graph, *(function.graph for function in editor.model.functions.values()))
    stack: list[tuple[ir.Node | None, ir.Graph]] = [(None, graph) for graph in tops]
    while stack:
        owner, graph = stack.pop()
        if owner is None or owner.graph is not None:
            yield graph
            for node in graph:
                if node.attributes:
                    stack.extend((node, inner) for inner in facts.nested_graphs(node))


def _omit_outputs(editor: Editor, graph: ir.Graph, opsets: dict[str, int]) -> int:
    """Leave out the optional outputs that nobody reads."""
    omitted = 0
    for node in graph:
        if len(node.outputs) < 2 or node.op_identifier() in editor.model.functions:
            continue
        opset = opsets.get(node.domain, 0)
        if node.op_type == "BatchNormalization" and not _is_inference(node, opset):
            continue
        optional = _optional_outputs(node.op_type, node.domain, opset)
        for value, may_go in list(zip(node.outputs, optional, strict=False)):
            if may_go and value.name and not (value.uses() or value.is_graph_output()):
                editor.omit(value)
                omitted += 1
    return omitted


def _omit_inputs(node: ir.Node) -> bool:
    """Leave out the empty names at the end of a node's inputs: onnxruntime crashes on some."""
    count = len(node.inputs)
    while count and node.inputs[count - 1] is None:
        count -= 1
    if node.domain or count == len(node.inputs) or node.op_type in ("If", "Loop", "Scan"):
        return False
    node.resize_inputs(count)
    return True


def _is_inference(node: ir.Node, opset: int) -> bool:
    """Tell whether a BatchNormalization trains in no case; before opset 14 its outputs tell it."""
    return opset >= 14 and facts.attribute(node, "training_mode", opset) == 0


@functools.cache
def _optional_outputs(op_type: str, domain: str, opset: int) -> tuple[bool, ...]:
    """Tell of each output of an operator whether it may be left out; nothing where not known."""
    if op_type == "Attention":
        return ()  # its caches come and go together with inputs
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return ()
    kinds = onnx.defs.OpSchema.FormalParameterOption
    return tuple(output.option == kinds.Optional for output in schema.outputs)
