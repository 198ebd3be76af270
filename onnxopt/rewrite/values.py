"""Patterns of values: names, constants, numbers, alternatives and exceptions."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir

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


CONSTANT = "Constant"
"""The origin of a value that is the same at every run, an initializer or a Constant node's."""


def origin(value: ir.Value | None) -> str | None:
    """Return the operator that made a value, `CONSTANT`, "" for an input, None where none is."""
    if value is None:
        return None
    maker = value.producer()
    if maker is not None:
        return maker.op_type
    return CONSTANT if value.const_value is not None and not value.is_graph_input() else ""


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
        """Tell whether a node may match whose inputs are of these origins (see `origin`).

        It may say yes where nothing matches, never no where something does.
        """
        return True

    def takes(self, maker: str | None) -> bool:
        """Tell whether a value of this origin may match (see `origin`)."""
        return self.roots is None or maker in self.roots

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
    from onnxopt.rewrite.nodes import OpPattern  # patterns of nodes are made of patterns of values

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

    def takes(self, maker: str | None) -> bool:
        return maker == CONSTANT or (maker is None and self.default is not None)

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

    def takes(self, maker: str | None) -> bool:
        return maker == CONSTANT


@dataclass(frozen=True, eq=False)
class AnyOf(Pattern):
    """Matches what one of its choices matches, tried in order."""

    choices: tuple[Pattern, ...]

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        node = None if value is None else value.producer()
        maker = None if node is None else node.op_type
        if maker not in self._by_maker:
            self._by_maker[maker] = [choice for choice in self.choices if made_by(choice, maker)]
        for choice in self._by_maker[maker]:
            yield from choice.match(value, state)

    def __or__(self, other: Pattern) -> Pattern:
        more = other.choices if isinstance(other, AnyOf) else (other,)
        return AnyOf((*self.choices, *more))

    @functools.cached_property
    def _by_maker(self) -> dict[str | None, list[Pattern]]:
        """The choices that the operator which made a value does not rule out, once asked for."""
        return {}

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        return _union(choice.roots for choice in self.choices)

    def parts(self) -> Sequence[Pattern]:
        return self.choices

    def admits(self, op_type: str, makers: Sequence[str | None]) -> bool:
        return any(choice.admits(op_type, makers) for choice in self.choices)

    def takes(self, maker: str | None) -> bool:
        return any(choice.takes(maker) for choice in self.choices)


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

    def takes(self, maker: str | None) -> bool:
        return self.pattern.takes(maker)


def could_match(pattern: Pattern, value: ir.Value | None) -> bool:
    """Tell cheaply whether a match is not ruled out by the operator that made the value."""
    roots = pattern.roots
    if roots is None:
        return True
    node = None if value is None else value.producer()
    return node is not None and node.op_type in roots


def made_by(pattern: Pattern, maker: str | None) -> bool:
    """Tell whether a match is not ruled out for what this operator makes (None: no operator)."""
    return pattern.roots is None or maker in pattern.roots


def _union(sets: Iterator[frozenset[str] | None]) -> frozenset[str] | None:
    found: set[str] = set()
    for some in sets:
        if some is None:
            return None
        found |= some
    return frozenset(found)
