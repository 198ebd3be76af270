"""Gives every node and every value of a model a name that is its alone."""

from __future__ import annotations

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor


def tell_apart(model: ir.Model) -> None:
    """Rename what has no name or one that something else bears too; inputs and outputs keep theirs.

    Bodies of If and Loop may use the names of the graphs around them anew, which is legal, and
    wrong as soon as something goes by names.
    """
    editor = Editor(model)
    nodes: set[str] = set()
    values: set[str] = {value.name or "" for value in (*model.graph.inputs, *model.graph.outputs)}
    for graph in facts.graphs_within(model.graph):
        if graph is not model.graph:
            for value in (*graph.inputs, *graph.initializers.values()):
                _rename_value(value, values, editor)
        for node in graph:
            if not node.name or node.name in nodes:
                node.name = editor.fresh(node.name or node.op_type)
            nodes.add(node.name)
            for value in node.outputs:
                kept = value.is_graph_output() and graph is model.graph
                if value.name and not kept:
                    _rename_value(value, values, editor)


def _rename_value(value: ir.Value, taken: set[str], editor: Editor) -> None:
    if not value.name or value.name in taken:
        value.name = editor.fresh(value.name or "value")
    taken.add(value.name)
