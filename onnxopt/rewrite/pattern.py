"""The pattern language: a pattern is written as the expression that it matches.

    x, eps = var("x"), const("eps")
    product(x, 0.5, 1 + op.Erf(x / math.sqrt(2) | x * math.sqrt(0.5)))

`op.Conv(x, w, bind="conv", group=1)` matches a node: its inputs match the patterns given, its
attributes have the values given (an attribute that is absent has its schema's default; one that
the operator does not have yet at the model's operator set is not looked at), and the node is bound
under `bind`. `op.Concat()` without inputs matches whatever the inputs are, and `op.Slice(x, ...)`
whatever follows the first. `var` binds a value, `const` an array that no caller can override, a
number any one-element constant that is equal to it up to the rounding of the element type. The same
name twice is the same value. `|` gives alternatives, `unless` an exception. The order of the
operands of a commutative operator, and for `product` and `total` also their grouping, is the
engine's business.

A node of a match other than its root is removed with it: it may have no reader outside the match
and be no graph output. `shared=True` marks a node that may stay where it is.

Matching walks up from the root, backtracking: a generator yields once for every way to match, with
the bindings in `State`, and takes them back when it is resumed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from types import EllipsisType
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

COMMUTATIVE = frozenset({"Add", "Mul", "And", "Or", "Xor", "Equal", "Max", "Min", "Sum", "Mean"})
"""Operators whose two operands may be exchanged."""

_ANYTHING: frozenset[str] | None = None
_TOLERANCES = {
    ir.DataType.DOUBLE: 1e-12,
    ir.DataType.FLOAT16: 1e-3,
    ir.DataType.BFLOAT16: 8e-3,
}


@dataclass(eq=False)
class State:
    """The bindings of a match while it grows, and how far the best failing attempt came."""

    opsets: dict[str, int]
    graph: Any = None
    bound: dict[str, Any] = field(default_factory=dict)
    nodes: list[ir.Node] = field(default_factory=list)
    tracing: bool = False
    reached: int = 0
    near_miss: str = ""

    def bind(self, name: str, thing: Any) -> bool | None:
        """Bind a name: True if it is new, False if it already means this thing, None if another."""
        known = self.bound.get(name)
        if known is None:
            self.bound[name] = thing
            return True
        return False if known is thing else None

    def miss(self, reason: str) -> None:
        """Remember why the attempt that came furthest did not match."""
        if len(self.nodes) > self.reached:
            self.reached, self.near_miss = len(self.nodes), reason


class Pattern:
    """Something that a value can match."""

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        """Yield once for every way in which the value matches, with the bindings in `state`."""
        raise NotImplementedError

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        """The operators that can have computed a matching value; None: any, or none at all."""
        return _ANYTHING

    def parts(self) -> Sequence[Pattern]:
        """Return the patterns directly below this one."""
        return ()

    def admits(self, op_type: str, makers: Sequence[str | None]) -> bool:  # noqa: ARG002
        """Tell whether a node may match whose inputs are made by these operators (None: by none).

        It may say yes where nothing matches, never no where something does.
        """
        return True

    def names(self) -> frozenset[str]:
        """Return every name that a match may bind."""
        return frozenset().union(*(part.names() for part in self.parts()))

    @functools.cached_property
    def names_numbers(self) -> bool:
        """Tell whether a number is among the patterns directly below, alternatives included."""
        choices = (part.parts() if isinstance(part, AnyOf) else (part,) for part in self.parts())
        return any(isinstance(part, (Scalar, AnyOf)) for some in choices for part in some)

    @property
    def levels(self) -> int:
        """The number of nodes, one above the other, that this pattern itself stands for."""
        return 0

    @functools.cached_property
    def depth(self) -> int:
        """The number of nodes on the longest way from the root to a leaf."""
        return self.levels + max((part.depth for part in self.parts()), default=0)

    def __add__(self, other: Operand) -> Pattern:
        return _operator("Add", self, other)

    def __radd__(self, other: Operand) -> Pattern:
        return _operator("Add", other, self)

    def __sub__(self, other: Operand) -> Pattern:
        return _operator("Sub", self, other)

    def __rsub__(self, other: Operand) -> Pattern:
        return _operator("Sub", other, self)

    def __mul__(self, other: Operand) -> Pattern:
        return _operator("Mul", self, other)

    def __rmul__(self, other: Operand) -> Pattern:
        return _operator("Mul", other, self)

    def __truediv__(self, other: Operand) -> Pattern:
        return _operator("Div", self, other)

    def __rtruediv__(self, other: Operand) -> Pattern:
        return _operator("Div", other, self)

    def __pow__(self, other: Operand) -> Pattern:
        return _operator("Pow", self, other)

    def __or__(self, other: Pattern) -> Pattern:
        return AnyOf((self, other))


Operand = Pattern | float | int | None


def _operator(op_type: str, left: Operand, right: Operand) -> Pattern:
    return OpPattern(op_type, (lift(left), lift(right)), {})


def lift(operand: Operand) -> Pattern:
    """Turn a number into the pattern that matches it, and None into 'no input here'."""
    if operand is None:
        return Absent()
    return operand if isinstance(operand, Pattern) else Scalar(float(operand))


@dataclass(frozen=True, eq=False)
class Absent(Pattern):
    """Matches an optional input that is not there."""

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:  # noqa: ARG002
        if value is None:
            yield


@dataclass(frozen=True, eq=False)
class Var(Pattern):
    """Matches any value and binds it; with `optional`, also an input that is not there (None)."""

    name: str
    optional: bool = False

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        if value is None:
            if self.optional:
                yield
            return
        new = state.bind(self.name, value)
        if new is None:
            state.miss(f"'{value.name}' is not the value that {self.name} stands for elsewhere")
            return
        yield
        if new:
            del state.bound[self.name]

    def names(self) -> frozenset[str]:
        return frozenset({self.name})


@dataclass(frozen=True, eq=False)
class Const(Pattern):
    """Matches a constant; the rule's build function gets its array (half precision as float32).

    With a `default`, an input that is not there matches too and the array is that number.
    """

    name: str
    default: float | None = None

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        if value is None:
            if self.default is not None:
                yield
            return
        if not facts.is_constant(value):
            if state.tracing:
                why = "can be overridden by the caller" if value.is_initializer() else "is computed"
                state.miss(f"'{value.name}' should be a constant but {why}")
            return
        new = state.bind(self.name, value)
        if new is None:
            return
        yield
        if new:
            del state.bound[self.name]

    def names(self) -> frozenset[str]:
        return frozenset({self.name})


@dataclass(frozen=True, eq=False)
class Scalar(Pattern):
    """Matches a constant of one element that is `number`, up to the rounding of its element type.

    Half precision's √2 is off by 0.01 %; single precision may be off by a few of its last bits.
    """

    number: float

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        found = facts.scalar(value)
        if found is None:
            return
        tolerance = _TOLERANCES.get(facts.dtype(value) or ir.DataType.FLOAT, 1e-6)
        if math.isclose(found, self.number, rel_tol=tolerance, abs_tol=1e-12):
            yield
        elif state.tracing:
            state.miss(f"the constant is {found:.6g} where {self.number:.6g} is expected")


@dataclass(frozen=True, eq=False)
class AnyOf(Pattern):
    """Matches what one of its choices matches, tried in order."""

    choices: tuple[Pattern, ...]

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        for choice in self.choices:
            if could_match(choice, value):
                yield from choice.match(value, state)

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        return _union(choice.roots for choice in self.choices)

    def parts(self) -> Sequence[Pattern]:
        return self.choices

    def admits(self, op_type: str, makers: Sequence[str | None]) -> bool:
        return any(choice.admits(op_type, makers) for choice in self.choices)


@dataclass(frozen=True, eq=False)
class Unless(Pattern):
    """Matches what its pattern matches and its exception does not."""

    pattern: Pattern
    exception: Pattern

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        for _ in self.pattern.match(value, state):
            apart = State(opsets=state.opsets)
            if any(True for _ in self.exception.match(value, apart)):
                state.miss("it is spelt as it should be already")
                return
            yield

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        return self.pattern.roots

    def parts(self) -> Sequence[Pattern]:
        return (self.pattern,)

    def admits(self, op_type: str, makers: Sequence[str | None]) -> bool:
        return self.pattern.admits(op_type, makers)


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
        return any(all(map(_makes, self.inputs, order)) for order in orders)

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
        return all(any(_makes(part, maker) for maker in makers) for part in self.operands)

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
    if inner and len(node.outputs[0].uses()) != 1:
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


def could_match(pattern: Pattern, value: ir.Value | None) -> bool:
    """Tell cheaply whether a match is not ruled out by the operator that made the value."""
    roots = pattern.roots
    if roots is None:
        return True
    node = None if value is None else value.producer()
    return node is not None and node.op_type in roots


def _makes(pattern: Pattern, maker: str | None) -> bool:
    return pattern.roots is None or maker in pattern.roots


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


def _union(sets: Iterator[frozenset[str] | None]) -> frozenset[str] | None:
    found: set[str] = set()
    for some in sets:
        if some is None:
            return None
        found |= some
    return frozenset(found)


class _Operators:
    """Makes patterns of nodes: `op.Conv(x, w)`, `op.of('com.microsoft').Gelu(x)`."""

    def __init__(self, domain: str = "") -> None:
        self._domain = domain

    def of(self, domain: str) -> _Operators:
        """Return the operators of another domain."""
        return _Operators(domain)

    def __getattr__(self, op_type: str) -> Callable[..., Pattern]:
        if op_type.startswith("_"):
            raise AttributeError(op_type)

        def make(
            *inputs: Operand | EllipsisType,
            bind: str | None = None,
            shared: bool = False,
            **attributes: Any,
        ) -> OpPattern:
            wanted = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
            more = inputs[-1:] == (...,)
            given = tuple(lift(item) for item in inputs if not isinstance(item, EllipsisType))
            kind = OpPattern if given else AnyInputs
            return kind(op_type, given, wanted, bind, self._domain, shared, more)

        return make


op = _Operators()


def var(name: str, *, optional: bool = False) -> Var:
    """Make a pattern that matches any value and binds it under `name`."""
    return Var(name, optional)


def variables(names: str) -> list[Var]:
    """Make several `var` at once from names with spaces in between."""
    return [Var(name) for name in names.split()]


def const(name: str, default: float | None = None) -> Const:
    """Make a pattern that matches a constant and binds its array under `name`."""
    return Const(name, default)


def consts(names: str) -> list[Const]:
    """Make several `const` at once from names with spaces in between."""
    return [Const(name) for name in names.split()]


def product(*operands: Operand) -> Chain:
    """Match the product of the operands, in whatever order and grouping the Mul nodes stand."""
    return Chain("Mul", tuple(map(lift, operands)))


def total(*operands: Operand) -> Chain:
    """Match the sum of the operands, in whatever order and grouping the Add nodes stand."""
    return Chain("Add", tuple(map(lift, operands)))


def unless(pattern: Pattern, exception: Pattern) -> Unless:
    """Match what `pattern` matches, except what `exception` matches too: a spelling to be kept."""
    return Unless(pattern, exception)
