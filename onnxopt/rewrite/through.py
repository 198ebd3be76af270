"""A pattern that looks through nodes which only hand on their first input, one behind the other."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import Pattern, State, could_match

_MOST = 4


@dataclass(frozen=True, eq=False)
class Through(Pattern):
    """Matches `inner` behind up to four nodes of the given operators, binding the nodes.

    They are bound as a tuple, the nearest to the root first; there may be none, unless `at_least`
    says how many. They belong to the match: nobody else may read what they compute.
    """

    op_types: frozenset[str]
    inner: Pattern
    bind: str
    at_least: int = 0

    def match(self, value: ir.Value | None, state: State) -> Iterator[None]:
        passed: list[ir.Node] = []
        while True:
            if len(passed) >= self.at_least and could_match(self.inner, value):
                yield from self._here(value, state, tuple(passed))
            node = None if value is None else value.producer()
            if node is None or not self._passes(node, state) or len(passed) == _MOST:
                break
            passed.append(node)
            state.nodes.append(node)
            value = node.inputs[0]
        if passed:
            del state.nodes[-len(passed) :]

    def _here(
        self, value: ir.Value | None, state: State, passed: tuple[ir.Node, ...]
    ) -> Iterator[None]:
        state.bound[self.bind] = passed
        yield from self.inner.match(value, state)
        del state.bound[self.bind]

    def _passes(self, node: ir.Node, state: State) -> bool:
        if node.op_type not in self.op_types or node.domain or len(node.outputs) != 1:
            return False
        if state.graph is None:
            state.graph = node.graph
        return bool(node.inputs) and node.graph is state.graph

    @functools.cached_property
    def roots(self) -> frozenset[str] | None:
        inner = self.inner.roots if self.at_least == 0 else frozenset()
        return None if inner is None else inner | self.op_types

    def parts(self) -> Sequence[Pattern]:
        return (self.inner,)

    def names(self) -> frozenset[str]:
        return super().names() | {self.bind}

    @property
    def levels(self) -> int:
        return _MOST
