"""From one linear layer to the next, through what works on each channel by itself.

Each output channel of the first layer is then computed from its own filter and bias, and from the
parameters that the steps in between have for it, and nothing but one input channel of the next
layer depends on it. That is what lets channels be taken out on the whole way at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.elementwise import UNARY, carrier, remade
from onnxopt.rules.linear.formula import Layer, bias_of, layer_of, rebuilt, taps

LAYERS = frozenset({"Conv", "Gemm", "MatMul"})
BINARY = frozenset({"Add", "Div", "Max", "Min", "Mul", "PRelu", "Pow", "Sub"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"})
FLATTENERS = frozenset({"Flatten", "Reshape", "Squeeze"})
_MOST_STEPS = 16


@dataclass(frozen=True, kw_only=True)
class Step:
    """A node that works on each channel by itself.

    `carried` are the indices of the inputs that have the channels, `parts` says of each constant
    input that holds something for each channel along which axis, and `axis` where the channels are
    in the result, counted from the end.
    """

    node: ir.Node
    carried: tuple[int, ...]
    parts: dict[int, int] = field(default_factory=dict)
    axis: int


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A layer of one group, the steps behind it in their order, and its weight and bias.

    The weight is viewed as [inputs, outputs, taps]; the bias is one double per output channel.
    """

    first: Layer
    weight: Any
    bias: Any
    steps: tuple[Step, ...]

    @property
    def channels(self) -> int:
        """The number of channels on the way."""
        return self.first.outputs


def passage_to(new: Builder, reader: ir.Node) -> Passage | None:
    """Find the passage that ends at a layer's input, or None."""
    nodes: dict[ir.Node, None] = {}
    first = _collect(new, reader, nodes)
    if first is None or not _is_closed(nodes, first, reader):
        return None
    weight = held_as_single(first.inputs[1])
    held = first.inputs[2] if len(first.inputs) > 2 else None
    bias = np.zeros(1) if held is None else held_as_single(held)
    if weight is None or bias is None:
        return None
    layer = layer_of(new, first)
    if layer.groups > 1 or (layer.axis == -1 and weight.ndim != 2):
        return None
    axes: dict[ir.Value | None, int] = {first.outputs[0]: layer.axis}
    steps = []
    for node in nodes:
        step = _step(new, node, axes, layer.outputs)
        if step is None:
            return None
        axes[node.outputs[0]] = step.axis
        steps.append(step)
    return Passage(
        first=layer,
        weight=taps(layer, weight)[0],
        bias=np.broadcast_to(_zeros_unless(bias_of(new, layer, bias)), layer.outputs),
        steps=tuple(steps),
    )


def end_axis(passage: Passage) -> int:
    """Return where the channels are at the end of a passage, counted from the end."""
    return passage.steps[-1].axis if passage.steps else passage.first.axis


