"""Simplifies If: the branch that is always taken, branches that are equal, outputs not read.

A branch that gives a rank which no reader takes is never taken in a run that succeeds. Exporters of
PyTorch write `squeeze` and the checks of LSTM so: an If of which one branch would be an error.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxopt.graph import demands, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.content import same_graph
from onnxopt.graph.editor import Editor, graph_of


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
    possible = _possible(editor, node, taken, other)
    if possible is not None:
        _settle(editor, node, possible is taken)
        _flatten(editor, node, possible)
        return Counter(take_possible_branch=1)
    return Counter(drop_branch_outputs=drop_outputs(editor, node, (taken, other)))


def _possible(editor: Editor, node: ir.Node, taken: ir.Graph, other: ir.Graph) -> ir.Graph | None:
    """Return the only branch whose outputs have the ranks that their readers take, if one has."""
    opset = editor.opset(graph_of(node))
    wanted = [demands.rank(value, opset) for value in node.outputs]
    fits = [
        all(
            rank is None or facts.rank(value) in (None, rank)
            for rank, value in zip(wanted, branch.outputs, strict=True)
        )
        for branch in (taken, other)
    ]
    if fits[0] == fits[1]:
        return None
    return taken if fits[0] else other


def _settle(editor: Editor, node: ir.Node, taken: bool) -> None:
    """Let all that reads the condition of an If beside it read what it has turned out to be."""
    condition = node.inputs[0]
    assert condition is not None
    held = np.array(taken)
    if facts.static_shape(condition) == (1,):
        held = held.reshape(1)
    elif facts.rank(condition) != 0:
        return
    beside = [use for use in condition.uses() if use.node.graph is node.graph]
    constant = editor.constant(held, f"{condition.name}_known", next(iter(graph_of(node))))
    for reader, index in beside:
        editor.set_input(reader, index, constant)


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
