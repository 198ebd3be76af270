"""What TensorRT runs as int8: where it wants Q/DQ pairs, and where pairs would break its fusions.

TensorRT reads pairs as orders (explicit quantization). A kernel is int8 where its inputs come from
a DequantizeLinear, so pairs stand on the inputs of weighted operators and of average pooling; what
they write stays bare, and TensorRT lets it go on as int8 when a QuantizeLinear comes at the end of
what it fuses: Conv, its activation, and the Add of a residual block. There the pair stands on the
skip alone; a second one, on the branch that Conv computes, would cut the Conv off. Of two branches
with a Conv the longer one is fused. MaxPool and moves need nothing: conversions travel through
them. Attention, its softmax and norms stay float, or its fused kernel is lost. Everything is
symmetric int8 with zero point 0, per tensor for activations and per channel for weights; biases
stay float. From the documentation of explicit quantization, and NVIDIA's own tool (modelopt).
"""

from __future__ import annotations

from dataclasses import replace

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.quantizing.placement import looking
from onnxopt.quantizing.placement.plan import Placement, Unit
from onnxopt.quantizing.spec import Spec

TARGET = "tensorrt"

_ACTIVATION = Spec(format="int8", symmetric=True)
_WEIGHTED = ("Conv", "Gemm", "MatMul")
_POOLS = ("AveragePool", "GlobalAveragePool")
_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh")
_WHY = {
    "ConvTranspose": "int8 would cut it off from the activation behind it",
    "MatMul": "a product of activations belongs to attention, which TensorRT fuses in float",
    "Softmax": "it stays float: int8 would break the fused attention",
    "LayerNormalization": "it stays float, for accuracy",
    "Concat": "conversions travel through it",
    "MaxPool": "conversions travel through it",
}
_ELSE = "TensorRT fuses it with its neighbours, or runs it in float"


def place(model: ir.Model) -> Placement:
    """Return every int8 unit that TensorRT could make of a model.

    Units write float (`outputs` is empty): TensorRT fuses a QuantizeLinear that stands on what
    reads them. The unit of a Conv whose result a residual Add takes also reads that Add's skip.
    The names of nodes and values must be unique, and types known.
    """
    return _Placing(model).run()


class _Placing:
    """One walk over one model."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.opset = model.opset_imports.get("", 0)
        self.units: dict[str, Unit] = {}
        self.sources: dict[Edge, str] = {}
        self.left: dict[str, str] = {}
        self.depths: dict[ir.Node, int] = {}
        self.joined: dict[str, list[str]] = {}

    def run(self) -> Placement:
        for node in looking.nodes_of(self.model):
            makers = [value.producer() for value in node.inputs if value is not None]
            self.depths[node] = 1 + max((self.depths.get(m, 0) for m in makers if m), default=0)
            if node.domain or not any(map(looking.is_activation, node.outputs)):
                continue
            if node.op_type == "Concat":
                parts = [value.name or "" for value in node.inputs if value is not None]
                self.joined[node.outputs[0].name or ""] = parts
            if node.op_type in (*_WEIGHTED, *_POOLS):
                self.place(node)
            elif not (node.op_type == "Add" and self.attach(node)):
                self.left[node.name or ""] = _WHY.get(node.op_type, _ELSE)
        tensors = {name: _ACTIVATION for unit in self.units.values() for name in self.read(unit)}
        return Placement(
            target=TARGET,
            units=tuple(self.with_neighbours(unit, tensors) for unit in self.units.values()),
            tensors=tensors,
            sources=self.sources,
            left=self.left,
            integer_biases=False,
        )

    def read(self, unit: Unit) -> list[str]:
        return [self.sources[edge] for edge in unit.reads]

    def place(self, node: ir.Node) -> None:
        """Make a unit of a weighted operator or a pool, or note why not."""
        name = node.name or ""
        if not looking.is_activation(node.inputs[0]):
            self.left[name] = "its input is no float32 activation"
            return
        unit = Unit(name=name, op=node.op_type, reads=(self.edge(node, 0),))
        if node.op_type in _WEIGHTED:
            weight, why = looking.weight_of(node, self.opset)
            bias, against = looking.bias_of(node, self.opset)
            if node.op_type == "MatMul" and all(map(looking.is_activation, node.inputs)):
                why = _WHY["MatMul"]
            elif (
                weight is not None and node.op_type != "Conv" and self.is_vector(node, weight.spec)
            ):
                against = "a product with a single column gains nothing from int8"
            if weight is None or against:
                self.left[name] = why or against
                return
            unit = replace(unit, weight=weight, bias=bias)
        self.units[name] = unit

    def is_vector(self, node: ir.Node, spec: Spec) -> bool:
        shape = facts.static_shape(node.inputs[1])
        return shape is not None and spec.axis is not None and shape[spec.axis] == 1

    def edge(self, node: ir.Node, place: int) -> Edge:
        edge, value = Edge(node.name or "", place), node.inputs[place]
        assert value is not None
        self.sources[edge] = value.name or ""
        return edge

    def attach(self, add: ir.Node) -> bool:
        """Let the Conv that a residual Add is fused with read the skip as int8."""
        if not all(map(looking.is_activation, add.inputs)) or not self.is_even(add):
            return False
        found = [
            (self.depths.get(conv, 0), place, conv)
            for place, value in enumerate(add.inputs)
            if (conv := self.fused_conv(value, add)) is not None
        ]
        if not found:
            return False
        # With two of them the longer branch; else the second, as NVIDIA's tool decides.
        _, place, conv = max(found, key=lambda each: each[:2])
        skip = add.inputs[1 - place]
        if skip is add.inputs[place] or skip is conv.outputs[0]:
            return False
        unit = self.units[conv.name or ""]
        self.units[unit.name] = replace(unit, reads=(*unit.reads, self.edge(add, 1 - place)))
        return True

    def is_even(self, add: ir.Node) -> bool:
        """Tell whether an Add adds two tensors of one shape, as far as that is known."""
        one, two = map(facts.shape, add.inputs)
        return one is None or two is None or one == two

    def fused_conv(self, value: ir.Value | None, add: ir.Node) -> ir.Node | None:
        """Return the Conv unit whose result, perhaps activated, goes nowhere but into an Add."""
        node = value.producer() if value is not None and facts.is_private(value) else None
        if node is None or node.graph is not add.graph:
            return None
        if node.op_type == "Mul":
            node = self.gated(node)
        elif node.op_type in _ACTIVATIONS and facts.is_private(node.inputs[0]):
            node = node.inputs[0].producer() if node.inputs[0] is not None else None
        is_conv = node is not None and node.op_type == "Conv" and (node.name or "") in self.units
        return node if is_conv else None

    def gated(self, mul: ir.Node) -> ir.Node | None:
        """Return who makes x of x · sigmoid(x), if nothing else reads it."""
        for gate, value in ((mul.inputs[0], mul.inputs[1]), (mul.inputs[1], mul.inputs[0])):
            maker = gate.producer() if gate is not None else None
            if maker is None or maker.op_type not in ("Sigmoid", "HardSigmoid") or value is None:
                continue
            readers = {use.node for use in facts.uses(value)}
            if maker.inputs[0] is value and readers == {mul, maker}:
                return value.producer()
        return None

    def with_neighbours(self, unit: Unit, tensors: dict[str, Spec]) -> Unit:
        """Name the int8 inputs of the Concat that a unit reads: with one scale it costs nothing."""
        for name in self.read(unit):
            joined = [part for part in self.joined.get(name, ()) if part in tensors]
            if joined:
                return replace(unit, near=(*dict.fromkeys(joined), name))
        return unit