def held_as_single(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """Return the array of a constant, half precision as float32; None where it is none."""
    array = facts.constant(value)
    kind = facts.dtype(value)
    if array is not None and kind is not None and kind.itemsize < 4:
        return array.astype(np.float32)
    return array


def rebuilt_with(new: Builder, passage: Passage, kept: Any) -> ir.Value:
    """Make a passage anew with only those channels that `kept` lists."""
    layer = passage.first
    source = layer.node.inputs[0]
    array = facts.constant(layer.node.inputs[1])
    assert source is not None
    assert array is not None
    outer = 0 if layer.node.op_type == "Conv" or layer.transposed else array.ndim - 1
    narrow = replace(layer, outputs=len(kept))
    bias = passage.bias[kept]
    empty = not bias.any() and (layer.node.op_type != "Gemm" or new.opset >= 11)
    made = rebuilt(new, narrow, source, array.take(kept, outer), None if empty else bias)
    made.shape = _narrowed(layer.node.outputs[0], layer.axis, len(kept))
    values: dict[ir.Value | None, ir.Value] = {layer.node.outputs[0]: made}
    for step in passage.steps:
        made = values[step.node.outputs[0]] = _remade_step(new, step, values, kept)
    return made


def _remade_step(
    new: Builder, step: Step, values: dict[ir.Value | None, ir.Value], kept: Any
) -> ir.Value:
    node = step.node
    inputs: list[ir.Value | None] = [values.get(value, value) for value in node.inputs]
    for index, axis in step.parts.items():
        array = facts.constant(node.inputs[index])
        assert array is not None
        inputs[index] = new.constant(array.take(kept, axis), facts.dtype(node.inputs[index]))
    shape = _narrowed(node.outputs[0], step.axis, len(kept))
    if node.op_type in FLATTENERS:
        made: ir.Value = new.Flatten(inputs[0], axis=1)
        made.type, made.shape = node.outputs[0].type, shape
        return made
    changed = {"group": len(kept)} if node.op_type == "Conv" else {}
    return remade(new, node, inputs, shape, **changed)


def _narrowed(value: ir.Value, axis: int, count: int) -> ir.Shape | None:
    if value.shape is None:
        return None
    sizes = list(value.shape)
    sizes[axis] = count
    return ir.Shape(sizes)


def _zeros_unless(bias: Any) -> Any:
    return np.zeros(1) if bias is None else bias


def _collect(new: Builder, reader: ir.Node, nodes: dict[ir.Node, None]) -> ir.Node | None:
    """Gather the nodes between a layer and the one layer in front of it, in their order."""
    first: ir.Node | None = None
    stack: list[tuple[ir.Value | None, bool]] = [(reader.inputs[0], False)]
    while stack:
        value, done = stack.pop()
        node = None if value is None else value.producer()
        if node is None or node.domain or node.graph is not reader.graph:
            return None
        if done:
            nodes[node] = None
        elif node in nodes or node is first:
            continue
        elif node.op_type in LAYERS and not _may_be_step(new, node):
            if first is not None or not facts.is_constant(node.inputs[1]):
                return None
            first = node
        elif not _may_be_step(new, node) or len(stack) > _MOST_STEPS or len(nodes) > _MOST_STEPS:
            return None
        else:
            stack.append((value, True))
            free = node.inputs[:1] if node.op_type not in BINARY else node.inputs
            stack.extend((item, False) for item in free if not facts.is_constant(item))
    return first


def _may_be_step(new: Builder, node: ir.Node) -> bool:
    """Tell by its operator whether a node may work on each channel by itself."""
    if node.op_type == "Conv":
        shape = facts.static_shape(node.inputs[1])
        group = new.attribute(node, "group")
        return shape is not None and shape[1] == 1 and group == shape[0] > 1
    kinds = (UNARY, BINARY, POOLS, FLATTENERS)
    return node.op_type in ("BatchNormalization", "ReduceMean") or any(
        node.op_type in kind for kind in kinds
    )


def _is_closed(nodes: dict[ir.Node, None], first: ir.Node, reader: ir.Node) -> bool:
    """Tell whether nobody but the last reader reads what the nodes compute."""
    inside = {*nodes, reader}
    for node in (first, *nodes):
        if len(node.outputs) != 1 or node.outputs[0].is_graph_output():
            return False
        if any(use.node not in inside for use in facts.uses(node.outputs[0])):
            return False
    carried = {node.outputs[0] for node in (first, *nodes)}
    return not any(value in carried for value in reader.inputs[1:])


def _step(
    new: Builder, node: ir.Node, axes: dict[ir.Value | None, int], channels: int
) -> Step | None:
    """Say how a node works on channels, or None where it mixes them or that is not known."""
    carried = tuple(index for index, value in enumerate(node.inputs) if value in axes)
    found = {axes[node.inputs[index]] for index in carried}
    if len(found) != 1:
        return None
    axis = found.pop()
    if node.op_type in BINARY:
        parts = _operands(node, carried, axis, channels)
        return None if parts is None else Step(node=node, carried=carried, parts=parts, axis=axis)
    if carried != (0,):
        return None
    parts = {}
    if node.op_type in UNARY:
        if carrier(node) != 0 or node.op_type == "Cast":
            return None
    elif node.op_type in ("Conv", "BatchNormalization"):
        if axis == -1 and node.op_type == "BatchNormalization" and facts.rank(node.inputs[0]) != 2:
            return None
        held = [index for index, value in enumerate(node.inputs) if index and value is not None]
        if not all(_holds(node.inputs[index], channels) for index in held):
            return None
        parts = dict.fromkeys(held, 0)
    elif axis == -1:
        return None
    elif node.op_type in FLATTENERS:
        axis = _flattened(node, channels)
    elif node.op_type == "ReduceMean":
        rank = 1 - axis
        over = dims.normalized_axes(facts.axes(node, new.opset) or (), rank)
        if over != tuple(range(2, rank)):
            return None
        axis = axis if new.attribute(node, "keepdims") else -1
    return Step(node=node, carried=carried, parts=parts, axis=axis) if axis else None


def _flattened(node: ir.Node, channels: int) -> int:
    """Return where the channels are where [N, channels, 1, …] became [N, channels]; 0: nowhere."""
    before, after = dims.shape(node.inputs[0]), dims.shape(node.outputs[0])
    if before is None or after is None or len(after) != 2:
        return 0
    flat = before[1] == after[1] == channels and set(before[2:]) <= {1}
    return -1 if flat else 0


def _holds(value: ir.Value | None, channels: int) -> bool:
    shape = facts.static_shape(value)
    return facts.is_constant(value) and shape is not None and shape[:1] == (channels,)


def _operands(
    node: ir.Node, carried: Sequence[int], axis: int, channels: int
) -> dict[int, int] | None:
    """Say which constants of an elementwise node have something for each channel, and where."""
    parts = {}
    for index, value in enumerate(node.inputs):
        if index in carried:
            continue
        shape = facts.static_shape(value)
        if shape is None or not facts.is_constant(value):
            return None
        if len(shape) >= -axis and shape[axis] != 1:
            if shape[axis] != channels:
                return None
            parts[index] = len(shape) + axis
    return parts
