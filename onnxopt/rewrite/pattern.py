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

from collections.abc import Callable
from types import EllipsisType
from typing import Any

from onnxopt.rewrite.nodes import COMMUTATIVE, AnyInputs, Chain, OpPattern
from onnxopt.rewrite.values import (
    AnyOf,
    Const,
    Operand,
    Pattern,
    State,
    Unless,
    Var,
    could_match,
    lift,
)

__all__ = [
    "COMMUTATIVE",
    "AnyOf",
    "Const",
    "Pattern",
    "State",
    "const",
    "consts",
    "could_match",
    "op",
    "product",
    "total",
    "unless",
    "var",
    "variables",
]


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
