"""Layers that read units by the columns of a weight and make new ones by its rows.

The columns of what goes are zero in a masked model and missing in a cut one. A convolution in
groups hands its groups on where there are at least as many of them as channels in each (depthwise
ones, ResNeXt); else the same places of every group go together, in what it reads as in what it
makes, so that groups remain alike.
"""

from __future__ import annotations

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels.labels import FROZEN
from onnxopt.channels.walk import Step, whole
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.groups.joins import Part, joined, part_of
from onnxopt.pruning.groups.units import Units, because, varying
from onnxopt.pruning.plan import Role

_IN_GROUPS = "{} convolves in groups"


def read_along(walk: Units, node: ir.Node, place: int, axis: int, count: int) -> Array:
    """Return the labels that a weight reads along an axis, counted from the end: [count].

    What differs only along other axes stays.
    """
    labels = walk.read(node, place)
    why = because(node, f"{node.op_type} mixes what these channels stand beside")
    if not walk.varies(labels, axis):
        walk.stay(labels, why)
        return np.full(count, FROZEN)
    others = [other for other in varying(labels) if other != axis]
    return walk.flat(labels, others, why).reshape(-1)


def no_constant(walk: Units, node: ir.Node, place: int) -> bool:
    """Refuse a layer whose weight is no constant."""
    value = node.inputs[place]
    if value is not None and value.is_graph_input() and value.is_initializer():
        return walk.refuse(f"whoever runs the model may give {node.op_type} another weight")
    maker = None if value is None else value.producer()
    if maker is not None and maker.op_type == "DequantizeLinear":
        return walk.refuse(f"the weight of {node.op_type} is quantized")
    return walk.refuse(f"the weight of {node.op_type} is computed")


def _conv(walk: Units, node: ir.Node) -> bool:
    weight = facts.static_shape(node.inputs[1])
    if weight is None or not facts.is_constant(node.inputs[1]):
        return no_constant(walk, node, 1)
    turned = node.op_type == "ConvTranspose"
    groups = int(facts.attribute(node, "group", walk.opset) or 1)
    tail = [1] * (len(weight) - 2)
    inputs = weight[0] if turned else weight[1] * groups
    outputs = weight[1] * groups if turned else weight[0]
    read = read_along(walk, node, 0, 1 - len(weight), inputs)
    if groups > 1 and groups >= inputs // groups and read.any():
        written = _whole_groups(walk, node, read, groups, outputs)
        rows = read if turned else written
        walk.cut(node, 1, rows.reshape(-1, 1, *tail), "follows")
        _write(walk, node, written, written.reshape(-1, *tail), "follows")
        return True
    written = walk.fresh(outputs)
    for labels in (read, written):
        places = labels.reshape(groups, -1)
        walk.tie(places, places[:1], because(node, _IN_GROUPS.format(node.op_type)))
    if turned:
        walk.cut(node, 1, written[: weight[1]].reshape(-1, *tail), "writes")
        walk.cut(node, 1, read.reshape(-1, 1, *tail), "reads")
    else:
        walk.cut(node, 1, written.reshape(-1, 1, *tail), "writes")
        walk.cut(node, 1, read[: weight[1]].reshape(-1, *tail), "reads")
    _write(walk, node, written, written.reshape(-1, *tail), "writes")
    return True


