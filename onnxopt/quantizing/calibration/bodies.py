"""Brings tensors out of the bodies of If, Loop and Scan, as further outputs of the nodes around.

What is brought out is gathered over all that the body does for one sample. From a branch that is
not taken comes what changes nothing: an empty tensor, or the neutral element of a reduction. Of a
loop's iterations the values are joined along the first axis. Where all iterations have the same
shape they are stacked by the operator itself (a scan output); otherwise the loop carries what came
so far and appends to it, which copies it once for each iteration. A reduced value is stacked and
reduced again.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import ModelError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor, constant_node, constant_value, graph_of
from onnxopt.passes.loops import Frame, frame_of

_SCAN_OUTPUT_LISTS = ("scan_output_axes", "scan_output_directions")


class Bodies:
    """The nested graphs of a model's main graph, and the nodes whose bodies they are."""

    def __init__(self, editor: Editor) -> None:
        self.editor = editor
        self.main = editor.model.graph
        self._constants: dict[tuple[ir.Graph, str, tuple[int, ...], bytes], ir.Value] = {}
        self._moved: dict[ir.Value, ir.Value] = {}
        self._owners: dict[ir.Graph, ir.Node] = {}
        for graph in facts.graphs_within(self.main):
            for node in graph:
                self._owners.update(dict.fromkeys(facts.nested_graphs(node), node))

    def current(self, value: ir.Value) -> ir.Value:
        """Return what a value has become, where the node that makes it was replaced."""
        while value in self._moved:
            value = self._moved[value]
        return value

    def _add(self, graph: ir.Graph, nodes: list[ir.Node]) -> None:
        """Put nodes behind all others of a graph."""
        for node in nodes:
            node.name = self.editor.fresh(node.op_type)
            node.outputs[0].name = self.editor.fresh(f"{node.name}_output")
        if len(graph):
            self.editor.insert_after(nodes, graph[-1])
        else:
            graph.extend(nodes)

    def constant(self, graph: ir.Graph, content: Array) -> ir.Value:
        """Return a constant that all nodes to come of a graph may read: of equal ones, the same."""
        key = graph, str(content.dtype), content.shape, content.tobytes()
        if key not in self._constants:
            self._constants[key] = self._another(graph, content)
        return self._constants[key]

    def _another(self, graph: ir.Graph, content: Array) -> ir.Value:
        node = constant_node(constant_value(content))
        self._add(graph, [node])
        return node.outputs[0]

    def compute(
        self, graph: ir.Graph, op_type: str, *inputs: ir.Value, **attributes: object
    ) -> ir.Value:
        """Add a node behind all others of a graph; its output has the type of its first input."""
        made = ir.node(op_type, inputs, attributes)  # type: ignore[arg-type]
        made.outputs[0].type = inputs[0].type
        self._add(graph, [made])
        return made.outputs[0]

    def values(self, value: ir.Value, axis: int | None = None) -> ir.Value:
        """Bring the values of a tensor out: [n], or with an axis [n, channels] along it.

        A tensor of the main graph stays as it is. Raises `ModelError` where an axis is asked for
        and it is not known how many channels there are.
        """
        value = self.current(value)
        graph = value.graph
        assert graph is not None
        if graph is self.main:
            return value
        stackable = facts.static_shape(value) is not None
        row: tuple[int, ...] = ()
        if axis is not None:
            value, row = self._channels_last(graph, value, axis)
        flat = self._rows(graph, value, row)
        neutral = np.empty((0, *row), facts.dtype(value).numpy())  # type: ignore[union-attr]
        while graph is not self.main:
            node = self._owner(graph, value)
            if node.op_type == "If":
                flat = self._from_branch(node, graph, flat, neutral)
            elif stackable:
                flat = self._rows(graph_of(node), self._stacked(node, flat), row)
            else:
                flat = self._carried(node, flat, neutral)
            stackable = False  # another run of the node may take another branch, or end earlier
            graph = flat.graph
            assert graph is not None
        return flat

    def reduced(self, value: ir.Value, op_type: str, neutral: Array) -> ir.Value:
        """Bring a reduced scalar out, reduced by the same operator over all that the body does."""
        graph = value.graph
        assert graph is not None
        while graph is not self.main:
            node = self._owner(graph, value)
            if node.op_type == "If":
                value = self._from_branch(node, graph, value, neutral)
            else:
                stacked = self._stacked(node, value)
                value = self.compute(graph_of(node), op_type, stacked, keepdims=0)
                value.shape = ir.Shape([])
            graph = value.graph
            assert graph is not None
        return value

    def _owner(self, graph: ir.Graph, value: ir.Value) -> ir.Node:
        node = self._owners[graph]
        if node.op_type == "If" or (
            node.op_type in ("Loop", "Scan") and frame_of(self.editor, node) is not None
        ):
            return node
        raise ModelError(
            f"'{value.name}' lies in the body of the {node.op_type} '{node.name}', out of which"
            " it cannot be brought",
            "leave the tensors of that node as they are",
        )

    def _rows(self, graph: ir.Graph, value: ir.Value, row: tuple[int, ...]) -> ir.Value:
        target = self.constant(graph, np.array([-1, *row], np.int64))
        flat = self.compute(graph, "Reshape", value, target)
        flat.shape = ir.Shape([None, *row])
        return flat

    def _channels_last(
        self, graph: ir.Graph, value: ir.Value, axis: int
    ) -> tuple[ir.Value, tuple[int, ...]]:
        shape = facts.shape(value)
        channels = None if shape is None or axis >= len(shape) else shape[axis]
        if shape is None or not isinstance(channels, int):
            raise ModelError(
                f"'{value.name}' lies in a body, and how many channels it has is not known",
                "fix its shape with --fix DIM=VALUE",
            )
        order = [*(i for i in range(len(shape)) if i != axis % len(shape)), axis % len(shape)]
        return self.compute(graph, "Transpose", value, perm=order), (channels,)

    def _from_branch(
        self, node: ir.Node, taken: ir.Graph, value: ir.Value, neutral: Array
    ) -> ir.Value:
        for graph in facts.nested_graphs(node):
            other = value if graph is taken else self._another(graph, neutral)
            graph.outputs.append(other)
        return self._extended(node, value)

    def _stacked(self, node: ir.Node, value: ir.Value) -> ir.Value:
        """Add a scan output: the values of all iterations along a new first axis."""
        self._frame(node).body.outputs.append(value)
        for name in _SCAN_OUTPUT_LISTS:
            if name in node.attributes:
                numbers = node.attributes[name].as_ints()
                self.editor.set_attribute(node, name, [*numbers, 0])
        out = self._extended(node, value)
        out.shape = None
        return out

    def _carried(self, node: ir.Node, value: ir.Value, neutral: Array) -> ir.Value:
        """Let a loop carry what came so far, and append to it."""
        frame = self._frame(node)
        start = self.editor.constant(neutral, "nothing_yet", node)
        so_far = ir.Value(name=self.editor.fresh(f"{value.name}_so_far"))
        so_far.type, so_far.shape = value.type, value.shape
        frame.body.inputs.insert(frame.body_input + frame.carried, so_far)
        joined = self.compute(frame.body, "Concat", so_far, value, axis=0)
        joined.shape = value.shape
        frame.body.outputs.insert(frame.body_output + frame.carried, joined)
        at = frame.node_input + frame.carried
        inputs = [*node.inputs[:at], start, *node.inputs[at:]]
        outputs: list[ir.Value | None] = [*node.outputs]
        outputs.insert(frame.carried, None)
        made = self.editor.rebuild(node, inputs=inputs, outputs=outputs)
        self._owners[frame.body] = made
        for old, new in zip(outputs, made.outputs, strict=True):
            if old is not None:
                self._moved[old] = new
        out = made.outputs[frame.carried]
        out.type, out.shape = value.type, value.shape
        return out

    def _frame(self, node: ir.Node) -> Frame:
        frame = frame_of(self.editor, node)
        assert frame is not None
        return frame

    def _extended(self, node: ir.Node, like: ir.Value) -> ir.Value:
        """Give a node one more output, the last; in place, as it may be done hundreds of times."""
        count = len(node.outputs)
        node.resize_outputs(count + 1)
        out = node.outputs[count]
        out.name = self.editor.fresh(f"{node.name}_output")
        out.type, out.shape = like.type, like.shape
        return out
