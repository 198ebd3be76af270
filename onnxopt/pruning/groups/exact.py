"""Units that go without any loss: nobody reads them, or what is read of them is always zero.

A unit is read by columns of weights; it contributes nothing where all of them are zero, or where
the tensor that they multiply is zero there for every input: W·0 = 0·x = 0. Zeros begin in rows of
weights and biases that are zero and are followed through what keeps them (Relu, a sum of zeros, a
product with anything finite). Channels that are constant but not zero, and those that are computed
twice, need other weights in the layer behind: `rules.unread.channels` sees to them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.plan import Group, Groups, Keep, Slice

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def exact_cuts(model: ir.Model, groups: Groups) -> Keep:
    """Return which units stay where some can go and the model computes the same.

    Groups that lose nothing are left out; of each at least one unit stays.
    """
    nodes = [node for graph in facts.graphs_within(model.graph) for node in graph]
    by_name = {node.name or "": node for node in nodes}
    made: dict[str, list[Group]] = defaultdict(list)
    for group in groups:
        for name in group.tensors:
            made[name].append(group)
    zeros = _Zeros(opset=model.opset_imports.get("", 0))
    for group in groups:
        for part in group.slices:
            zeros.parts[group.name, part.edge.node].append(part)
    for node in nodes:
        for output in node.outputs:
            for group in made.get(output.name or "", ()):
                zeros.known[group.name, output.name or ""] = zeros.follow(group, node)
    keep = {}
    for group in groups:
        gone = np.ones(group.size, bool)
        for part in group.of("reads"):
            reader = by_name[part.edge.node]
            gone &= zeros.of_constant(group, reader, part) | zeros.read(group, reader, part)
        if gone.any():
            gone[0] &= not gone.all()
            keep[group.name] = ~gone
    return keep


@dataclass(kw_only=True)
class _Zeros:
    """Which units are zero in which tensors for every input; `parts` by group and node."""

    opset: int
    parts: dict[tuple[str, str], list[Slice]] = field(default_factory=lambda: defaultdict(list))
    known: dict[tuple[str, str], Array] = field(default_factory=dict)

    def of(self, group: Group, value: ir.Value | None) -> Array | None:
        """Return which units are zero in a tensor, bool [size]; None where it has none of them."""
        name = "" if value is None else value.name or ""
        if name not in group.tensors:
            return None
        return self.known.get((group.name, name), np.zeros(group.size, bool))

    def read(self, group: Group, node: ir.Node, part: Slice) -> Array:
        """Return which units are zero in what a weight multiplies."""
        others = [value for at, value in enumerate(node.inputs[:2]) if at != part.edge.place]
        found = self.of(group, others[0]) if node.op_type in _LAYERS and others else None
        return np.zeros(group.size, bool) if found is None else found

    def of_constant(self, group: Group, node: ir.Node, part: Slice) -> Array:
        """Return for which units a constant is zero throughout."""
        array = facts.constant(node.inputs[part.edge.place])
        assert array is not None
        others = tuple(axis for axis in range(array.ndim) if axis != part.axis)
        return _by_unit(group, part, ~(array != 0).any(others))

    def constants(self, group: Group, node: ir.Node, *, role: str = "") -> dict[int, Array]:
        """Return for which units the constants of a node are zero, by place, but for what reads."""
        found: dict[int, Array] = {}
        for part in self.parts[group.name, node.name or ""]:
            if part.role != "reads" and role in ("", part.role):
                found[part.edge.place] = self.of_constant(group, node, part)
        return found

    def follow(self, group: Group, node: ir.Node) -> Array:
        """Return which units are zero in what a node makes."""
        step = _STEPS.get(node.op_type) if not node.domain else None
        return np.zeros(group.size, bool) if step is None else step(self, group, node)


def _by_unit(group: Group, part: Slice, places: Array) -> Array:
    """Return for which units all places of an axis hold."""
    fine = np.ones(group.size, bool)
    inside = part.units >= 0
    np.logical_and.at(fine, part.units[inside], places[inside])
    return fine


def _operands(zeros: _Zeros, group: Group, node: ir.Node, places: Iterable[int]) -> list[Array]:
    """Return for which units each operand is zero; one that has none of them is so or is not."""
    held = zeros.constants(group, node)
    found = []
    for place in places:
        value = node.inputs[place]
        own = held.get(place)
        if own is None:
            own = zeros.of(group, value)
        if own is None:
            array = facts.constant(value)
            nil = array is not None and not (array != 0).any()
            own = np.full(group.size, nil)
        found.append(own)
    return found


def _first(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    return _operands(zeros, group, node, [0])[0]


def _all(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    start = 1 if node.op_type == "Where" else 0
    found = _operands(zeros, group, node, range(start, len(node.inputs)))
    return np.asarray(np.logical_and.reduce(found))


def _any(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    return np.asarray(np.logical_or.reduce(_operands(zeros, group, node, range(2))))


def _concat(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    held = zeros.constants(group, node)
    inside = [
        place
        for place, value in enumerate(node.inputs)
        if place in held or zeros.of(group, value) is not None
    ]
    return np.asarray(np.logical_and.reduce(_operands(zeros, group, node, inside)))


def _clip(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    bounds = [facts.attribute(node, name, zeros.opset) for name in ("min", "max")]
    for place, value in enumerate(node.inputs[1:3]):
        if value is not None:
            bounds[place] = facts.scalar(value)
            if bounds[place] is None:
                return np.zeros(group.size, bool)
    low, high = bounds
    open_at_zero = (low is None or low <= 0) and (high is None or high >= 0)
    return _first(zeros, group, node) & open_at_zero


def _layer(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    """Return which rows of a weight are zero, or follow zeros, and so are those of its bias."""
    held = zeros.constants(group, node)
    weight = next((held[place] for place in (0, 1) if place in held), np.zeros(group.size, bool))
    followed = 1 in zeros.constants(group, node, role="follows")
    if followed:
        weight = weight | _first(zeros, group, node)
    if not held and node.op_type == "MatMul":
        return _any(zeros, group, node)
    if len(node.inputs) > 2 and node.inputs[2] is not None:
        weight = weight & _operands(zeros, group, node, [2])[0]
    return weight


def _batch_norm(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    """Return where γ·(0 - μ)/√(v + ε) + β is zero: both are, or β is and γ or μ, of zeros."""
    held = zeros.constants(group, node)
    if not {1, 2, 3} <= held.keys():
        return np.zeros(group.size, bool)
    return held[2] & (held[1] | (held[3] & _first(zeros, group, node)))


def _pad(zeros: _Zeros, group: Group, node: ir.Node) -> Array:
    filler = node.inputs[2] if len(node.inputs) > 2 else None
    old = facts.attribute(node, "value", zeros.opset) if "value" in node.attributes else 0
    empty = old == 0 and (filler is None or facts.scalar(filler) == 0)
    return _first(zeros, group, node) & empty


_KEEPING = (
    "Abs", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Dropout", "Elu", "Erf", "Floor",
    "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "PRelu", "Relu", "Round", "Selu",
    "Sign", "Sin", "Sinh", "Softsign", "Sqrt", "Swish", "Tan", "Tanh",
)  # fmt: skip
_MIXING = (
    "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceL1", "ReduceL2",
    "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "ReduceSumSquare", "Resize",
)  # fmt: skip
_MOVING = (
    "DepthToSpace", "Expand", "Flatten", "Gather", "Reshape", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze",
)  # fmt: skip

_STEPS: Mapping[str, Callable[[_Zeros, Group, ir.Node], Array]] = {
    **dict.fromkeys((*_KEEPING, *_MIXING, *_MOVING), _first),
    **dict.fromkeys(("Add", "Max", "Mean", "Min", "Sub", "Sum", "Where"), _all),
    **dict.fromkeys(_LAYERS, _layer),
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _first,
    "Mul": _any,
    "Pad": _pad,
}