def _whole_groups(walk: Units, node: ir.Node, read: Array, groups: int, outputs: int) -> Array:
    """Return the labels of what groups make: those of what they read."""
    each = read.reshape(groups, -1)
    walk.tie(each, each[:, :1], because(node, _IN_GROUPS.format(node.op_type)))
    return np.repeat(each[:, 0], outputs // groups)


def _write(walk: Units, node: ir.Node, written: Array, labels: Array, role: Role) -> None:
    """Label the output of a convolution, and its bias with it."""
    value = node.inputs[2] if len(node.inputs) > 2 else None
    if value is not None and not facts.is_constant(value):
        walk.tie(written, walk.read(node, 2), walk.keeps(value, node))
    walk.cut(node, 2, written, role)
    walk.write(node.outputs[0], labels)


def _multiplied(
    walk: Units, node: ir.Node, *, place: int, axis: int, inner: int, outer: int
) -> Array:
    """Return the labels of a product with a constant matrix, which the other place holds.

    What is at `place` is summed over `axis`, the constant over `inner`; `outer` is its other axis.
    All count from the end. Where units of the operand stand along another axis they pass.
    """
    weight = facts.static_shape(node.inputs[1 - place]) or ()
    labels = walk.read(node, place)
    if walk.varies(labels, axis):
        read = read_along(walk, node, place, axis, weight[inner])
        walk.cut(node, 1 - place, read if inner == -1 else read[:, None], "reads")
    elif labels.any() and not walk.labels.all_frozen(labels):
        if len(weight) > 2 and any(other < -2 for other in varying(labels)):
            labels = walk.flat(labels, (-1, -2), because(node, f"{node.op_type} multiplies heads"))
            walk.cut(node, 1 - place, labels, "follows")
        straight = axis == (-1 if place == 0 else -2)
        return labels if straight else np.swapaxes(whole(labels, max(labels.ndim, 2)), -1, -2)
    written = walk.fresh(weight[outer], axis=-1 if place == 0 else -2)
    rows = written.reshape(-1)
    walk.cut(node, 1 - place, rows if outer == -1 else rows[:, None], "writes")
    return written


def _matmul(walk: Units, node: ir.Node) -> bool:
    ranks = [facts.rank(value) or 0 for value in node.inputs]
    if min(ranks) < 2:
        return walk.refuse(
            "a vector is multiplied" if min(ranks) else "the rank of these channels is not known"
        )
    held = [
        facts.is_constant(value) and facts.static_shape(value) is not None for value in node.inputs
    ]
    given = [value.is_graph_input() and value.is_initializer() for value in node.inputs if value]
    if any(given):
        return no_constant(walk, node, given.index(True))
    if all(held):
        return walk.refuse("two constants are multiplied")
    if held[1]:
        made = _multiplied(walk, node, place=0, axis=-1, inner=-2, outer=-1)
    elif held[0]:
        made = _multiplied(walk, node, place=1, axis=-2, inner=-1, outer=-2)
    else:
        made = _product(walk, node)
    walk.write(node.outputs[0], made)
    return True


def _gemm(walk: Units, node: ir.Node) -> bool:
    held = [facts.is_constant(value) for value in node.inputs[:2]]
    turned = [bool(facts.attribute(node, name, walk.opset)) for name in ("transA", "transB")]
    if held[1] and not held[0]:
        axis, inner = (-2 if turned[0] else -1), (-1 if turned[1] else -2)
        made = _multiplied(walk, node, place=0, axis=axis, inner=inner, outer=-3 - inner)
    elif held[0] and not held[1]:
        axis, inner = (-1 if turned[1] else -2), (-2 if turned[0] else -1)
        made = _multiplied(walk, node, place=1, axis=axis, inner=inner, outer=-3 - inner)
    else:
        return no_constant(walk, node, 1)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        made = _plus(walk, node, made)
    walk.write(node.outputs[0], made)
    return True


def _plus(walk: Units, node: ir.Node, made: Array) -> Array:
    """Return the labels of a product to which the third input of a Gemm is added."""
    if not facts.is_constant(node.inputs[2]):
        product = Part(made, facts.shape(node.outputs[0]), 0)
        return joined(walk, node, [product, part_of(walk, node, 2)])
    walk.cut(node, 2, made, "writes")
    return made


def _product(walk: Units, node: ir.Node) -> Array:
    """Return the labels of a product of two activations.

    Over what it sums nothing can go but the whole width of a head; heads of both go together.
    """
    parts = []
    for place, axis in ((0, -1), (1, -2)):
        read, sizes = walk.read(node, place), facts.shape(node.inputs[place])
        kept = walk.flat(
            read,
            [axis],
            because(node, f"{node.op_type} multiplies these channels by an activation"),
        )
        if walk.varies(kept, -3):
            walk.kinds.append((kept, "heads"))
        alone = None if sizes is None else list(sizes)
        if alone is not None:
            alone[-1 if place == 0 else -2] = 1
        parts.append(Part(kept, None if alone is None else tuple(alone), place))
    return joined(walk, node, parts)


def _batch_norm(walk: Units, node: ir.Node) -> bool:
    if facts.attribute(node, "training_mode", walk.opset) or len(node.inputs) < 5:
        return walk.refuse("BatchNormalization is in training mode")
    return _per_channel(walk, node, averages=False)


def _instance_norm(walk: Units, node: ir.Node) -> bool:
    return _per_channel(walk, node, averages=True)


def _per_channel(walk: Units, node: ir.Node, *, averages: bool) -> bool:
    rank, sizes = facts.rank(node.inputs[0]), facts.static_shape(node.inputs[1])
    if not all(facts.is_constant(value) for value in node.inputs[1:] if value is not None):
        return walk.refuse(f"the parameters of {node.op_type} are computed")
    if rank is None or rank < 2 or sizes is None:
        return walk.refuse("the rank of these channels is not known")
    read = walk.read(node, 0)
    if averages:
        read = walk.flat(
            read, range(2 - rank, 0), because(node, f"{node.op_type} averages over these channels")
        )
    if not walk.varies(read, 1 - rank):
        walk.write(node.outputs[0], read)
        return True
    channels = read_along(walk, node, 0, 1 - rank, sizes[0])
    for place in range(1, len(node.inputs)):
        walk.cut(node, place, channels, "follows")
    walk.write(node.outputs[0], channels.reshape(-1, *[1] * (rank - 2)))
    return True


def _group_norm(walk: Units, node: ir.Node) -> bool:
    """Follow a GroupNormalization: its groups go as a whole, with the number of them."""
    rank, groups = facts.rank(node.inputs[0]), facts.attribute(node, "num_groups", walk.opset)
    sizes = facts.static_shape(node.inputs[1])
    if not all(facts.is_constant(value) for value in node.inputs[1:]):
        return walk.refuse("the parameters of GroupNormalization are computed")
    if rank is None or not groups or sizes is None:
        return walk.refuse("the rank of these channels is not known")
    read = walk.flat(
        walk.read(node, 0),
        range(2 - rank, 0),
        because(node, "GroupNormalization averages over these channels"),
    )
    if not walk.varies(read, 1 - rank):
        walk.write(node.outputs[0], read)
        return True
    channels = read_along(walk, node, 0, 1 - rank, read.shape[1 - rank])
    each = channels.reshape(int(groups), -1)
    walk.tie(each, each[:, :1], because(node, "GroupNormalization averages over each group"))
    for place in (1, 2):
        walk.cut(node, place, channels if sizes[0] == channels.size else each[:, 0], "follows")
    walk.write(node.outputs[0], channels.reshape(-1, *[1] * (rank - 2)))
    return True


STEPS: dict[str, Step[Units]] = {
    "BatchNormalization": _batch_norm,
    "Conv": _conv,
    "ConvTranspose": _conv,
    "Gemm": _gemm,
    "GroupNormalization": _group_norm,
    "InstanceNormalization": _instance_norm,
    "MatMul": _matmul,
}
