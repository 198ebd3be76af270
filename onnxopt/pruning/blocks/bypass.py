"""Takes a block out of a graph: what it made comes from its entry, as it is or by an affine map."""

from __future__ import annotations

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.pruning.blocks.plan import Affine, Block

_RULE = "bypass"


def bypass(model: ir.Model, block: Block, patch: Affine | None = None) -> None:
    """Compute the exit of a block from its entry, in place; the nodes that nobody needs go.

    Without a `patch` the exit is the entry. A map becomes MatMul and Add over the last axis, or a
    Conv with a kernel of 1 over [N, C, *spatial]; a scale for each channel becomes Mul and Add.
    The model's inputs and outputs stay what they are. Raises KeyError for what is no tensor of it.
    """
    editor = Editor(model)
    values = {value.name or "": value for node in model.graph for value in node.outputs}
    values.update((value.name or "", value) for value in model.graph.inputs)
    entry, old = values[block.entry], values[block.exit]
    maker = old.producer()
    assert maker is not None
    with editor.on_behalf_of(_RULE):
        new = entry if patch is None else _patched(editor, block, patch, entry, maker)
        editor.replace(old, new, named=patch is not None)
    editor.erase(maker)


def _patched(
    editor: Editor, block: Block, patch: Affine, entry: ir.Value, before: ir.Node
) -> ir.Value:
    """Return an affine map of a value, computed in front of a node."""
    kind = facts.dtype(entry)
    assert kind is not None
    rank = facts.rank(before.outputs[0]) or 2
    beside = (-1, *[1] * (rank - 2)) if block.axis == 1 else (-1,)

    def held(array: np.ndarray, name: str) -> ir.Value:
        whole = np.ascontiguousarray(array.astype(kind.numpy()))
        return editor.constant(whole, f"{block.exit}/{name}", before)

    if patch.full and block.axis == 1:
        matrix = held(patch.matrix.reshape(*patch.matrix.shape, *[1] * (rank - 2)), "map")
        nodes = [ir.node("Conv", [entry, matrix, held(patch.shift, "shift")])]
    else:
        factor = patch.matrix.T if patch.full else patch.matrix.reshape(beside)
        first = ir.node("MatMul" if patch.full else "Mul", [entry, held(factor, "map")])
        shift = held(patch.shift.reshape(beside), "shift")
        nodes = [first, ir.node("Add", [first.outputs[0], shift])]
    for node in nodes:
        node.outputs[0].type = ir.TensorType(kind)
        node.outputs[0].shape = entry.shape
    editor.insert(nodes, before)
    return nodes[-1].outputs[0]
