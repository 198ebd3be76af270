"""The rewrite engine: rules, found by the operator at their root, until none applies.

A worklist holds the nodes that may be the root of a match. A rewrite puts back on it what it
inserted, what that reads, and what reads it up to the depth of the deepest pattern: the cost grows
with the nodes that can match, not with rules × nodes.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from onnxopt.config import Target
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor, graph_of
from onnxopt.rewrite.pattern import State
from onnxopt.rewrite.rule import Builder, Refusal, Rule
from onnxopt.rewrite.values import origin

_REASONS_PER_RULE = 5
_NEAR_ENOUGH = 2  # a near miss is worth telling from this many matched nodes on
_READERS_AT_ONCE = 64


@dataclass(kw_only=True)
class Outcome:
    """What a run of the engine did.

    `done` counts rewrites by rule; `refused` says where a rule matched, or almost, and why it left
    the graph alone; `crashed` names rules that raised, which were not used any further.
    """

    done: Counter[str] = field(default_factory=Counter)
    refused: dict[str, list[str]] = field(default_factory=dict)
    crashed: dict[str, str] = field(default_factory=dict)

    def refuse(self, rule: Rule, node: ir.Node, reason: str) -> None:
        """Note a refusal; only the first few of each rule are kept."""
        reasons = self.refused.setdefault(rule.name, [])
        if len(reasons) < _REASONS_PER_RULE:
            reasons.append(f"{rule.name} at '{node.name}': {reason}")


def rewrite(
    editor: Editor, rules: Iterable[Rule], target: Target, *, tracing: bool = False
) -> Outcome:
    """Apply rules to every graph of a model until none fires; nested graphs and functions too.

    `tracing` also reports near misses: patterns of which at least two nodes matched.
    """
    return _Rewriter(editor, tuple(rules), target, tracing).run()


def fitting(editor: Editor, rules: Iterable[Rule], target: Target) -> set[str]:
    """Return the names of rules whose pattern is somewhere in the model, at whatever operator set.

    Nothing is rewritten; a rule may still refuse what its pattern found.
    """
    chosen = [rule for rule in rules if not rule.targets or target.name in rule.targets]
    rewriter = _Rewriter(editor, chosen, target, tracing=False)
    found: set[str] = set()
    for graph, _ in facts.scopes(editor.model):
        for node in graph:
            for rule in rewriter.by_root.get(node.op_type, ()):
                if rule.name not in found and rewriter.fits(node, rule):
                    found.add(rule.name)
    return found


class _Rewriter:
    """One run: the worklist, the rules by root, and what has been done."""

    def __init__(
        self, editor: Editor, rules: Sequence[Rule], target: Target, tracing: bool
    ) -> None:
        self.editor = editor
        self.target = target
        self.tracing = tracing
        self.outcome = Outcome()
        self.by_root: dict[str, list[Rule]] = {}
        for rule in rules:
            for op_type in sorted(rule.pattern.roots or ()):
                self.by_root.setdefault(op_type, []).append(rule)
        self.by_makers: dict[tuple[str | None, ...], list[Rule]] = {}
        self.reach = max((rule.pattern.depth for rule in rules), default=0)
        self.work: deque[ir.Node] = deque()
        self.queued: set[ir.Node] = set()
        self.unsorted: set[ir.Graph] = set()

    def run(self) -> Outcome:
        nodes = 0
        for graph, _ in facts.scopes(self.editor.model):
            for node in graph:
                nodes += 1
                self.push(node)
        allowance = 10 * nodes + 1000
        with self.editor.on_change(self.revisit):
            while self.work:
                node = self.work.popleft()
                self.queued.discard(node)
                if node.graph is not None and self.visit(node):
                    allowance -= 1
                    assert allowance > 0, f"rules undo each other: {self.outcome.done}"
        for graph in self.unsorted:
            graph.sort()
        return self.outcome

    def push(self, node: ir.Node) -> None:
        if node.op_type in self.by_root and node not in self.queued:
            self.queued.add(node)
            self.work.append(node)

    def revisit(self, node: ir.Node) -> None:
        """Queue a node, what it reads, and the nodes downstream whose match it may be part of."""
        for given in node.inputs:
            maker = None if given is None else given.producer()
            if maker is not None:
                self.push(maker)  # rules may look at who reads their root
        front, seen = [node], {node}
        for _ in range(self.reach):
            below: list[ir.Node] = []
            for current in front:
                self.push(current)
                for value in current.outputs:
                    uses = facts.uses(value)
                    if len(uses) <= _READERS_AT_ONCE:
                        below.extend(use.node for use in uses if use.node not in seen)
            seen.update(below)
            front = below

    def candidates(self, node: ir.Node) -> list[Rule]:
        """Return the rules that the operators of a node and of its inputs do not rule out."""
        if self.tracing:
            return self.by_root[node.op_type]
        key = (node.op_type, *map(origin, node.inputs))
        found = self.by_makers.get(key)
        if found is None:
            rules = self.by_root[node.op_type]
            found = [rule for rule in rules if rule.pattern.admits(node.op_type, key[1:])]
            self.by_makers[key] = found
        return found

    def visit(self, node: ir.Node) -> bool:
        graph = graph_of(node)
        opset = self.editor.opset(graph)
        for rule in self.candidates(node):
            if rule.name not in self.outcome.crashed and rule.suits(opset, self.target):
                try:
                    fired = self.attempt(node, rule)
                except Exception as error:  # noqa: BLE001 - a faulty rule must not cost the model
                    self.outcome.crashed[rule.name] = f"{type(error).__name__}: {error}"
                    continue
                if fired:
                    self.outcome.done[rule.name] += 1
                    return True
        return False

    def fits(self, root: ir.Node, rule: Rule) -> bool:
        """Tell whether a rule's pattern matches at a node, with nothing visible from outside."""
        state = State(opsets=self.editor.opsets_of(graph_of(root)))
        matches = rule.pattern.match(root.outputs[0], state)
        return any(not self.visible_from_outside(root, rule, state) for _ in matches)

    def attempt(self, root: ir.Node, rule: Rule) -> bool:
        """Try one rule at one node: match, build, replace."""
        opsets = self.editor.opsets_of(graph_of(root))
        state = State(opsets=opsets, tracing=self.tracing)
        for _ in rule.pattern.match(root.outputs[0], state):
            reason = self.visible_from_outside(root, rule, state)
            if reason:
                self.outcome.refuse(rule, root, reason)
                continue
            builder = Builder(self.editor, root, self.target)
            try:
                built = rule.build(builder, *(_argument(rule, state, name) for name in rule.wants))
            except Refusal as refusal:
                self.outcome.refuse(rule, root, str(refusal))
                built = None
            except Exception:
                builder.discard()
                raise
            if built is not None and self.commit(root, rule, state, builder, built):
                return True
            builder.discard()
        if self.tracing and state.reached >= _NEAR_ENOUGH:
            self.outcome.refuse(rule, root, state.near_miss)
        return False

    def visible_from_outside(self, root: ir.Node, rule: Rule, state: State) -> str:
        """Say which inner value somebody outside the match reads, or nothing."""
        exempt = {root, *(state.bound.get(name) for name in rule.also)}
        inside = set(state.nodes)
        for node in inside - exempt:
            for value in node.outputs:
                if value.is_graph_output():
                    return f"'{value.name}' is an output of the graph"
                readers = (use.node for use in facts.uses(value))
                outside = next((node for node in readers if node not in inside), None)
                if outside is not None:
                    return f"'{value.name}' is also read by '{outside.name}'"
        return ""

    def commit(self, root: ir.Node, rule: Rule, state: State, builder: Builder, built: Any) -> bool:
        """Put the replacement in the place of the match; False where that would gain nothing."""
        pairs = self.pairs(root, rule, state, built)
        if pairs is None:
            return False
        if root.op_type == "Identity" and not self.editor.forwardable(*pairs[0]):
            return False
        if not all(_types_agree(before, after) for before, after in pairs):
            self.outcome.refuse(rule, root, "the element type would change")
            return False
        builder.keep_only([after for _, after in pairs])
        with self.editor.on_behalf_of(rule.name):
            for number, value in enumerate(builder.constants):
                if value.uses():
                    self.editor.adopt(value, f"{root.name or root.op_type}/constant{number}", root)
            self.editor.insert(builder.nodes, root)
            for before, after in pairs:
                self.editor.replace(before, after)
        replaced = {before.producer(): None for before, _ in pairs}
        if len(replaced) > 1:
            self.unsorted.add(graph_of(root))
        for node in replaced:
            if node is not None:
                self.editor.erase(node)
        return True

    def pairs(
        self, root: ir.Node, rule: Rule, state: State, built: Any
    ) -> list[tuple[ir.Value, ir.Value]] | None:
        """Say which value is to stand in for which; None where somebody reads one left over."""
        if isinstance(built, dict):
            return list(built.items())
        new = built if isinstance(built, tuple) else (built,)
        also = [state.bound[name].outputs[0] for name in rule.also]
        old = [*root.outputs[: len(new) - len(also)], *also]
        rest = root.outputs[len(new) - len(also) :]
        if any(value.uses() or value.is_graph_output() for value in rest):
            self.outcome.refuse(rule, root, f"'{rest[0].name}' and its like are read too")
            return None
        return list(zip(old, new, strict=True))


def _argument(rule: Rule, state: State, name: str) -> Any:
    """Give a build function what a name stands for: a value, a node, or a constant's array."""
    found = state.bound.get(name)
    if name not in rule.constants:
        return found
    if found is None:
        default = rule.constants[name]
        return None if default is None else np.asarray(default, np.float32)
    array = facts.constant(found)
    assert array is not None
    half = array.dtype in (np.float16, ml_dtypes.bfloat16)
    return array.astype(np.float32) if half else array


def _types_agree(old: ir.Value, new: ir.Value) -> bool:
    before, after = facts.dtype(old), facts.dtype(new)
    return before is None or after is None or before == after
