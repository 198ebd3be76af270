"""Moves what takes a part of a value up, over the nodes that compute it.

y = f(x) is needed in part: then f may be computed of a part of x, and so on upwards as long as
nobody else reads what lies between. A plan says how far that pays: to take the part of a value
costs a copy, to pass a node saves the part of its work that nobody reads. The work of a node is
only estimated, but with the same estimate on both sides.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.facts import Dim
from onnxopt.rewrite.rule import Builder
from onnxopt.rules.unread.needs import Needs
from onnxopt.rules.unread.part import Part
from onnxopt.rules.unread.table import needs
from onnxopt.rules.unread.work import NODE, elements, work

_MOST_NODES = 48
"""Nodes that are passed at once; what takes the parts above them may go on."""

LEAST_GAIN = 1000.0
"""What has to be saved at least; see `work` for the unit."""

_NEARLY_ALL = 0.9
_SHARED_ELEMENTS = 1 << 14
"""A constant of up to so many elements may be kept twice."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to get a part of a value: from its node (`needs`, and plans for the inputs), or cut."""

    value: ir.Value
    part: Part
    saved: float
    needs: Needs | None = None
    inputs: tuple[Plan | None, ...] = ()


class Climb:
    """Plans and builds the parts of values that the nodes at the bottom need."""

    def __init__(self, new: Builder, bottom: Collection[ir.Node]) -> None:
        self.new = new
        self.bottom = bottom
        self.passed = 0
        self.planned: dict[tuple[ir.Value, Part], Plan | None] = {}
        self.built: dict[tuple[ir.Value, Part], ir.Value] = {}

    def plan(self, value: ir.Value, part: Part, added: int = 0) -> Plan | None:
        """Return the plan to get a part over the node that makes a value, if that pays.

        `added` is the number of nodes that have to be put behind what is built.
        """
        cut, passing = self._cut(value, part), self.over(value, part)
        if cut is None or passing is None:
            return None
        gain = passing.saved - cut.saved - added * NODE
        return passing if gain >= LEAST_GAIN else None

    def over(self, value: ir.Value, part: Part) -> Plan | None:
        """Return the plan to get a part over the node that makes a value, whatever it saves."""
        shape = dims.shape(value)
        if shape is None or part.fraction(shape) > _NEARLY_ALL:
            return None
        return self._pass(value, part, self.bottom)

    def build(self, plan: Plan) -> ir.Value:
        """Make what a plan says; equal parts of a value are made once."""
        key = (plan.value, plan.part)
        if key not in self.built:
            self.built[key] = self._remake(plan) if plan.needs is not None else self._take(plan)
        return self.built[key]

    def _best(self, value: ir.Value, part: Part, reader: ir.Node) -> Plan | None:
        key = (value, part)
        if key in self.planned:
            known = self.planned[key]
            return None if known is None else replace(known, saved=0.0)
        cut, passing = self._cut(value, part), self._pass(value, part, (reader,))
        better = cut is None or (passing is not None and passing.saved > cut.saved)
        best = self.planned[key] = passing if better else cut
        return best

    def _cut(self, value: ir.Value, part: Part) -> Plan | None:
        """Plan to take the part where the value is."""
        shape = dims.shape(value)
        if shape is None or part.view:
            return None
        held = facts.tensor(value)
        if held is None:
            cost = elements(value) * part.fraction(shape) + NODE
            return Plan(value=value, part=part, saved=-cost)
        kept_twice = held.size > _SHARED_ELEMENTS and not facts.is_private(value)
        numeric = held.dtype.is_floating_point() or held.dtype.is_integer()
        if kept_twice or not (numeric or held.dtype == ir.DataType.BOOL):
            return None
        if held.dtype.itemsize < 1:
            return None
        size = shape[part.axis]
        if isinstance(size, int) and part.take.places(size) is None:
            return None
        return Plan(value=value, part=part, saved=0.0)

    def _pass(self, value: ir.Value, part: Part, readers: Collection[ir.Node]) -> Plan | None:
        """Plan to compute the part only."""
        node, shape = value.producer(), dims.shape(value)
        if node is None or shape is None or not self._is_open(value, readers):
            return None
        needed = needs(self.new, node, part)
        if needed is None or self.passed >= _MOST_NODES:
            return None
        self.passed += 1
        saved = work(node) * (1 - part.fraction(shape))
        inputs: list[Plan | None] = []
        for operand, wanted in zip(node.inputs, needed.inputs, strict=True):
            plan = None
            if operand is not None and wanted is not None:
                plan = self._best(operand, wanted, node)
                if plan is None:
                    return None
                saved += plan.saved
            inputs.append(plan)
        return Plan(value=value, part=part, saved=saved, needs=needed, inputs=tuple(inputs))

    def _is_open(self, value: ir.Value, readers: Collection[ir.Node]) -> bool:
        """Tell whether nobody but some nodes reads what a node of their graph computes."""
        node = value.producer()
        assert node is not None
        if node.outputs[0] is not value or node.graph is not self.new.root.graph:
            return False
        if any(other.uses() or other.is_graph_output() for other in node.outputs[1:]):
            return False
        return not value.is_graph_output() and all(use.node in readers for use in facts.uses(value))

    def _take(self, plan: Plan) -> ir.Value:
        value, part = plan.value, plan.part
        held = facts.constant(value)
        if held is not None:
            return self.new.constant(part.take.of_array(held, part.axis), facts.dtype(value))
        made = part.take.of_value(self.new, value, part.axis)
        made.type, made.shape = value.type, _shape_of(plan)
        return made

    def _remake(self, plan: Plan) -> ir.Value:
        node, needed = plan.value.producer(), plan.needs
        assert node is not None
        assert needed is not None
        inputs: list[object] = []
        for index, (operand, below) in enumerate(zip(node.inputs, plan.inputs, strict=True)):
            if index in needed.constants:
                inputs.append(needed.constants[index])
            elif index not in needed.dropped:
                inputs.append(operand if below is None else self.build(below))
        attributes = {**node.attributes, **needed.attributes}
        made: ir.Value = self.new.node(node.op_type, *inputs, domain=node.domain, **attributes)
        made.type, made.shape = plan.value.type, _shape_of(plan)
        return made


def _shape_of(plan: Plan) -> ir.Shape:
    known: tuple[Dim, ...] = dims.shape(plan.value) or ()
    return ir.Shape(plan.part.shape(known))
