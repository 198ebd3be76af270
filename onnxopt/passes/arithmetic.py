"""Shape arithmetic, evaluated with sizes and names: what Shape → Gather → Concat really says.

A vector of numbers becomes a constant. A Reshape whose target holds names becomes one with a
constant target: a name that the input has at the same place is 0 ('as it was'), one item that is
left over is -1. On the way values get the shapes that follow (see `symbols`).
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxopt.config import OptimizeConfig
from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import symbols
from onnxopt.passes.vectors import INTEGERS, Vector, Vectors

NAME = "arithmetic"
SUMMARY = "Evaluates shape arithmetic; reshapes to named dimensions get constant targets"


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Evaluate the shape arithmetic of every graph."""
    return _Walk(editor).run()


class _Walk:
    """One walk over a model: what is known so far, and what was done."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.vectors = Vectors()
        self.done: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        for graph, opsets in facts.scopes(self.editor.model):
            self.vectors.opset = opsets.get("", 0)
            for node in tuple(graph):
                if node.graph is not None:
                    symbols.refine(self.vectors, node)
                    self.visit(node)
        return self.done

    def visit(self, node: ir.Node) -> None:
        if node.op_type == "Reshape" and not node.domain:
            self.reshape(node)
        elif node.op_type == "Expand" and not node.domain:
            self.expand(node)
        vector = self.vectors.visit(node)
        numbers = None if vector is None else vector.numbers()
        if vector is not None and numbers is not None and node.op_type != "Constant":
            self.settle(node, vector, numbers)

    def settle(self, node: ir.Node, vector: Vector, numbers: tuple[int, ...]) -> None:
        """Put a constant in the place of a node whose result is known."""
        output = node.outputs[0]
        kind = facts.dtype(output)
        if kind not in INTEGERS or output.is_graph_output():
            return
        array = np.array(numbers, dtype=kind.numpy())
        array = array.reshape(()) if vector.scalar else array
        value = self.editor.constant(array, output.name or "shape", node)
        self.editor.replace(output, value)
        self.editor.erase(node)
        self.vectors.known[value] = vector
        self.done["fold_shape_arithmetic"] += 1

    def reshape(self, node: ir.Node) -> None:
        """Give a Reshape a constant target where what is known suffices."""
        if len(node.inputs) < 2 or facts.is_constant(node.inputs[1]):
            return
        target, known = self.vectors.of(node.inputs[1]), dims.shape(node.inputs[0])
        if target is None:
            return
        items = list(target.items)
        literal = facts.attribute(node, "allowzero", self.vectors.opset)
        if literal and (0 in items or None in items):
            return
        for index, item in enumerate(items):
            if isinstance(item, str) and known is not None and known[index : index + 1] == (item,):
                items[index] = 0
        open_items = [index for index, item in enumerate(items) if not isinstance(item, int)]
        if len(open_items) > 1 or (open_items and -1 in items):
            return
        for index in open_items:
            items[index] = -1
        before = node.inputs[1]
        value = self.editor.constant(np.array(items, np.int64), f"{node.name}/target", node)
        self.editor.set_input(node, 1, value)
        node.attributes.pop("allowzero", None)
        self.drop(before)
        self.done["constant_reshape_target"] += 1

    def expand(self, node: ir.Node) -> None:
        """Drop an Expand to the shape that its input already has."""
        if len(node.inputs) < 2 or facts.is_constant(node.inputs[1]):
            return
        target, known = self.vectors.of(node.inputs[1]), dims.shape(node.inputs[0])
        if target is None or known is None or len(target.items) > len(known):
            return
        trailing = known[len(known) - len(target.items) :]
        same = all(
            item == 1 or (item is not None and item == dim)
            for item, dim in zip(target.items, trailing, strict=True)
        )
        source, output = node.inputs[0], node.outputs[0]
        if same and source is not None and self.editor.forwardable(output, source):
            self.editor.replace(output, source)
            self.editor.erase(node)
            self.done["drop_expand_to_same_shape"] += 1

    def drop(self, value: ir.Value | None) -> None:
        """Erase what computed a value if nobody reads it any more."""
        maker = None if value is None else value.producer()
        if maker is not None:
            self.editor.erase(maker)
