"""Puts the bodies of model-local functions in the place of their calls.

Three kinds of functions stay: those whose body would mean something else under the model's operator
sets; those named like an operator that runtimes have a kernel for (onnxruntime runs its own Gelu,
whatever a function of that name says: the body is only there for those who lack it); and all of
them where calls within calls would make more nodes than any model has.
"""

from __future__ import annotations

import graphlib
import logging
from collections import Counter

import onnx

from onnxopt.config import OptimizeConfig
from onnxopt.errors import ModelError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor

NAME = "inline"
SUMMARY = "Puts the bodies of model-local functions in the place of their calls"

_MOST_NODES = 1_000_000
_KERNEL_DOMAINS = ("com.microsoft", "com.ms")
_GRAPHS = (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS)

Identifier = tuple[str, str, str]


def run(editor: Editor, config: OptimizeConfig) -> Counter[str]:  # noqa: ARG001
    """Inline calls in the main graph and all that is nested in it, then drop what nobody calls.

    Raises `ModelError` where functions call each other in a circle.
    """
    done: Counter[str] = Counter()
    model = editor.model
    if not model.functions:
        return done
    calls = {name: _calls(function.graph, model) for name, function in model.functions.items()}
    order = _order(calls)
    from_main = _calls(model.graph, model)
    if _size_in_full(model, calls, order, from_main) > _MOST_NODES:
        logging.getLogger(__name__).warning("functions not inlined: too many nodes would result")
        return done
    inlined = _choose(model, order)
    times = from_main + sum(calls.values(), Counter())
    work = [
        node
        for graph in facts.graphs_within(model.graph)
        for node in graph
        if node.op_identifier() in inlined
    ]
    while work:
        node = work.pop()
        name = node.op_identifier()
        if _can_be_bound(node, model.functions[name]):
            made = _expand(editor, node, model.functions[name], typed=times[name] == 1)
            work.extend(found for found in made if found.op_identifier() in inlined)
            done["inline_functions"] += 1
    done["remove_dead_functions"] += drop_unused_functions(editor)
    return +done


def drop_unused_functions(editor: Editor) -> int:
    """Remove the functions that nothing calls, and the imports of domains that only they had."""
    model = editor.model
    used: set[Identifier] = set()
    stack = list(_calls(model.graph, model))
    while stack:
        name = stack.pop()
        if name not in used:
            used.add(name)
            stack.extend(_calls(model.functions[name].graph, model))
    unused = [name for name in model.functions if name not in used]
    for name in unused:
        del model.functions[name]
    domains = {domain for domain, _, _ in unused} - {domain for domain, _, _ in used} - {""}
    if domains:
        graphs = facts.graphs_within(model.graph)
        domains -= {node.domain for graph in graphs for node in graph}
    for domain in domains:
        model.opset_imports.pop(domain, None)
    return len(unused)


def _calls(graph: ir.Graph, model: ir.Model) -> Counter[Identifier]:
    """Count the calls of functions in a graph and all that is nested in it."""
    names = (node.op_identifier() for inner in facts.graphs_within(graph) for node in inner)
    return Counter(name for name in names if name in model.functions)


def _order(calls: dict[Identifier, Counter[Identifier]]) -> list[Identifier]:
    """Sort functions so that each comes after those that it calls."""
    try:
        return list(graphlib.TopologicalSorter(calls).static_order())
    except graphlib.CycleError as error:
        circle = " → ".join(_title(name) for name in error.args[1])
        raise ModelError(
            f"functions call each other in a circle: {circle}",
            "ONNX has no recursion: export the model again",
        ) from None


def _title(name: Identifier) -> str:
    return "::".join(part for part in name if part)


def _size_in_full(
    model: ir.Model,
    calls: dict[Identifier, Counter[Identifier]],
    order: list[Identifier],
    from_main: Counter[Identifier],
) -> int:
    """Count the nodes that all calls together come to, calls within calls included."""
    sizes: dict[Identifier, int] = {}
    for name in order:
        own = sum(len(graph) for graph in facts.graphs_within(model.functions[name].graph))
        sizes[name] = own + sum(sizes[called] * times for called, times in calls[name].items())
    return sum(sizes[name] * times for name, times in from_main.items())


