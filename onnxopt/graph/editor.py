"""The one hand that mutates a graph: it names, inserts, replaces, erases, and remembers who asked.

Rules and passes never touch nodes themselves. The editor keeps what a model's users rely on (the
names, types and order of inputs and outputs), detaches what a removed node's nested graphs had
captured, and writes the name of the rule into the metadata of each node that it inserts.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.spill import spill_of

RULE_KEY = "onnxopt.rule"
"""Key of the node metadata that names the rule which made the node."""

_Values = Sequence[ir.Value | None]


class Editor:
    """Mutates one model; several passes may share it.

    `inserted` and `reread` are told of every new node and of every node one of whose inputs has
    changed: a rewriter puts them on its worklist.
    """

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.rule = ""
        self._listeners: list[Callable[[ir.Node], None]] = []
        self._values: Counter[str] = Counter()
        self._nodes: Counter[str] = Counter()
        self._numbers: dict[str, int] = {}
        self._opsets: dict[ir.Graph, dict[str, int]] = {}
        self._function_graphs: set[ir.Graph] = set()
        self._learn()

    def _learn(self) -> None:
        for graph, opsets in facts.scopes(self.model):
            self._opsets[graph] = opsets
            if opsets is not self.model.opset_imports:
                self._function_graphs.add(graph)
            self._values.update(graph.initializers.keys() - {v.name for v in graph.inputs})
            self._values.update(value.name or "" for value in graph.inputs)
            for node in graph:
                self._nodes[node.name or ""] += 1
                self._values.update(value.name or "" for value in node.outputs)

    def opset(self, graph: ir.Graph | None, domain: str = "") -> int:
        """Return the version of an operator set in force in a graph; 0 where it is not imported."""
        opsets = self.model.opset_imports
        if graph is not None:
            opsets = self._opsets.get(graph, opsets)
        return opsets.get(domain, 0)

    def opsets_of(self, graph: ir.Graph) -> dict[str, int]:
        """Return the operator sets in force in a graph, by domain."""
        return self._opsets.get(graph, self.model.opset_imports)

    def import_opset(self, graph: ir.Graph, domain: str, version: int = 1) -> None:
        """Make sure that an operator domain may be used in a graph."""
        self._opsets.get(graph, self.model.opset_imports).setdefault(domain, version)

    def fresh(self, base: str) -> str:
        """Return a name that nothing in the model bears yet, close to `base`."""
        name = base = base or "value"
        while name in self._values or name in self._nodes:
            number = self._numbers[base] = self._numbers.get(base, 0) + 1
            name = f"{base}_{number}"
        self._values[name] += 1
        return name

    @contextlib.contextmanager
    def on_change(self, listener: Callable[[ir.Node], None]) -> Iterator[None]:
        """Call `listener` with each node that is inserted or that reads a new value."""
        self._listeners.append(listener)
        try:
            yield
        finally:
            self._listeners.remove(listener)

    @contextlib.contextmanager
    def on_behalf_of(self, rule: str) -> Iterator[None]:
        """Credit the nodes that are inserted meanwhile to `rule`."""
        before, self.rule = self.rule, rule
        try:
            yield
        finally:
            self.rule = before

    def holds_initializers(self, graph: ir.Graph) -> bool:
        """Tell whether a graph may have initializers; the body of a function may not."""
        return graph not in self._function_graphs

    def constant(
        self, content: np.ndarray[Any, Any] | ir.TensorProtocol, name: str, before: ir.Node
    ) -> ir.Value:
        """Add a constant under a fresh name, visible to `before`.

        It becomes an initializer of the node's graph, or, inside a function (which has none), a
        Constant node in front of `before`.
        """
        value = constant_value(content)
        if self.holds_initializers(graph_of(before)):
            self.adopt(value, name, before)
            return value
        node = constant_node(value)
        self.insert([node], before)
        return node.outputs[0]

    def adopt(self, value: ir.Value, name: str, before: ir.Node) -> None:
        """Make a free-standing constant an initializer of the graph that `before` stands in."""
        assert value.const_value is not None
        value.name = self.fresh(name)
        value.const_value = spill_of(self.model).keep(value.const_value)
        graph_of(before).register_initializer(value)

    def insert(self, nodes: Sequence[ir.Node], before: ir.Node) -> None:
        """Insert nodes in front of `before`, named and credited to the current rule."""
        self._name(nodes, before)
        graph_of(before).insert_before(before, nodes)
        for node in nodes:
            self._tell(node)

    def insert_after(self, nodes: Sequence[ir.Node], after: ir.Node) -> None:
        """Insert nodes behind `after`, named and credited to the current rule."""
        self._name(nodes, after)
        graph_of(after).insert_after(after, nodes)
        for node in nodes:
            self._tell(node)

    def _name(self, nodes: Sequence[ir.Node], beside: ir.Node) -> None:
        for node in nodes:
            if not node.name:
                node.name = self.fresh(f"{beside.name or beside.op_type}/{node.op_type}")
            for value in node.outputs:
                if not value.name:
                    value.name = self.fresh(f"{node.name}_output")
            if self.rule:
                node.metadata_props[RULE_KEY] = self.rule

    def forwardable(self, old: ir.Value, new: ir.Value) -> bool:
        """Tell whether readers of `old` can read `new` without an Identity in between.

        Where `old` is a graph output, `new` has to take over its name: it must be computed in the
        same graph and be no output itself.
        """
        if not old.is_graph_output():
            return True
        node, maker = old.producer(), new.producer()
        return (
            node is not None
            and maker is not None
            and maker.graph is node.graph
            and not new.is_graph_output()
        )

    def replace(self, old: ir.Value, new: ir.Value, *, named: bool = False) -> None:
        """Let every reader of `old` read `new`; a graph output keeps its name, type and shape.

        `old` must have a producer or be no graph output; it is left without readers, for `erase`
        to take away. With `named`, `new` goes by the name of `old` from now on.
        """
        if old is new:
            return
        if not self.forwardable(old, new):
            node = old.producer()
            assert node is not None
            identity = ir.node("Identity", [new])
            identity.outputs[0].name = self.fresh(f"{old.name}_kept")
            self.insert([identity], node)
            new = identity.outputs[0]
        self._take_over(old, new, named=named)
        readers = [use.node for use in old.uses()]
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        for node in readers:
            self._tell(node)

    def _take_over(self, old: ir.Value, new: ir.Value, *, named: bool) -> None:
        output = old.is_graph_output()
        if new.type is None or (output and old.type is not None):
            new.type = old.type
        if new.shape is None or output:
            new.shape = old.shape
        # A new value that stands in for another keeps its name: people look for it.
        maker = new.producer()
        named_here = maker is not None and RULE_KEY in maker.metadata_props and not facts.uses(new)
        if output or named or named_here:
            name = old.name
            old.name = self.fresh(f"{name}_before")
            new.name = name

    def erase(self, node: ir.Node) -> int:
        """Remove a node that nobody reads, and whatever only it had read; return how many went."""
        gone, stack = 0, [node]
        while stack:
            current = stack.pop()
            if current.graph is None or not is_dead(current):
                continue
            read = self._detach(current)
            current.graph.remove(current)
            gone += 1
            for value in read:
                maker = value.producer()
                if maker is not None:
                    stack.append(maker)
                else:
                    self.drop_initializer(value)
        return gone

    def sweep(self, graph: ir.Graph) -> int:
        """Remove the nodes of a graph that nobody reads, and what only they had read."""
        return sum(self.erase(node) for node in reversed(graph) if is_dead(node))

    def _detach(self, node: ir.Node) -> list[ir.Value]:
        """Stop a node, and all nodes of its nested graphs, from reading; return what was read."""
        read: list[ir.Value] = []
        for graph in facts.nested_graphs(node):
            for inner in facts.graphs_within(graph):
                read.extend(value for value in inner.outputs if value.graph is not inner)
                inner.outputs.clear()
                for nested in inner:
                    read.extend(_release(nested))
        read.extend(_release(node))
        return read

    def drop_initializer(self, value: ir.Value) -> bool:
        """Remove an initializer that nobody reads and no caller can see; tell whether it went."""
        graph = value.graph
        if graph is None or not value.is_initializer() or facts.uses(value):
            return False
        if value.is_graph_input() or value.is_graph_output():
            return False
        return graph.initializers.pop(value.name or "", None) is not None

    def splice(self, graph: ir.Graph, before: ir.Node, prefix: str = "") -> list[ir.Value]:
        """Move all that a nested graph, or a copy of a function, holds in front of `before`.

        Returns what its outputs were. Names that something else may bear become fresh ones; with
        `prefix`, all of them do.
        """
        outputs = list(graph.outputs)
        graph.outputs.clear()
        target = graph_of(before)
        for value in list(graph.initializers.values()):
            if self.holds_initializers(target):
                self.hoist(value, target, prefix)
            else:
                held = constant_node(value)
                self.insert([held], before)
                self.replace(value, held.outputs[0])
                outputs = [held.outputs[0] if output is value else output for output in outputs]
        nodes = list(graph)
        graph.remove(nodes)
        for node in nodes:
            self._rename(node, prefix)
        target.insert_before(before, nodes)
        for node in nodes:
            self._tell(node)
        return outputs

    def hoist(self, value: ir.Value, graph: ir.Graph, prefix: str = "") -> None:
        """Move an initializer, which is no output, to a graph around the one that holds it."""
        assert value.graph is not None
        value.graph.initializers.pop(value.name or "")
        self._rename_value(value, prefix)
        graph.register_initializer(value)

    def _rename(self, node: ir.Node, prefix: str) -> None:
        """Give a node that moves outwards, and its outputs, names that are theirs alone.

        What is nested in the node stays where it was, except in a copy, which has a prefix.
        """
        if prefix or (node.name and self._nodes[node.name] > 1):
            node.name = self.fresh(prefix + (node.name or node.op_type))
        for value in node.outputs:
            self._rename_value(value, prefix)
        for graph in facts.nested_graphs(node) if prefix else ():
            for value in (*graph.inputs, *graph.initializers.values()):
                self._rename_value(value, prefix)
            for inner in graph:
                self._rename(inner, prefix)

    def _rename_value(self, value: ir.Value, prefix: str) -> None:
        if value.name and (prefix or self._values[value.name] > 1):
            value.name = self.fresh(prefix + value.name)

    def rebuild(self, node: ir.Node, *, inputs: _Values, outputs: _Values) -> ir.Node:
        """Put a node with other inputs and other outputs in the place of a node.

        The outputs that are left out must have no readers; the others keep their names. None is an
        output that the node did not have.
        """
        made = ir.Node(
            node.domain,
            node.op_type,
            inputs,
            node.attributes,
            overload=node.overload,
            num_outputs=len(outputs),
            name=node.name,
            doc_string=node.doc_string,
            metadata_props=dict(node.metadata_props),
        )
        for old, new in zip(outputs, made.outputs, strict=True):
            new.name = "" if old is not None else self.fresh(f"{node.name}_output")
            new.metadata_props.update({} if old is None else old.metadata_props)
        graph_of(node).insert_before(node, made)
        for old, new in zip(outputs, made.outputs, strict=True):
            if old is not None:
                self.replace(old, new, named=True)
        # The nested graphs belong to the new node now: erasing the old one must not empty them.
        node.attributes.clear()
        self.erase(node)
        self._tell(made)
        return made

    def omit(self, output: ir.Value) -> None:
        """Leave out an optional output that nobody reads."""
        node = output.producer()
        assert node is not None
        assert not output.uses()
        output.name = ""
        kept = max((i for i, value in enumerate(node.outputs, 1) if value.name), default=1)
        node.resize_outputs(kept)

    def set_input(self, node: ir.Node, index: int, value: ir.Value | None) -> None:
        """Let one input of a node read another value; inputs that it did not have are added."""
        if index >= len(node.inputs):
            node.resize_inputs(index + 1)
        node.replace_input_with(index, value)
        self._tell(node)

    def set_attribute(self, node: ir.Node, name: str, value: Any) -> None:
        """Set or, with None, remove an attribute."""
        if value is None:
            node.attributes.pop(name, None)
        else:
            node.attributes[name] = ir.convenience.convert_attribute(name, value)
        self._tell(node)

    def _tell(self, node: ir.Node) -> None:
        for listener in self._listeners:
            listener(node)


def constant_value(content: np.ndarray[Any, Any] | ir.TensorProtocol) -> ir.Value:
    """Make a nameless value that holds a constant and belongs to no graph yet."""
    if isinstance(content, np.ndarray):
        whole = np.require(content, requirements=["C"])
        # ir.tensor looks at its argument from all sides first: for strings only that is wanted.
        held: ir.TensorProtocol = (
            ir.tensor(whole) if whole.dtype.kind in "OSU" else ir.Tensor(whole)
        )
    else:
        held = content
    value = ir.Value(name=None, const_value=held)
    value.shape = ir.Shape(held.shape.numpy())
    value.type = ir.TensorType(held.dtype)
    return value


def constant_node(value: ir.Value) -> ir.Node:
    """Make a Constant node that holds what a free-standing constant holds."""
    assert value.const_value is not None
    node = ir.node("Constant", [], {"value": value.const_value})
    node.outputs[0].shape, node.outputs[0].type = value.shape, value.type
    return node


def is_dead(node: ir.Node) -> bool:
    """Tell whether no node and no graph output reads anything that the node computes.

    A node without any output is never dead: whoever made such an operator wants its side effect.
    """
    if not node.outputs:
        return False
    return not any(facts.uses(value) or value.is_graph_output() for value in node.outputs)


def _release(node: ir.Node) -> Iterable[ir.Value]:
    read = [value for value in node.inputs if value is not None]
    for index in range(len(node.inputs)):
        node.replace_input_with(index, None)
    return read


def graph_of(node: ir.Node) -> ir.Graph:
    """Return the graph that a node stands in; for a function's node, the function's graph."""
    graph = node.graph
    assert graph is not None, f"node {node.name!r} is in no graph"
    return graph if isinstance(graph, ir.Graph) else graph.graph
