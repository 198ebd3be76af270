"""Turns Constant nodes into initializers, which every runtime and every other pass handles best."""

from __future__ import annotations

from collections import Counter

from onnxopt.config import OptimizeConfig
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor

NAME = "lift"
SUMMARY = "Turns Constant nodes into initializers"

_NEWEST_IR_WITH_INPUTS_ONLY = 3


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Lift the Constant nodes of the main graph and its nested graphs.

    Bodies of functions have no initializers, and up to IR version 3 each initializer has to be an
    input: there they stay. So does a Constant that is an output of its graph.
    """
    done: Counter[str] = Counter()
    if editor.model.ir_version <= _NEWEST_IR_WITH_INPUTS_ONLY:
        return done
    for graph in facts.graphs_within(editor.model.graph):
        for node in graph:
            if node.op_type == "Constant" and not node.domain and _lift(editor, node):
                done["lift_constants"] += 1
    return done


def _lift(editor: Editor, node: ir.Node) -> bool:
    output = node.outputs[0]
    if output.is_graph_output():
        return False
    held = facts.tensor(output)
    if held is None:
        return False
    value = editor.constant(held, output.name or "constant", node)
    value.metadata_props.update(output.metadata_props)
    value.meta.update(output.meta)
    editor.replace(output, value, named=True)
    editor.erase(node)
    return True
