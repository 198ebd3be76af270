"""Simplifies Loop and Scan: loops that never run, values carried along for nobody.

A value that a loop carries is needed if it is read outside, or if what decides about the loop or
another needed value depends on it inside. The body of Loop has the inputs (iteration, condition,
carried values…) and the outputs (condition, carried values…, scans…); that of Scan (carried
values…, slices…) and (carried values…, scans…). Both nodes have the outputs (carried values…,
scans…).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor, graph_of

_SCAN_WITHOUT_BATCH = 9  # the first operator set whose Scan has no batch axis and sequence_lens
_SCAN_OUTPUT_LISTS = ("scan_output_axes", "scan_output_directions")


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Where the carried values stand: among the node's inputs, the body's inputs and outputs."""

    body: ir.Graph
    carried: int
    node_input: int
    body_input: int
    body_output: int


def simplify(editor: Editor, node: ir.Node) -> Counter[str]:
    """Simplify one Loop or Scan."""
    frame = frame_of(editor, node)
    if frame is None:
        return Counter()
    if node.op_type == "Loop" and _never_runs(node):
        skipped = _skip(editor, node, frame)
        if skipped:
            return Counter(skip_loops=1)
    return _drop_unneeded(editor, node, frame)


def frame_of(editor: Editor, node: ir.Node) -> Frame | None:
    """Tell how a loop is laid out; None for one that is not as the operator demands."""
    held = node.attributes.get("body")
    if held is None or held.is_ref():
        return None
    body = held.as_graph()
    if node.op_type == "Loop":
        frame = Frame(
            body=body, carried=len(body.inputs) - 2, node_input=2, body_input=2, body_output=1
        )
        expected = len(node.inputs) - 2
    else:
        slices = node.attributes.get_int("num_scan_inputs", 0)
        if editor.opset(graph_of(node)) < _SCAN_WITHOUT_BATCH or slices < 1:
            return None
        carried = len(body.inputs) - slices
        frame = Frame(body=body, carried=carried, node_input=0, body_input=0, body_output=0)
        expected = len(node.inputs) - slices
    complete = len(body.outputs) - frame.body_output == len(node.outputs) >= frame.carried
    return frame if complete and 0 <= frame.carried == expected else None


def _never_runs(node: ir.Node) -> bool:
    trips, condition = facts.scalar(node.inputs[0]), facts.scalar(node.inputs[1])
    return (trips is not None and trips <= 0) or (condition is not None and not condition)


def _skip(editor: Editor, node: ir.Node, frame: Frame) -> bool:
    """Let readers read the initial values, and scans without rows; tell whether there were any."""
    changed = False
    for index, final in enumerate(node.outputs):
        if index < frame.carried:
            result = node.inputs[frame.node_input + index]
        else:
            result = _no_rows(editor, node, frame.body.outputs[index + frame.body_output])
        if result is not None and (final.uses() or final.is_graph_output()):
            editor.replace(final, result)
            changed = True
    editor.erase(node)
    return changed


def _no_rows(editor: Editor, node: ir.Node, row: ir.Value) -> ir.Value | None:
    """Return what scanning no rows gives, where it is known of what size a row would be."""
    dims, kind = facts.static_shape(row), facts.dtype(row)
    if dims is None or kind is None or kind == ir.DataType.STRING:
        return None
    return editor.constant(np.empty((0, *dims), kind.numpy()), f"{row.name}_rows", node)


def _drop_unneeded(editor: Editor, node: ir.Node, frame: Frame) -> Counter[str]:
    """Drop carried values and scans that nobody needs, with what computed them."""
    read = [bool(value.uses() or value.is_graph_output()) for value in node.outputs]
    if all(read) or not any(read):
        return Counter()
    needed = _needed(frame, read)
    body, shift = frame.body, frame.body_output
    dropped = [index for index, keep in enumerate(needed) if not keep]
    carried = [index for index in dropped if index < frame.carried]
    if not dropped:
        return Counter()
    for index in reversed(dropped):
        body.outputs.pop(index + shift)
    editor.sweep(body)
    for index in reversed(carried):
        parameter = body.inputs[index + frame.body_input]
        assert not parameter.uses(), f"'{parameter.name}' is still read"
        body.inputs.pop(index + frame.body_input)
    gone = {index + frame.node_input for index in carried}
    _shorten_lists(editor, node, [needed[index] for index in range(frame.carried, len(needed))])
    editor.rebuild(
        node,
        inputs=[value for index, value in enumerate(node.inputs) if index not in gone],
        outputs=[value for value, keep in zip(node.outputs, needed, strict=True) if keep],
    )
    return Counter(drop_loop_outputs=len(dropped))


def _shorten_lists(editor: Editor, node: ir.Node, keep: list[bool]) -> None:
    """Cut the lists that say something of each scan output down to those that are kept."""
    for name in _SCAN_OUTPUT_LISTS:
        if name in node.attributes and not all(keep):
            numbers = node.attributes[name].as_ints()
            left = [number for number, kept in zip(numbers, keep, strict=False) if kept]
            editor.set_attribute(node, name, left or None)


def _needed(frame: Frame, read: list[bool]) -> list[bool]:
    """Tell of each output of a loop whether it is read, or something that is depends on it."""
    body, shift = frame.body, frame.body_output
    carried = {body.inputs[index + frame.body_input]: index for index in range(frame.carried)}
    needed = list(read)
    live: set[ir.Value] = set()
    # What has no output is there for its side effect.
    stack = [value for node in body if not node.outputs for value in _reads(node, body)]
    stack += body.outputs[:shift]
    stack += [value for value, keep in zip(body.outputs[shift:], read, strict=True) if keep]
    while stack:
        value = stack.pop()
        if value in live:
            continue
        live.add(value)
        maker = value.producer()
        if maker is not None and maker.graph is body:
            stack.extend(_reads(maker, body))
        index = carried.get(value)
        if index is not None and not needed[index]:
            needed[index] = True
            stack.append(body.outputs[index + shift])
    return needed


def _reads(node: ir.Node, body: ir.Graph) -> Iterable[ir.Value]:
    """Yield what a node of a body reads, or anything nested in it, of that body."""
    nodes = [node]
    for graph in facts.nested_graphs(node):
        nodes.extend(inner for nested in facts.graphs_within(graph) for inner in nested)
    for reader in nodes:
        for value in reader.inputs:
            if value is not None and value.graph is body:
                yield value
