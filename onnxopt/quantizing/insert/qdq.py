"""Writes a solution into a float model as QuantizeLinear and DequantizeLinear nodes.

A tensor that a unit writes as int8 goes through one pair, and every reader reads the pair's
result. A tensor that is written as float goes through a pair for those edges alone that want
int8. Weights and biases become integers in front of a DequantizeLinear.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.graph.editor import Editor
from onnxopt.quantizing.placement.looking import nodes_of
from onnxopt.quantizing.placement.plan import Unit
from onnxopt.quantizing.solution import QuantizedWeight, Solution
from onnxopt.quantizing.spec import QParams

_INT32 = np.iinfo(np.int32)


def insert(model: ir.Model, solution: Solution) -> Counter[str]:
    """Write a solution into a model, in place; return how many of what was inserted.

    The model is the one that the placement was made of, or a clone of it. Weights that the
    solution has no integers for stay float.
    """
    return Insertion(model, solution).run()


class Insertion:
    """One solution on its way into one model: all at once, or the constants one by one."""

    def __init__(self, model: ir.Model, solution: Solution) -> None:
        self.model = model
        self.solution = solution
        self.editor = Editor(model)
        self.nodes = {node.name or "": node for node in nodes_of(model)}
        self.values = values_of(model)
        self.pairs: dict[str, ir.Value] = {}
        self.parameters: dict[tuple[str, str], ir.Value] = {}
        self.done: Counter[str] = Counter()

    def run(self) -> Counter[str]:
        """Write everything; return how many of what was inserted."""
        for unit in self.solution.placement.units:
            self.constants(unit)
        self.activations()
        return self.done

    def activations(self) -> None:
        """Put pairs on all activations, and take away the clamps that they make superfluous."""
        units = self.solution.placement.units
        written = written_as_int8(self.model, self.solution)
        for unit in units:
            if unit.absorbed and written.issuperset(unit.outputs):
                self.absorb(unit)
        for name in written:
            self.quantize_everywhere(name)
        for unit in units:
            for edge in unit.reads:
                self.quantize_edge(edge)

    def constants(self, unit: Unit) -> None:
        """Put the integers of a unit's weight and bias in the place of the float constants."""
        node = self.nodes[unit.name]
        bias = self.solution.biases.get(unit.name)
        weight = None
        if unit.weight is not None:
            weight = self.solution.weights.get(unit.weight.edge)
        if weight is not None:
            self.weight(node, unit, weight)
        if unit.op == "MatMul":
            if bias is not None:
                self.shift(node, bias)
            return
        if unit.bias is None and bias is None:
            return
        place = 2 if unit.bias is None else unit.bias.place
        if bias is None:
            found = facts.constant(node.inputs[place])
            assert found is not None
            bias = found
        if weight is not None and self.solution.placement.integer_biases:
            self.integer_bias(node, place, bias, unit, weight)
        else:
            self.replace_constant(node, place, self.editor.constant(bias, f"{unit.name}_b", node))

    def weight(self, node: ir.Node, unit: Unit, weight: QuantizedWeight) -> None:
        assert unit.weight is not None
        name = unit.weight.tensor
        integers = self.editor.constant(weight.integers, f"{name}_quantized", node)
        read = self.dequantized(integers, weight.params, name, node)
        self.replace_constant(node, unit.weight.edge.place, read)
        self.done["weights"] += 1

    def integer_bias(
        self, node: ir.Node, place: int, bias: Array, unit: Unit, weight: QuantizedWeight
    ) -> None:
        """Write a bias with the scale of the products, which kernels add it to."""
        source = self.solution.placement.sources[unit.reads[0]]
        scale = self.solution.activations[source].scale * weight.params.scale
        integers = np.clip(np.rint(bias / scale.astype(np.float64)), _INT32.min, _INT32.max)
        held = self.editor.constant(integers.astype(np.int32), f"{unit.name}_b_quantized", node)
        zero = np.zeros(scale.shape, np.int32)
        axis = 0 if scale.ndim else None
        params = QParams(scale=np.asarray(scale, np.float32), zero_point=zero, axis=axis)
        read = self.dequantized(held, params, f"{unit.name}_b", node)
        self.replace_constant(node, place, read)
        self.done["biases"] += 1

    def shift(self, node: ir.Node, addend: Array) -> None:
        """Add to the constant that is added to a product anyway; without one, leave it alone."""
        value = node.outputs[0]
        reader = next(iter(facts.uses(value))).node if facts.is_private(value) else None
        if reader is None or reader.op_type != "Add" or reader.domain:
            return
        place = 1 if reader.inputs[0] is value else 0
        held = facts.constant(reader.inputs[place])
        if held is not None and held.shape == addend.shape:
            moved = self.editor.constant(held + addend, f"{reader.name}_b", reader)
            self.replace_constant(reader, place, moved)

    def replace_constant(self, node: ir.Node, place: int, value: ir.Value) -> None:
        old = node.inputs[place] if place < len(node.inputs) else None
        self.editor.set_input(node, place, value)
        if old is not None and not facts.uses(old):
            maker = old.producer()
            if maker is None:
                self.editor.drop_initializer(old)
            else:
                self.editor.erase(maker)

    def dequantized(
        self, integers: ir.Value, params: QParams, name: str, before: ir.Node
    ) -> ir.Value:
        """Insert a DequantizeLinear in front of a node; return the float constant that it makes."""
        inputs = [integers, *self.scale_and_zero(params, name, before)]
        attributes = {} if params.axis is None or not params.scale.ndim else {"axis": params.axis}
        made = ir.node("DequantizeLinear", inputs, attributes)
        made.outputs[0].type = ir.TensorType(ir.DataType.FLOAT)
        made.outputs[0].shape = integers.shape
        made.outputs[0].name = self.editor.fresh(f"{name}_dequantized")
        self.editor.insert([made], before)
        return made.outputs[0]

    def scale_and_zero(self, params: QParams, name: str, before: ir.Node) -> list[ir.Value]:
        return [
            self.editor.constant(params.scale, f"{name}_scale", before),
            self.editor.constant(params.zero_point, f"{name}_zero_point", before),
        ]

    def absorb(self, unit: Unit) -> None:
        """Take away clamps whose bounds the integers cannot leave."""
        low, high = self.solution.activations[unit.outputs[0]].range
        for name in reversed(unit.absorbed):
            clamp = self.nodes[name]
            if not is_superfluous(clamp, low, high):
                raise AssertionError(f"the range [{low}, {high}] does not absorb {name!r}")
            value = clamp.inputs[0]
            assert value is not None
            self.editor.replace(clamp.outputs[0], value, named=True)
            self.values[value.name or ""] = value
            self.editor.erase(clamp)
            self.done["clamps absorbed"] += 1

    def quantize_everywhere(self, name: str) -> None:
        """Let every reader of a tensor, and the caller, read what its integers stand for."""
        value = self.values[name]
        quantizer, read = self.pair(value)
        self.editor.replace(value, read)
        self.editor.set_input(quantizer, 0, value)
        self.pairs[name] = read

    def quantize_edge(self, edge: Edge) -> None:
        """Let one edge read the integers of a tensor that stays float for the others."""
        name = self.solution.placement.sources[edge]
        if name not in self.pairs:
            self.pairs[name] = self.pair(self.values[name])[1]
        self.editor.set_input(self.nodes[edge.node], edge.place, self.pairs[name])

    def pair(self, value: ir.Value) -> tuple[ir.Node, ir.Value]:
        """Insert Q and DQ behind a value; return the Q node and what DQ makes."""
        name, producer = value.name or "", value.producer()
        anchor = producer or next(iter(value.graph))  # type: ignore[arg-type]
        assert isinstance(anchor, ir.Node)
        params = self.solution.activations[name]
        if producer is None:
            constants = self.scale_and_zero(params, name, anchor)
        else:
            constants = self.scale_and_zero(params, name, producer)
        quantizer = ir.node("QuantizeLinear", [value, *constants])
        quantizer.outputs[0].type = ir.TensorType(_ir_type(params))
        dequantizer = ir.node("DequantizeLinear", [quantizer.outputs[0], *constants])
        dequantizer.outputs[0].type = value.type
        for node, ending in ((quantizer, "quantized"), (dequantizer, "dequantized")):
            node.outputs[0].shape = value.shape
            node.outputs[0].name = self.editor.fresh(f"{name}_{ending}")
        if producer is None:
            self.editor.insert([quantizer, dequantizer], anchor)
        else:
            self.editor.insert_after([quantizer, dequantizer], producer)
        self.done["Q/DQ pairs"] += 1
        return quantizer, dequantizer.outputs[0]


