"""The weight and bias of a layer as a matrix and a vector, and back, whatever the operator.

A matrix has a row for each output channel and columns in the order of `patches`: position in the
kernel, then input channel. So that layers differ in nothing but numbers, each is given a bias.
"""

from __future__ import annotations

import math

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.graph.editor import Editor

LAYERS = ("Conv", "Gemm", "MatMul")


def is_layer(node: ir.Node, opset: int) -> bool:
    """Tell whether a node multiplies what it reads first by a constant, in a way known here."""
    if node.domain or node.op_type not in LAYERS:
        return False
    shape = facts.static_shape(node.inputs[1])
    if shape is None or not facts.is_constant(node.inputs[1]) or 0 in shape:
        return False
    if node.op_type == "Conv":
        return len(shape) > 2
    if node.op_type == "MatMul":
        return len(shape) == 2
    plain = all(facts.attribute(node, name, opset) == 1 for name in ("alpha", "beta"))
    return plain and not facts.attribute(node, "transA", opset)


def rows_of(node: ir.Node, opset: int) -> Array:
    """Return the weight of a layer as float32 [outputs, columns]."""
    array = facts.constant(node.inputs[1])
    assert array is not None
    return np.array(as_rows(array, node, opset), np.float32, order="C")


def as_rows(array: Array, node: ir.Node, opset: int) -> Array:
    """Return an array of the shape of a layer's weight as [outputs, columns]."""
    if node.op_type == "Conv":
        array = np.moveaxis(array, 1, -1)
        return np.asarray(array.reshape(array.shape[0], -1))
    return array if _is_turned(node, opset) else array.T


def from_rows(rows: Array, shape: tuple[int, ...], node: ir.Node, opset: int) -> Array:
    """Return [outputs, columns] as an array of the shape of a layer's weight."""
    if node.op_type == "Conv":
        array = np.moveaxis(rows.reshape(shape[0], *shape[2:], shape[1]), -1, 1)
        return np.ascontiguousarray(array)
    return np.ascontiguousarray(rows if _is_turned(node, opset) else rows.T)


def _is_turned(node: ir.Node, opset: int) -> bool:
    return node.op_type == "Gemm" and bool(facts.attribute(node, "transB", opset))


def set_rows(editor: Editor, node: ir.Node, rows: Array) -> None:
    """Give a layer another weight: float [outputs, columns], as `rows_of` returns them."""
    shape, dtype = facts.static_shape(node.inputs[1]), facts.dtype(node.inputs[1])
    assert shape is not None
    assert dtype is not None
    array = from_rows(rows, shape, node, editor.opset(node.graph))
    set_constant(editor, node, 1, array.astype(dtype.numpy()))


def add_to_bias(editor: Editor, model: ir.Model, edge: Edge, shift: Array) -> None:
    """Add to the bias of a layer, which `biased` told the place of: [outputs]."""
    node = next(node for node in model.graph if node.name == edge.node)
    before = facts.constant(node.inputs[edge.place])
    assert before is not None
    set_constant(editor, node, edge.place, (before + shift).astype(before.dtype))


def columns_of(units: Array, node: ir.Node) -> Array:
    """Return the unit of each column of a layer from that of each place of its input axis."""
    if node.op_type != "Conv":
        return units
    shape = facts.static_shape(node.inputs[1])
    assert shape is not None
    return np.tile(units, math.prod(shape[2:]))


def biased(editor: Editor, node: ir.Node) -> Edge:
    """Return where a layer reads its bias, a constant [outputs] of its own; give it one if needed.

    Raises `ValueError` where a bias is computed.
    """
    if node.op_type == "MatMul":
        return _behind(editor, node)
    found = node.inputs[2] if len(node.inputs) > 2 else None
    shape = facts.static_shape(node.inputs[1])
    assert shape is not None
    turned = node.op_type == "Conv" or facts.attribute(node, "transB", editor.opset(node.graph))
    outputs = shape[0] if turned else shape[1]
    dtype = facts.dtype(node.inputs[1])
    assert dtype is not None
    held = facts.constant(found)
    if found is not None and held is None:
        raise ValueError(f"{node.name}: its bias is computed")
    if held is None or held.shape != (outputs,) or not facts.is_private(found):
        array = np.zeros(outputs, dtype.numpy()) if held is None else held
        array = np.ascontiguousarray(np.broadcast_to(array, (1, outputs)).reshape(outputs))
        value = editor.constant(array, f"{node.name}_bias", before=node)
        editor.set_input(node, 2, value)
    return Edge(node.name or "", 2)


def _behind(editor: Editor, node: ir.Node) -> Edge:
    """Return the constant that is added to a product, and to it alone; insert one if needed."""
    output = node.outputs[0]
    shape = facts.static_shape(node.inputs[1])
    readers = list(facts.uses(output))
    assert shape is not None
    if len(readers) == 1 and not output.is_graph_output() and readers[0].node.op_type == "Add":
        add, place = readers[0].node, 1 - readers[0].idx
        held = facts.static_shape(add.inputs[place])
        if held == shape[-1:] and facts.is_constant(add.inputs[place]):
            return Edge(add.name or "", place)
    dtype = facts.dtype(node.inputs[1])
    assert dtype is not None
    zeros = editor.constant(np.zeros(shape[-1:], dtype.numpy()), f"{node.name}_bias", before=node)
    add = ir.node("Add", [output, zeros])
    add.outputs[0].type, add.outputs[0].shape = output.type, output.shape
    editor.insert_after([add], after=node)
    editor.replace(output, add.outputs[0])
    editor.set_input(add, 0, node.outputs[0])
    return Edge(add.name or "", 1)


def set_constant(editor: Editor, node: ir.Node, place: int, array: Array) -> None:
    """Let one input of a node read another constant; the former goes where nobody reads it."""
    old = node.inputs[place]
    editor.set_input(node, place, editor.constant(array, (old and old.name) or "", before=node))
    if old is not None and old.producer() is None:
        editor.drop_initializer(old)
