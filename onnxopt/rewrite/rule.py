"""A rule: a pattern, the function that builds its replacement, and where it may be used.

    @rule(product(x, 0.5, 1 + op.Erf(x / sqrt(2))), since=20)
    def fuse_erf_gelu(new, x):
        '''x·½·(1 + erf(x/√2)) becomes Gelu(x).'''
        return new.Gelu(x)

The function's first parameter is the `Builder`, the others are names that the pattern binds: a
`var` comes as the value, a `const` as its array, a node as the node. It returns the value that
stands in for the root's output (a tuple for several outputs; a dict from value to value where nodes
beside the root are replaced too), or None, or calls `new.refuse` with the reason why this match is
none. It builds, it never changes the graph: the engine does.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import ml_dtypes
import numpy as np

from onnxopt.config import TARGETS, Target
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor, constant_node, constant_value, graph_of
from onnxopt.rewrite.pattern import Const, Pattern

_ELEMENTWISE_INT64 = frozenset({"Shape", "Size", "NonZero", "ArgMax", "ArgMin"})
_PREDICATES = frozenset({"Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "Not"})


class Refusal(Exception):  # noqa: N818 - no error: a rule says that a match is none
    """Raised by a build function, through `new.refuse`, when what matched is not its business."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One rewrite: `pattern` becomes what `build` returns.

    `since` and `until` bound the standard operator set (both inclusive). `targets` names the
    targets it is meant for; empty means all. `unsure` names those of them on which it pays only
    for some models: there it is used where the result is measured, and only then. `also` names
    bound inner nodes that other nodes may read: `build` then returns a replacement for their
    first output too, in that order, after those of the root. `summary` is the first line of the
    build function's docstring.
    """

    name: str
    pattern: Pattern
    build: Callable[..., Any]
    since: int = 1
    until: int | None = None
    targets: frozenset[str] = frozenset()
    unsure: frozenset[str] = frozenset()
    also: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    summary: str = ""

    @functools.cached_property
    def constants(self) -> dict[str, float | None]:
        """The names that stand for arrays, with the number that an absent input means."""
        found: dict[str, float | None] = {}
        stack: list[Pattern] = [self.pattern]
        while stack:
            pattern = stack.pop()
            if isinstance(pattern, Const):
                found[pattern.name] = pattern.default
            stack.extend(pattern.parts())
        return found

    def suits(self, opset: int, target: Target) -> bool:
        """Tell whether the rule may be used with an operator set on a target."""
        in_window = self.since <= opset and (self.until is None or opset <= self.until)
        return in_window and (not self.targets or target.name in self.targets)


def rule(
    pattern: Pattern,
    *,
    since: int = 1,
    until: int | None = None,
    targets: tuple[str, ...] = (),
    unsure: tuple[str, ...] = (),
    also: tuple[str, ...] = (),
) -> Callable[[Callable[..., Any]], Rule]:
    """Make a rule of a build function; parameters that the pattern does not bind are an error."""

    def make(build: Callable[..., Any]) -> Rule:
        name = build.__name__
        wants = tuple(inspect.signature(build).parameters)[1:]
        unknown = {*wants, *also} - pattern.names()
        if unknown:
            raise TypeError(f"rule {name}: its pattern binds no {', '.join(sorted(unknown))}")
        if unknown := {*targets, *unsure} - set(TARGETS):
            raise TypeError(f"rule {name}: no target is called {', '.join(sorted(unknown))}")
        if targets and (unknown := set(unsure) - set(targets)):
            raise TypeError(f"rule {name}: it is not for {', '.join(sorted(unknown))} at all")
        if pattern.roots is None:
            raise TypeError(f"rule {name}: its root has to be an operator")
        summary = (inspect.getdoc(build) or "").split("\n", 1)[0]
        if not summary:
            raise TypeError(f"rule {name}: say in a docstring what becomes what")
        return Rule(
            name=name,
            pattern=pattern,
            build=build,
            since=since,
            until=until,
            targets=frozenset(targets),
            unsure=frozenset(unsure),
            also=also,
            wants=wants,
            summary=summary,
        )

    return make


class Builder:
    """Collects the nodes of a replacement; `new.Conv(x, w, pads=[1, 1])` makes one.

    Inputs are values, arrays (they become initializers; floating-point arrays take the element
    type of the root's output, so that half precision stays half precision) and None for an input
    that is left out. Attributes are Python values or onnx_ir attributes. Nothing enters the graph
    before the engine takes the result.
    """

    def __init__(self, editor: Editor, root: ir.Node, target: Target) -> None:
        self.editor = editor
        self.root = root
        self.target = target
        self.opset = editor.opset(graph_of(root))
        self.nodes: list[ir.Node] = []
        self.constants: list[ir.Value] = []
        self._domain = ""

    def of(self, domain: str, version: int = 1) -> _Domain:
        """Return a builder of nodes of another domain: `new.of("com.microsoft").Gelu(x)`."""
        assert domain in self.target.domains, f"target {self.target.name} has no domain {domain}"
        return _Domain(self, domain, version)

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        if op_type.startswith("_") or not op_type[:1].isupper():
            raise AttributeError(op_type)
        return lambda *inputs, **options: self.node(op_type, *inputs, **options)

    def node(
        self,
        op_type: str,
        *inputs: Any,
        domain: str = "",
        outputs: int = 1,
        **attributes: Any,
    ) -> Any:
        """Make a node; return its output, or a tuple where there are several."""
        given = {name: value for name, value in attributes.items() if value is not None}
        operands = [self._input(item) for item in inputs]
        # onnxruntime 1.32 crashes on a LayerNormalization whose bias is there but has no name.
        while operands and operands[-1] is None:
            operands.pop()
        made = ir.node(
            op_type,
            operands,
            given or None,
            domain=domain,
            num_outputs=outputs,
        )
        self.nodes.append(made)
        _guess_type(made)
        return made.outputs[0] if outputs == 1 else tuple(made.outputs)

    def with_axes(self, op_type: str, x: ir.Value, axes: Sequence[int], **options: Any) -> Any:
        """Make a reduction, Squeeze or Unsqueeze; its axes go where the operator set wants them.

        They were an attribute in old operator sets and are an input in new ones.
        """
        if facts.defines_attribute(op_type, "", self.opset, "axes"):
            return self.node(op_type, x, axes=list(axes), **options)
        return self.node(op_type, x, np.array(axes, np.int64), **options)

    def constant(self, content: Any, dtype: ir.DataType | None = None) -> ir.Value:
        """Make a constant of an array; floating-point ones in the root's type unless told."""
        array = np.asarray(content)
        wanted = dtype or (facts.dtype(self.root.outputs[0]) if _is_floating(array) else None)
        if wanted is not None and _is_floating(array) and wanted.is_floating_point():
            array = array.astype(wanted.numpy(), copy=False)
        elif dtype is not None:
            array = array.astype(dtype.numpy())
        value = constant_value(np.asarray(array))
        if not self.editor.holds_initializers(graph_of(self.root)):
            node = constant_node(value)
            self.nodes.append(node)
            return node.outputs[0]
        self.constants.append(value)
        return value

    def attribute(self, node: ir.Node, name: str) -> Any:
        """Return an attribute of a matched node, or its default in the operator set in force."""
        version = self.opset
        if node.domain:
            version = self.editor.opset(graph_of(self.root), node.domain)
        return facts.attribute(node, name, version)

    def refuse(self, reason: str) -> NoReturn:
        """Leave this match alone, and say why."""
        raise Refusal(reason)

    def discard(self) -> None:
        """Take back the nodes that were made: they stop reading what they read."""
        for node in self.nodes:
            _detach(node)

    def keep_only(self, wanted: Sequence[ir.Value]) -> None:
        """Take back the nodes on which none of the values `wanted` depends."""
        kept = []
        for node in reversed(self.nodes):
            if any(value.uses() or value in wanted for value in node.outputs):
                kept.append(node)
            else:
                _detach(node)
        self.nodes = kept[::-1]

    def _input(self, item: Any) -> ir.Value | None:
        if item is None or isinstance(item, ir.Value):
            return item
        return self.constant(item)


@dataclass(frozen=True)
class _Domain:
    builder: Builder
    domain: str
    version: int

    def __getattr__(self, op_type: str) -> Callable[..., Any]:
        def make(*inputs: Any, **options: Any) -> Any:
            self.builder.editor.import_opset(graph_of(self.builder.root), self.domain, self.version)
            return self.builder.node(op_type, *inputs, domain=self.domain, **options)

        return make


def _detach(node: ir.Node) -> None:
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)


def _guess_type(node: ir.Node) -> None:
    """Give the first output the element type that the operator most probably has.

    It only has to serve the rules that run before the next shape inference; the root's output
    takes over the exact type of the value that it replaces.
    """
    output = node.outputs[0]
    first = next(iter(node.inputs[node.op_type == "Where" :]), None)
    if node.op_type == "Cast":
        output.type = ir.TensorType(ir.DataType(node.attributes.get_int("to", 1)))
    elif node.op_type in _ELEMENTWISE_INT64:
        output.type = ir.TensorType(ir.DataType.INT64)
    elif node.op_type in _PREDICATES:
        output.type = ir.TensorType(ir.DataType.BOOL)
    elif first is not None and facts.dtype(first) is not None:
        output.type = ir.TensorType(facts.dtype(first) or ir.DataType.FLOAT)


def _is_floating(array: np.ndarray[Any, Any]) -> bool:
    return bool(np.issubdtype(array.dtype, np.floating)) or array.dtype == ml_dtypes.bfloat16