def _ir_type(params: QParams) -> ir.DataType:
    return ir.DataType.from_numpy(params.zero_point.dtype)


def values_of(model: ir.Model) -> dict[str, ir.Value]:
    """Return the values that nodes make or graphs are given, by name."""
    found: dict[str, ir.Value] = {}
    for graph in facts.graphs_within(model.graph):
        found.update((value.name or "", value) for value in graph.inputs)
        for node in graph:
            found.update((value.name or "", value) for value in node.outputs)
    return found


def written_as_int8(model: ir.Model, solution: Solution) -> set[str]:
    """Return the tensors that units write as int8: always, or because all readers want it."""
    placement, values = solution.placement, values_of(model)
    edges = {edge for unit in placement.units for edge in unit.reads}
    written: set[str] = set()
    for unit in placement.units:
        for name in unit.outputs:
            value = values[name]
            wanted = all((use.node.name, use.idx) in edges for use in facts.uses(value))
            if not unit.writes_either or (wanted and not value.is_graph_output()):
                written.add(name)
    return written


def is_superfluous(clamp: ir.Node, low: float, high: float) -> bool:
    """Tell whether a Relu or Clip changes no number from `low` to `high`, but for rounding."""
    slack = 1e-5 * max(abs(low), abs(high))
    if low < -slack:
        return False
    if clamp.op_type == "Relu":
        return True
    # Clip's upper bound may be an attribute (before operator set 11) or an input.
    attribute = clamp.attributes.get("max")
    most = attribute.value if attribute is not None else None
    if most is None and len(clamp.inputs) > 2:
        most = facts.scalar(clamp.inputs[2])
    return most is None or high <= float(most) + slack
