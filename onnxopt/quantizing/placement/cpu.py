"""What onnxruntime's CPU provider runs as int8: uint8 activations, int8 weights per channel.

An operator runs as int8 where every input comes from a DequantizeLinear and its only output goes
to a QuantizeLinear; Gemm and MatMul may write float. Which operators that holds for was read from
the graphs that onnxruntime 1.32 makes of models with one operator each. Those that only move
elements keep scale and zero point; Concat requantizes, and copies where the scales are equal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.placement import looking
from onnxopt.quantizing.placement.plan import Placement, Unit
from onnxopt.quantizing.spec import Spec

TARGET = "cpu"

_ACTIVATION = Spec(format="uint8")
_SHARE_OF_ONE = Spec(format="uint8", fixed=(1 / 256, 0))
"""Sigmoid and Softmax write numbers from 0 to 1: their scale needs no statistics."""

_POINTWISE = {
    "Sigmoid": _SHARE_OF_ONE,
    "Softmax": _SHARE_OF_ONE,
    "LeakyRelu": _ACTIVATION,
    "AveragePool": _ACTIVATION,
    "GlobalAveragePool": _ACTIVATION,
}
_MOVING = {
    "MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split",
    "Gather", "Resize", "DepthToSpace", "Expand", "Tile", "ReduceMax", "ReduceMin",
}  # fmt: skip
_NO_KERNEL = "onnxruntime's CPU provider has no int8 kernel for it"


def place(model: ir.Model) -> Placement:
    """Return every int8 unit that onnxruntime's CPU provider could make of a model.

    The names of nodes and values must be unique, and types known.
    """
    return _Placing(model).run()


class _Placing:
    """One walk over one model."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.opset = model.opset_imports.get("", 0)
        self.units: list[Unit] = []
        self.tensors: dict[str, Spec] = {}
        self.sources: dict[Edge, str] = {}
        self.left: dict[str, str] = {}
        self.absorbed: set[str] = set()

    def run(self) -> Placement:
        for node in looking.nodes_of(self.model):
            if node.domain or not any(map(looking.is_activation, node.outputs)):
                continue
            unit, why = self.unit_of(node)
            if unit is None:
                self.left[node.name or ""] = why
            else:
                self.units.append(unit)
                self.absorbed.update(unit.absorbed)
        left = {name: why for name, why in self.left.items() if name not in self.absorbed}
        return Placement(
            target=TARGET,
            units=tuple(self.units),
            tensors=self.tensors,
            sources=self.sources,
            left=left,
        )

    def unit_of(self, node: ir.Node) -> tuple[Unit | None, str]:
        op = node.op_type
        make: Callable[[ir.Node], tuple[Unit | None, str]]
        if op == "MatMul" and all(map(looking.is_activation, node.inputs)):
            make = self.product
        elif op in ("Conv", "Gemm", "MatMul"):
            make = self.weighted
        elif op in ("Add", "Mul", "Concat"):
            make = self.joining
        elif op in _POINTWISE:
            make = self.pointwise
        elif op in _MOVING:
            make = self.moving
        else:
            return None, _NO_KERNEL
        return make(node)

    def weighted(self, node: ir.Node) -> tuple[Unit | None, str]:
        weight, why = looking.weight_of(node, self.opset)
        if weight is None or not looking.is_activation(node.inputs[0]):
            return None, why or "its input is no float32 activation"
        bias, why = looking.bias_of(node, self.opset)
        if why:
            return None, why
        unit = self.computing(node, [0])
        return replace(unit, weight=weight, bias=bias, writes_either=node.op_type != "Conv"), ""

    def product(self, node: ir.Node) -> tuple[Unit | None, str]:
        return replace(self.computing(node, [0, 1]), writes_either=True), ""

    def joining(self, node: ir.Node) -> tuple[Unit | None, str]:
        if not all(map(looking.is_activation, node.inputs)):
            return None, "one of its inputs is a constant or no float32"
        if node.op_type != "Concat" and node.inputs[0] is node.inputs[1]:
            return None, "it reads one tensor twice"
        unit = self.computing(node, list(range(len(node.inputs))))
        if node.op_type != "Concat":
            return unit, ""
        return replace(unit, near=(*map(self.sources.__getitem__, unit.reads), *unit.outputs)), ""

    def pointwise(self, node: ir.Node) -> tuple[Unit | None, str]:
        if not looking.is_activation(node.inputs[0]):
            return None, "its input is no float32 activation"
        if node.op_type == "Softmax" and not self.is_last_axis(node):
            return None, "it goes along an axis that is not the last"
        unit = self.computing(node, [0])
        self.tensors[unit.outputs[0]] = _POINTWISE[node.op_type]
        return unit, ""

    def is_last_axis(self, node: ir.Node) -> bool:
        axis, rank = facts.attribute(node, "axis", self.opset), facts.rank(node.inputs[0])
        return axis == -1 or (rank is not None and axis == rank - 1)

    def moving(self, node: ir.Node) -> tuple[Unit | None, str]:
        if not looking.is_activation(node.inputs[0]):
            return None, "what it moves is no float32 activation"
        others = [value for value in node.inputs[1:] if value is not None]
        if any(facts.is_float(value) and not facts.is_constant(value) for value in others):
            return None, "it reads a second float tensor"
        if node.op_type == "Resize" and facts.attribute(node, "mode", self.opset) != "nearest":
            return None, "onnxruntime resizes int8 only to the nearest element"
        if node.op_type == "MaxPool" and len(node.outputs) > 1:
            return None, "it also tells where the maxima are"
        unit = self.reading(node, [0], [value.name or "" for value in node.outputs])
        tied = (self.sources[unit.reads[0]], *unit.outputs)
        for name in unit.outputs:
            self.tensors[name] = self.tensors.get(tied[0], _ACTIVATION)
        return replace(unit, ties=tied), ""

    def computing(self, node: ir.Node, places: list[int]) -> Unit:
        """Return a unit that computes what it writes, and may be clamped for nothing."""
        clamp = looking.clamp_behind(node, self.opset)
        last = node if clamp is None else clamp
        unit = self.reading(node, places, [last.outputs[0].name or ""])
        return unit if clamp is None else replace(unit, absorbed=(clamp.name or "",))

    def reading(self, node: ir.Node, places: list[int], outputs: list[str]) -> Unit:
        name = node.name or ""
        for place in places:
            value = node.inputs[place]
            assert value is not None
            self.sources[Edge(name, place)] = value.name or ""
            self.tensors.setdefault(value.name or "", _ACTIVATION)
        for output in outputs:
            self.tensors.setdefault(output, _ACTIVATION)
        return Unit(
            name=name,
            op=node.op_type,
            reads=tuple(Edge(name, place) for place in places),
            outputs=tuple(outputs),
        )
