"""Patterns of nodes: an operator over its inputs, and products and sums of any grouping."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.values import Pattern, State, could_match

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean"})
"""Operators whose two operands may be exchanged."""


@dataclass(frozen=True, eq=False)
class OpPattern(Pattern):
    """Matches the first output of a node; see the module's text."""

    op_type: str
    inputs: tuple[Pattern, ...]
    attributes: dict[str, Any]
    bind: str | None = None
    domain: str = ""
    shared: bool = False
    open_ended: bool = False

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        node = None if value is None else value.producer()
        if node is None or node.op_type != self.op_type or node.domain != self.domain:
            if state.tracing and value is not None:
                made = node.op_type if node is not None else "no node"
                state.miss(f"'{value.name}' is made by {made} where {self.op_type} is expected")
            return
        if node.outputs[0] is not value:
            return
        orders = self._orders(node, state.tracing)
        if not orders or not self._fits(node, state):
            return
        new = state.bind(self.bind, node) if self.bind else False
        if new is None:
            return
        if not self.shared:
            state.nodes.append(node)
        for operands in orders:
            yield from match_all(self.inputs, operands, 0, state)
        if not self.shared:
            state.nodes.pop()
        if new and self.bind:
            del state.bound[self.bind]

    def _fits(self, node: ir.Node, state: State) -> bool:
        if state.graph is None:
            state.graph = node.graph
        elif node.graph is not state.graph:
            state.miss(f"'{node.name}' stands in an outer graph")
            return False
        if not self.inputs:
            return self._attributes_agree(node, state)
        surplus = () if self.open_ended else node.inputs[len(self.inputs) :]
        if any(value is not None for value in surplus):
            return False
        if not self._attributes_agree(node, state):
            return False
        return not self.names_numbers or scalars_broadcast(node)

    def _attributes_agree(self, node: ir.Node, state: State) -> bool:
        for name, expected in self.attributes.items():
            opset = state.opsets.get(node.domain, 1)
            found = facts.attribute(node, name, opset)
            if found is None and not facts.defines_attribute(
                self.op_type, self.domain, opset, name
            ):
                continue
            if found != expected:
                state.miss(f"'{node.name}' has {name}={found!r} where {expected!r} is expected")
                return False
        return True

    def _orders(self, node: ir.Node, tracing: bool) -> list[tuple[ir.Value | None, ...]]:
        """Return the orders of the operands in which each may match; all orders when tracing."""
        count = len(self.inputs)
        operands = tuple(node.inputs)
        if len(operands) < count:
            operands += (None,) * (count - len(operands))
        orders = [operands[:count]]
        if count == 2 and self.op_type in COMMUTATIVE and operands[0] is not operands[1]:
            orders.append(operands[1::-1])
        if tracing:
            return orders
        return [order for order in orders if all(map(could_match, self.inputs, order))]

    def admits(self, op_type: str, makers: Sequence[str | None]) -> bool:
        if op_type != self.op_type:
            return False
        padded = [*makers, *(None,) * (len(self.inputs) - len(makers))]
        orders = [padded, padded[1::-1]] if op_type in COMMUTATIVE else [padded]
        return any(
            all(part.takes(maker) for part, maker in zip(self.inputs, order, strict=False))
            for order in orders
        )

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        return frozenset({self.op_type})

    def parts(self) -> Sequence[Pattern]:
        return self.inputs

    def names(self) -> frozenset[str]:
        return super().names() | ({self.bind} if self.bind else set())

    @property
    def levels(self) -> int:
        return 1


@dataclass(frozen=True, eq=False)
class AnyInputs(OpPattern):
    """Matches a node whatever its inputs are."""

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        node = None if value is None else value.producer()
        if node is None or node.op_type != self.op_type or node.domain != self.domain:
            return
        if node.outputs[0] is not value or not self._fits(node, state):
            return
        new = state.bind(self.bind, node) if self.bind else False
        if new is None:
            return
        if not self.shared:
            state.nodes.append(node)
        yield
        if not self.shared:
            state.nodes.pop()
        if new and self.bind:
            del state.bound[self.bind]


@dataclass(frozen=True, eq=False)
class Chain(Pattern):
    """Matches an associative, commutative operator over its operands in any grouping and order."""

    op_type: str
    operands: tuple[Pattern, ...]

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        for leaves, nodes in groupings(self.op_type, value, len(self.operands), inner=False):
            if state.graph is None:
                state.graph = nodes[0].graph
            if any(node.graph is not state.graph for node in nodes):
                continue
            if not all(any(could_match(part, leaf) for leaf in leaves) for part in self.operands):
                continue
            if self.names_numbers and not all(map(scalars_broadcast, nodes)):
                continue
            state.nodes.extend(nodes)
            yield from _assign(self.operands, list(leaves), state)
            del state.nodes[-len(nodes) :]

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        return frozenset({self.op_type})

    def parts(self) -> Sequence[Pattern]:
        return self.operands

    def admits(self, op_type: str, makers: Sequence[str | None]) -> bool:
        if op_type != self.op_type or op_type in makers:
            return op_type == self.op_type
        if len(self.operands) != len(makers):
            return False
        return all(any(part.takes(maker) for maker in makers) for part in self.operands)

    @property
    def levels(self) -> int:
        return len(self.operands) - 1


def groupings(
    op_type: str, value: ir.Value | None, count: int, *, inner: bool = True
) -> Iterator[tuple[tuple[ir.Value | None, ...], tuple[ir.Node, ...]]]:
    """Yield every way to see a value as `count` operands, with the nodes in between."""
    if count == 1:
        yield (value,), ()
        return
    node = None if value is None else value.producer()
    if node is None or node.op_type != op_type or node.domain or len(node.inputs) != 2:
        return
    if inner and len(facts.uses(node.outputs[0])) != 1:
        return
    left, right = node.inputs
    for size in range(1, count):
        for some, made in groupings(op_type, left, size):
            for others, made_too in groupings(op_type, right, count - size):
                yield (*some, *others), (node, *made, *made_too)


def _assign(
    patterns: Sequence[Pattern], leaves: list[ir.Value | None], state: State
) -> Iterator[None]:
    if not patterns:
        yield
        return
    for index, leaf in enumerate(leaves):
        if could_match(patterns[0], leaf):
            rest = leaves[:index] + leaves[index + 1 :]
            for _ in patterns[0].match(leaf, state):
                yield from _assign(patterns[1:], rest, state)


def match_all(
    patterns: Sequence[Pattern], values: Sequence[ir.Value | None], index: int, state: State
) -> Iterator[None]:
    """Yield once for every way in which all values match their patterns, from `index` on."""
    if index == len(patterns):
        yield
        return
    for _ in patterns[index].match(values[index], state):
        yield from match_all(patterns, values, index + 1, state)


def scalars_broadcast(node: ir.Node) -> bool:
    """Tell whether no one-element constant of the node raises the rank of what it meets.

    A constant of shape [1, 1, 1] makes a matrix three-dimensional: a rule that drops it would
    change the shape of its result.
    """
    for value in node.inputs:
        if value is None or facts.scalar(value) is None:
            continue
        need = facts.rank(value) or 0
        others = [facts.rank(other) or 0 for other in node.inputs if other is not value]
        if need > max(others, default=0):
            return False
    return True
