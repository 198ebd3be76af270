"""Splits layers in two through a factor of low rank."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.pruning.weights.rank import Factors
from onnxopt.sweep import matrix

_RULE = "factor"
_FEWEST = 16
"""A side of a matrix below which two kernels never take less time than one."""
_SPATIAL = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


def factor_layer(editor: Editor, node: ir.Node, made: Factors) -> None:
    """Compute a Conv, Gemm or MatMul in two steps: `down` in a node in front of it, then `up`.

    The node keeps its name, its output and its bias, which `shift` is added to; a Conv becomes one
    with a kernel of 1 behind one with its own kernel, strides and pads.
    """
    factor_layers(editor, [node], made)


def factor_layers(editor: Editor, nodes: Sequence[ir.Node], made: Factors) -> None:
    """Compute layers that read the same, in the same way, through one factor that they share.

    `up` and `shift` hold their outputs one behind the other; see `factor_layer`.
    """
    first = nodes[0]
    shape, kind = facts.static_shape(first.inputs[1]), facts.dtype(first.inputs[1])
    assert shape is not None
    assert kind is not None
    for node in nodes[1:]:
        assert node.inputs[0] is first.inputs[0]
    attributes, down = _down(first, made, shape)
    with editor.on_behalf_of(_RULE):
        held = np.ascontiguousarray(down, kind.numpy())
        weight = editor.constant(held, f"{first.name}/down", before=first)
        between = ir.node(first.op_type, [first.inputs[0], weight], attributes)
        between.outputs[0].type = first.outputs[0].type
        between.outputs[0].shape = _between(first, len(made.down))
        editor.insert([between], first)
    start = 0
    for node in nodes:
        count = sides(node, editor.opset(node.graph))[0]
        part = slice(start, start + count)
        _read_factor(editor, node, between.outputs[0], made.up[part], made.shift[part])
        start += count


def _read_factor(editor: Editor, node: ir.Node, value: ir.Value, up: Array, shift: Array) -> None:
    """Let a layer read what a factor made, by `up`, and add `shift` to its bias."""
    edge = matrix.biased(editor, node)
    holder = node if edge.node == node.name else next(iter(facts.uses(node.outputs[0]))).node
    bias, kind = facts.constant(holder.inputs[edge.place]), facts.dtype(node.inputs[1])
    assert bias is not None
    assert kind is not None
    matrix.set_constant(editor, holder, edge.place, np.asarray(bias + shift, bias.dtype))
    if node.op_type == "Conv":
        up = up.reshape(*up.shape, *[1] * ((facts.rank(node.inputs[1]) or 2) - 2))
        for name in _SPATIAL:
            editor.set_attribute(node, name, None)
    elif not (node.op_type == "Gemm" and facts.attribute(node, "transB", editor.opset(node.graph))):
        up = up.T
    editor.set_input(node, 0, value)
    matrix.set_constant(editor, node, 1, np.ascontiguousarray(up, kind.numpy()))


def _down(node: ir.Node, made: Factors, shape: tuple[int, ...]) -> tuple[dict[str, Any], Array]:
    """Return the attributes and the weight of the first of two nodes."""
    if node.op_type != "Conv":
        return {}, made.down.T
    down = np.moveaxis(made.down.reshape(-1, *shape[2:], shape[1]), -1, 1)
    kept = {name: node.attributes[name].value for name in _SPATIAL if name in node.attributes}
    return kept, down


def _between(node: ir.Node, rank: int) -> ir.Shape | None:
    shape = node.outputs[0].shape
    if shape is None:
        return None
    axis = 1 if node.op_type == "Conv" else len(shape) - 1
    return ir.Shape([rank if place == axis else dim for place, dim in enumerate(shape)])


def factorable(model: ir.Model, protect: Collection[str] = ()) -> dict[str, ir.Node]:
    """Return the layers of the main graph that could be split in two, by name."""
    opset = model.opset_imports.get("", 0)
    found = {}
    for node in model.graph:
        if not node.name or node.name in protect or not matrix.is_layer(node, opset):
            continue
        groups = facts.attribute(node, "group", opset) if node.op_type == "Conv" else 1
        if groups == 1 and _has_constant_bias(node) and min(sides(node, opset)) >= _FEWEST:
            found[node.name] = node
    return found


def siblings(nodes: Collection[ir.Node]) -> list[tuple[ir.Node, ...]]:
    """Return layers together that read the same in the same way: they can share a factor."""
    found: dict[object, list[ir.Node]] = {}
    for node in nodes:
        window: object = None
        if node.op_type == "Conv":
            shape = facts.static_shape(node.inputs[1]) or ()
            window = (
                shape[2:],
                *(str(node.attributes.get(name)) for name in _SPATIAL if name != "kernel_shape"),
            )
        found.setdefault((node.inputs[0], node.op_type, window), []).append(node)
    return [tuple(group) for group in found.values()]


def _has_constant_bias(node: ir.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or facts.is_constant(value)


def sides(node: ir.Node, opset: int) -> tuple[int, int]:
    """Return the outputs and columns of a layer's matrix."""
    shape = facts.static_shape(node.inputs[1])
    assert shape is not None
    if node.op_type == "Conv":
        return shape[0], math.prod(shape[1:])
    turned = node.op_type == "Gemm" and facts.attribute(node, "transB", opset)
    return shape if turned else shape[::-1]  # type: ignore[return-value]