def _choose(model: ir.Model, order: list[Identifier]) -> set[Identifier]:
    """Return the functions to inline, and import the domains that their bodies need."""
    chosen: set[Identifier] = set()
    for name in order:
        function = model.functions[name]
        if _has_kernel(name) or not _means_the_same(function, model):
            continue
        for domain, version in function.opset_imports.items():
            model.opset_imports.setdefault(domain, version)
        chosen.add(name)
    return chosen


def _has_kernel(name: Identifier) -> bool:
    domain, op_type, _ = name
    return domain.startswith(_KERNEL_DOMAINS) or onnx.defs.has(op_type, domain)


def _means_the_same(function: ir.Function, model: ir.Model) -> bool:
    """Tell whether a function's nodes mean the same under the model's operator sets."""
    differing = {
        domain
        for domain, version in function.opset_imports.items()
        if model.opset_imports.get(domain, version) != version
    }
    return not differing or all(
        node.domain not in differing
        or node.op_identifier() in model.functions
        or _since(node, function.opset_imports) == _since(node, model.opset_imports) != 0
        for graph in facts.graphs_within(function.graph)
        for node in graph
    )


def _since(node: ir.Node, opsets: dict[str, int]) -> int:
    """Return the operator set in which what a node means here was defined; 0 for the unknown."""
    try:
        schema = onnx.defs.get_schema(node.op_type, opsets.get(node.domain, 0), node.domain)
    except onnx.defs.SchemaError:
        return 0
    return int(schema.since_version)


def _can_be_bound(node: ir.Node, function: ir.Function) -> bool:
    """Tell whether a call is one that can be written out.

    Not so are a graph passed as an attribute, which may capture what the body cannot see, more
    inputs or outputs than there are parameters, and an output that is an input left out.
    """
    if len(node.inputs) > len(function.inputs) or len(node.outputs) > len(function.outputs):
        return False
    attributes = (*node.attributes.values(), *function.attributes.values())
    if any(attr.type in _GRAPHS for attr in attributes):
        return False
    given = {
        parameter
        for parameter, value in zip(function.inputs, node.inputs, strict=False)
        if value is not None
    }
    return all(not value.is_graph_input() or value in given for value in function.outputs)


def _expand(editor: Editor, call: ir.Node, function: ir.Function, *, typed: bool) -> list[ir.Node]:
    """Put a copy of a function's body in the place of a call; return the nodes it is made of.

    Their names begin with the name of the call. What the body says of types and shapes counts only
    where it is `typed` for this call alone.
    """
    copy = function.clone()
    graph = copy.graph
    nodes = [node for inner in facts.graphs_within(graph) for node in inner]
    for node in nodes:
        _bind_attributes(node, call, function)
        for key, text in call.metadata_props.items():
            node.metadata_props.setdefault(key, text)
        if not typed and node.graph is graph:
            for value in node.outputs:
                value.shape = value.type = None
    actual: dict[ir.Value, ir.Value | None] = dict.fromkeys(graph.inputs)
    actual.update(zip(graph.inputs, call.inputs, strict=False))
    for parameter, given in actual.items():
        for reader, index in parameter.uses():
            reader.replace_input_with(index, given)
    results = editor.splice(graph, call, prefix=f"{call.name or function.name}/")
    named: set[ir.Value] = set(actual)
    for old, result in zip(call.outputs, results, strict=False):
        new = actual.get(result, result)
        if old.name and new is not None:
            editor.replace(old, new, named=result not in named)
            named.add(result)
    editor.erase(call)
    return nodes


def _bind_attributes(node: ir.Node, call: ir.Node, function: ir.Function) -> None:
    """Give a node of a function's body what its attributes stand for in a call."""
    for name, attr in list(node.attributes.items()):
        if not attr.is_ref():
            continue
        given = call.attributes.get(attr.ref_attr_name or "")
        if given is None:
            given = function.attributes.get(attr.ref_attr_name or "")
        if given is None or given.value is None:
            del node.attributes[name]
        else:
            node.attributes[name] = ir.Attr(name, given.type, given.value)
