"""Which tensors share one order of their channels, and which constants have to follow it.

    W₁ → f → W₂        P W₁ → f → W₂ Pᵀ

The channels of a tensor may be put in any order P where all that write it and all that read it can
be told. What works on each channel alone (clamps, pooling, depthwise convolutions) hands the order
on, sums and products tie the orders of their operands, and whoever reads a tensor whole, or what a
graph hands out, freezes it. Unlike equalization (see `chains`) an order passes every elementwise
function, and whole axes are tied, never single channels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from onnxopt.channels.walk import constants
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.placement.plan import merged
from onnxopt.quantizing.repair.walk import editable


@dataclass(frozen=True, kw_only=True, eq=False)
class Slot:
    """A constant that follows an order along an axis.

    Where it is a weight that sums over these channels, `rows` is the axis of its own.
    """

    node: ir.Node
    place: int
    axis: int
    rows: int | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Stream:
    """Tensors of one order of `size` channels, and the constants that follow it."""

    name: str
    size: int
    slots: tuple[Slot, ...]

    @property
    def readers(self) -> list[Slot]:
        """The weights that sum over the channels."""
        return [slot for slot in self.slots if slot.rows is not None]


def streams(model: ir.Model) -> list[Stream]:
    """Return all channels of a model that may be put in another order, and that a weight sums over.

    Tensors have to have names of their own. Nodes of nested graphs stay as they are, and what they
    read does.
    """
    walk = _Walk(opset=model.opset_imports.get("", 0))
    for node in model.graph:
        step = None if node.domain else _STEPS.get(node.op_type)
        if step is None or not step(walk, node):
            for value in (*node.inputs, *node.outputs):
                walk.freeze(value)
    return walk.solve(model.graph)


@dataclass(kw_only=True)
class _Walk:
    """What is known so far: for a tensor its axis of channels, from the end, and their number."""

    opset: int
    known: dict[ir.Value, tuple[int, int]] = field(default_factory=dict)
    ties: list[tuple[ir.Value, ir.Value]] = field(default_factory=list)
    frozen: set[ir.Value] = field(default_factory=set)
    slots: list[tuple[ir.Value, Slot]] = field(default_factory=list)

    def freeze(self, value: ir.Value | None) -> None:
        if value is not None:
            self.frozen.add(value)

    def note(self, value: ir.Value, axis: int, size: int) -> None:
        """Say where a tensor has its channels; freeze it where others say otherwise."""
        if self.known.setdefault(value, (axis, size)) != (axis, size):
            self.freeze(value)

    def hand_on(self, node: ir.Node, axis: int | None = None) -> bool:
        """Let the first output have the order of the first input, on another axis if given."""
        source, target = node.inputs[0], node.outputs[0]
        if source is None or source not in self.known or len(node.outputs) > 1:
            return False
        own, size = self.known[source]
        self.note(target, own if axis is None else axis, size)
        self.ties.append((source, target))
        return True

    def solve(self, graph: ir.Graph) -> list[Stream]:
        for value in self.known:
            fixed = value.is_graph_output() or value.is_graph_input() or facts.is_constant(value)
            if fixed or any(use.node.graph is not graph for use in facts.uses(value)):
                self.freeze(value)
        frozen = {value.name for value in self.frozen}
        sizes = {value.name or "": size for value, (_, size) in self.known.items()}
        found: dict[str, list[Slot]] = defaultdict(list)
        for value, slot in self.slots:
            found[value.name or ""].append(slot)
        made = [
            Stream(
                name=names[0],
                size=sizes[names[0]],
                slots=tuple(slot for name in names for slot in found[name]),
            )
            for names in merged(sizes, self.tied())
            if frozen.isdisjoint(names)
        ]
        return [stream for stream in made if stream.readers and stream.size > 1]

    def tied(self) -> Iterator[tuple[str, str]]:
        """Yield the names of two tensors of one order."""
        for one, other in self.ties:
            yield one.name or "", other.name or ""


def _conv(walk: _Walk, node: ir.Node) -> bool:
    source, weight, target = node.inputs[0], node.inputs[1], node.outputs[0]
    shape = facts.static_shape(weight)
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if source is None or shape is None or not editable(weight):
        return False
    if bias is not None and not editable(bias):
        return False
    groups, axis = int(facts.attribute(node, "group", walk.opset) or 1), 1 - len(shape)
    if groups == 1:
        walk.note(source, axis, shape[1])
        walk.slots.append((source, Slot(node=node, place=1, axis=1, rows=0)))
        walk.note(target, axis, shape[0])
    elif groups == shape[0] and shape[1] == 1:
        walk.note(source, axis, groups)
        walk.hand_on(node)
    else:
        return False
    walk.slots.append((target, Slot(node=node, place=1, axis=0)))
    if bias is not None:
        walk.slots.append((target, Slot(node=node, place=2, axis=0)))
    return True


def _product(walk: _Walk, node: ir.Node) -> bool:
    """Label a matrix product with a constant on the right."""
    source, weight, target = node.inputs[0], node.inputs[1], node.outputs[0]
    shape = facts.static_shape(weight)
    if source is None or shape is None or len(shape) != 2 or not editable(weight):
        return False
    across = 0
    if node.op_type == "Gemm":
        if facts.attribute(node, "transA", walk.opset):
            return False
        across = int(bool(facts.attribute(node, "transB", walk.opset)))
    walk.note(source, -1, shape[across])
    walk.note(target, -1, shape[1 - across])
    walk.slots.append((source, Slot(node=node, place=1, axis=across, rows=1 - across)))
    walk.slots.append((target, Slot(node=node, place=1, axis=1 - across)))
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        return _follows(walk, node, 2, target)
    return True


def _follows(walk: _Walk, node: ir.Node, place: int, value: ir.Value) -> bool:
    """Let a constant that broadcasts to a tensor follow its order."""
    held, shape = node.inputs[place], facts.static_shape(node.inputs[place])
    axis, size = walk.known[value]
    if shape is None or not facts.is_constant(held):
        return False
    if len(shape) < -axis or shape[axis] == 1:
        return True
    if shape[axis] != size or not editable(held):
        return False
    walk.slots.append((value, Slot(node=node, place=place, axis=axis + len(shape))))
    return True


def _alone(walk: _Walk, node: ir.Node) -> bool:
    """Label a function of each element; what else it reads are single numbers."""
    others = node.inputs[1:]
    numbers = all(value is None or facts.scalar(value) is not None for value in others)
    return numbers and walk.hand_on(node)


def _joint(walk: _Walk, node: ir.Node) -> bool:
    """Label a function of several tensors, element by element, that broadcast to each other."""
    held, target = constants(node), node.outputs[0]
    parts = [value for place, value in enumerate(node.inputs) if place not in held]
    known = [value for value in parts if value is not None and value in walk.known]
    if not known:
        return False
    axis, size = walk.known[known[0]]
    walk.note(target, axis, size)
    for value in parts:
        if value is None:
            return False
        if value in walk.known:
            if walk.known[value] != (axis, size):
                return False
            walk.ties.append((value, target))
            continue
        shape = facts.shape(value)
        if shape is None or (len(shape) >= -axis and shape[axis] != 1):
            return False
    return all(_follows(walk, node, place, target) for place in held)


def _pool(walk: _Walk, node: ir.Node) -> bool:
    source, rank = node.inputs[0], facts.rank(node.inputs[0])
    if source is None or rank is None or walk.known.get(source, (0, 0))[0] != 1 - rank:
        return False
    return walk.hand_on(node)


def _reduce(walk: _Walk, node: ir.Node) -> bool:
    source, rank = node.inputs[0], facts.rank(node.inputs[0])
    axes = facts.axes(node, walk.opset)
    if source is None or source not in walk.known or rank is None or not axes:
        return False
    axis = walk.known[source][0]
    reduced = {number % rank - rank for number in axes}
    if axis in reduced:
        return False
    if facts.attribute(node, "keepdims", walk.opset):
        return walk.hand_on(node)
    return walk.hand_on(node, axis + sum(number > axis for number in reduced))


def _normalization(walk: _Walk, node: ir.Node) -> bool:
    """Label a normalisation over the channels: mean and variance know no order."""
    source, rank = node.inputs[0], facts.rank(node.inputs[0])
    if source is None or rank is None or walk.known.get(source, (0, 0))[0] != -1:
        return False
    if int(facts.attribute(node, "axis", walk.opset)) % rank != rank - 1:
        return False
    target = node.outputs[0]
    return walk.hand_on(node) and all(
        _follows(walk, node, place, target)
        for place, value in enumerate(node.inputs)
        if place and value is not None
    )


def _transpose(walk: _Walk, node: ir.Node) -> bool:
    source, rank = node.inputs[0], facts.rank(node.inputs[0])
    order = facts.attribute(node, "perm", walk.opset)
    if source is None or source not in walk.known or rank is None:
        return False
    order = list(order) if order is not None else list(range(rank))[::-1]
    return walk.hand_on(node, order.index(rank + walk.known[source][0]) - rank)


def _reshape(walk: _Walk, node: ir.Node) -> bool:
    """Label a reshape of [batch, channels, 1, 1] to [batch, channels]."""
    source = node.inputs[0]
    old, new = facts.shape(source), facts.shape(node.outputs[0])
    if source is None or source not in walk.known or old is None or new is None:
        return False
    axis, size = walk.known[source]
    flat = len(new) == 2 and new[1] == size and axis == 1 - len(old)
    return flat and all(dim == 1 for dim in old[2:]) and walk.hand_on(node, -1)


_Step = Callable[[_Walk, ir.Node], bool]
"""Labels what a node reads and writes; tells whether it could."""

_STEPS: dict[str, _Step] = {
    "Conv": _conv,
    **dict.fromkeys(("Gemm", "MatMul"), _product),
    **dict.fromkeys(
        (
            "Abs", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid",
            "HardSwish", "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu",
            "Selu", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh",
        ),
        _alone,
    ),
    **dict.fromkeys(
        ("Add", "Div", "Max", "Mean", "Min", "Mul", "PRelu", "Pow", "Sub", "Sum"), _joint
    ),
    **dict.fromkeys(("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"), _pool),
    **dict.fromkeys(("ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum"), _reduce),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _normalization),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze"), _reshape),
    "Transpose": _transpose,
}  # fmt: skip
