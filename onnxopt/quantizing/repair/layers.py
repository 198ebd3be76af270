"""Layers that take up the scales of channels: they multiply by constants of their own.

What writes a channel divides its weights and bias by the scale, what reads it multiplies. A
BatchNormalization reads x/s as γ·s·(x/s - μ/s)/√(v + ε) + β, so that ε stays what it was; the
output of a normalisation is divided through γ and β, its input cannot be scaled.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.labels import FROZEN
from onnxopt.channels.walk import Step, constants
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.repair.walk import Change, Scaling, editable


def _weigh(
    walk: Scaling, node: ir.Node, *, place: int, rows: int | None, reads: Any, writes: Any
) -> None:
    """Ask for a weight that is divided by what it writes and multiplied by what it reads.

    `reads` are the labels of input channels and their numbers, as arrays that broadcast to the
    weight; `writes` the labels of output channels, likewise.
    """
    edge = Edge(node.name or "", place)
    labels, channels = reads
    source = node.inputs[1 - place]
    walk.changes.append(
        Change(
            edge=edge,
            labels=labels,
            divide=False,
            rows=rows,
            tensor=(source.name or "") if source is not None else "",
            channels=channels,
        )
    )
    walk.changes.append(Change(edge=edge, labels=writes, divide=True, rows=rows))


def _bias(walk: Scaling, node: ir.Node, labels: Array) -> None:
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return
    if editable(node.inputs[2]):
        walk.change(node, 2, labels, divide=True)
    else:
        walk.labels.freeze(labels)


def _conv(walk: Scaling, node: ir.Node) -> bool:
    shape = facts.static_shape(node.inputs[1])
    if shape is None or not editable(node.inputs[1]) or 0 in shape:
        return False
    groups = int(facts.attribute(node, "group", walk.opset) or 1)
    spatial = len(shape) - 2
    inputs, outputs = shape[1] * groups, shape[0]
    read = walk.along(walk.read(node, 0), -spatial - 1, inputs)
    written = walk.labels.fresh((outputs, *[1] * spatial))
    _weigh(
        walk,
        node,
        place=1,
        rows=0,
        reads=[_per_group(part, groups, outputs, spatial) for part in (read, np.arange(inputs))],
        writes=written[:, None],
    )
    _bias(walk, node, written.reshape(-1))
    walk.write(node.outputs[0], written)
    return True


def _per_group(array: Array, groups: int, outputs: int, spatial: int) -> Array:
    """Return what meets each row of the weight of a Conv: [outputs or 1, inputs of a group, 1…]."""
    grouped = array.reshape(groups, -1)
    if groups > 1:
        grouped = np.repeat(grouped, outputs // groups, axis=0)
    return grouped.reshape(*grouped.shape, *[1] * spatial)


def _conv_transpose(walk: Scaling, node: ir.Node) -> bool:
    shape = facts.static_shape(node.inputs[1])
    if shape is None or not editable(node.inputs[1]) or 0 in shape:
        return False
    groups = int(facts.attribute(node, "group", walk.opset) or 1)
    spatial = len(shape) - 2
    inputs, outputs = shape[0], shape[1] * groups
    read = walk.along(walk.read(node, 0), -spatial - 1, inputs)
    written = walk.labels.fresh((outputs, *[1] * spatial))
    of_input = np.repeat(written.reshape(groups, -1), inputs // groups if groups > 1 else 1, axis=0)
    tail = [1] * (spatial + 1)
    _weigh(
        walk,
        node,
        place=1,
        rows=1 if groups == 1 else None,
        reads=(read.reshape(-1, *tail), np.arange(inputs).reshape(-1, *tail)),
        writes=of_input.reshape(*of_input.shape, *[1] * spatial),
    )
    _bias(walk, node, written.reshape(-1))
    walk.write(node.outputs[0], written)
    return True


def _gemm(walk: Scaling, node: ir.Node) -> bool:
    shape = facts.static_shape(node.inputs[1])
    if shape is None or not editable(node.inputs[1]) or len(shape) != 2:
        return False
    turned = bool(facts.attribute(node, "transB", walk.opset))
    inputs, outputs = shape[::-1] if turned else shape
    read = walk.read(node, 0)
    if facts.attribute(node, "transA", walk.opset):
        walk.labels.freeze(read)
        read = np.full((), FROZEN)
    read = walk.along(read, -1, inputs)
    written = walk.labels.fresh((outputs,))
    column = (1, -1) if turned else (-1, 1)
    _weigh(
        walk,
        node,
        place=1,
        rows=0 if turned else 1,
        reads=(read.reshape(column), np.arange(inputs).reshape(column)),
        writes=written.reshape(column[::-1]),
    )
    _bias(walk, node, written)
    walk.write(node.outputs[0], written)
    return True


def _matmul(walk: Scaling, node: ir.Node) -> bool:
    if facts.is_constant(node.inputs[0]) or not facts.is_constant(node.inputs[1]):
        return _product(walk, node)
    shape = facts.static_shape(node.inputs[1])
    if shape is None or not editable(node.inputs[1]) or len(shape) < 2:
        return False
    read = walk.along(walk.read(node, 0), -1, shape[-2])
    written = walk.labels.fresh((shape[-1],))
    _weigh(
        walk,
        node,
        place=1,
        rows=len(shape) - 1,
        reads=(read[:, None], np.arange(shape[-2])[:, None]),
        writes=written,
    )
    walk.write(node.outputs[0], written)
    return True


def _product(walk: Scaling, node: ir.Node) -> bool:
    """Label a product of two activations: channels that are summed over scale inversely.

    Those of other axes are handed on, from the second operand, or else from the first.
    """
    if min(facts.rank(value) or 0 for value in node.inputs) < 2:
        return False
    one, other = walk.read(node, 0), walk.read(node, 1)
    for place, part, kept, summed in ((1, other, -1, -2), (0, one, -2, -1)):
        if walk.varies(part, kept) and not walk.varies(part, summed):
            walk.labels.freeze(walk.read(node, 1 - place))
            walk.hand_on(node, place)
            return True
    if walk.varies(one, -2) or walk.varies(other, -1) or min(one.ndim + 1, other.ndim) < 2:
        return False
    walk.labels.tie(one, np.swapaxes(other, -1, -2), inverse=True)
    walk.tensors[node.outputs[0]] = np.full((), FROZEN)
    return True


def _norm(walk: Scaling, node: ir.Node) -> bool:
    """Label what a normalisation over the last axis writes; it divides its scale and bias."""
    held = facts.static_shape(node.inputs[1])
    axis = facts.attribute(node, "axis", walk.opset)
    last = axis is None or axis == -1 or axis == (facts.rank(node.inputs[0]) or 0) - 1
    return held is not None and len(held) == 1 and last and _normalized(walk, node, held)


def _instance_norm(walk: Scaling, node: ir.Node) -> bool:
    held, rank = facts.static_shape(node.inputs[1]), facts.rank(node.inputs[0])
    if held is None or rank is None or rank < 2:
        return False
    return _normalized(walk, node, (*held, *[1] * (rank - 2)))


def _normalized(walk: Scaling, node: ir.Node, shape: tuple[int, ...]) -> bool:
    if not all(editable(value) for value in node.inputs[1:] if value is not None):
        return False
    walk.labels.freeze(walk.read(node, 0))
    written = walk.labels.fresh(shape)
    for place in range(1, len(node.inputs)):
        walk.change(node, place, written.reshape(-1), divide=True)
    walk.write(node.outputs[0], written)
    return True


def _batch_norm(walk: Scaling, node: ir.Node) -> bool:
    held, rank = facts.static_shape(node.inputs[1]), facts.rank(node.inputs[0])
    training = facts.attribute(node, "training_mode", walk.opset)
    if held is None or rank is None or rank < 2 or training:
        return False
    if not all(editable(value) for value in node.inputs[1:4]):
        return False
    read = walk.along(walk.read(node, 0), 1 - rank, held[0])
    written = walk.labels.fresh((*held, *[1] * (rank - 2)))
    walk.change(node, 1, read, divide=False)
    walk.change(node, 3, read, divide=True)
    for place in (1, 2):
        walk.change(node, place, written.reshape(-1), divide=True)
    walk.write(node.outputs[0], written)
    return True


def _mul(walk: Scaling, node: ir.Node) -> bool:
    """Label a product, elementwise: a constant takes up scales, of two activations one bears them.

    That is not the one which cannot be scaled anyway (the gate of a squeeze-and-excitation), nor
    the one that is broadcast.
    """
    held = constants(node)
    if len(held) == 1:
        return _times_constant(walk, node, held[0])
    one, other = walk.read(node, 0), walk.read(node, 1)
    if held or node.inputs[0] is node.inputs[1]:
        return False
    stays = [walk.labels.all_frozen(part) for part in (one, other)]
    if any(stays):
        bearer = stays.index(False) if not all(stays) else 0
    else:
        bearer = int(_spread(node.inputs[1]) > _spread(node.inputs[0]))
    walk.labels.freeze((one, other)[1 - bearer])
    walk.hand_on(node, bearer)
    return True


def _spread(value: ir.Value | None) -> int:
    """Count the dimensions that are not 1."""
    return sum(size != 1 for size in facts.shape(value) or ())


def _times_constant(walk: Scaling, node: ir.Node, place: int) -> bool:
    read = walk.read(node, 1 - place)
    shape = np.broadcast_shapes(read.shape, facts.static_shape(node.inputs[place]) or ())
    if not editable(node.inputs[place]) or sum(size > 1 for size in shape) != 1:
        walk.hand_on(node, 1 - place)
        return True
    # Where the constant has channels that its operand lacks, nothing is read by channel.
    if read.shape != shape:
        walk.labels.freeze(read)
    channels = np.arange(np.prod(shape)).reshape(shape)
    written = walk.labels.fresh(shape)
    _weigh(walk, node, place=place, rows=None, reads=(read, channels), writes=written)
    walk.write(node.outputs[0], written)
    return True


STEPS: dict[str, Step[Scaling]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "LayerNormalization": _norm,
    "RMSNormalization": _norm,
    "SimplifiedLayerNormalization": _norm,
    "InstanceNormalization": _instance_norm,
    "BatchNormalization": _batch_norm,
    "Mul": _mul,
}
