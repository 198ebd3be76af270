"""Simplifies If: the branch that is always taken, branches that are equal, outputs not read."""

from __future__ import annotations

from collections import Counter

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.content import same_graph
from onnxopt.graph.editor import Editor


def simplify(editor: Editor, node: ir.Node) -> Counter[str]:
    """Simplify one If; what a branch that goes had captured goes with it."""
    then_branch = node.attributes.get("then_branch")
    else_branch = node.attributes.get("else_branch")
    if then_branch is None or else_branch is None or then_branch.is_ref() or else_branch.is_ref():
        return Counter()
    taken, other = then_branch.as_graph(), else_branch.as_graph()
    if any(graph.inputs or len(graph.outputs) != len(node.outputs) for graph in (taken, other)):
        return Counter()
    condition = facts.scalar(node.inputs[0])
    if condition is not None:
        _flatten(editor, node, taken if condition else other)
        return Counter(take_constant_branch=1)
    if same_graph(taken, other):
        _flatten(editor, node, taken)
        return Counter(merge_equal_branches=1)
    return Counter(drop_branch_outputs=drop_outputs(editor, node, (taken, other)))


def _flatten(editor: Editor, node: ir.Node, branch: ir.Graph) -> None:
    """Put what a branch computes in the place of the If."""
    results = editor.splice(branch, node)
    for old, new in zip(node.outputs, results, strict=True):
        if old.name:
            editor.replace(old, new)
    editor.erase(node)


def drop_outputs(editor: Editor, node: ir.Node, branches: tuple[ir.Graph, ...]) -> int:
    """Drop the outputs of an If that nobody reads; return how many."""
    unread = [
        index
        for index, value in enumerate(node.outputs)
        if not (value.uses() or value.is_graph_output())
    ]
    if not unread or len(unread) == len(node.outputs):
        return 0
    for branch in branches:
        for index in reversed(unread):
            branch.outputs.pop(index)
        editor.sweep(branch)
    kept = [value for index, value in enumerate(node.outputs) if index not in unread]
    editor.rebuild(node, inputs=node.inputs, outputs=kept)
    return len(unread)
