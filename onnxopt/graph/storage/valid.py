"""Tells whether a ModelProto is a model at all, before anything is built from it.

Checked is what the rest of the program relies on: versions that the installed onnx knows, names
that are defined once and before they are read, tensors whose bytes fit their shape. What operators
demand of their inputs is not: an operator that nobody knows is no error.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any

import onnx

from onnxopt.errors import ModelError
from onnxopt.graph._onnx_ir import ir

_EXPORT_AGAIN = "the exporter wrote a broken model: export it again, or run onnx.checker on it"
_OLDEST_IR = 3
_UNDEFINED, _STRING = 0, 8
_EXTERNAL = onnx.TensorProto.EXTERNAL
# Which field holds the numbers of a tensor without raw_data, by data type; int32_data the others.
_FIELDS = {1: "float_data", 7: "int64_data", 11: "double_data", 12: "uint64_data",
           13: "uint64_data", 14: "float_data", 15: "double_data"}  # fmt: skip
_COMPLEX = {14, 15}
_GRAPH, _GRAPHS = onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS
_TENSOR, _TENSORS = onnx.AttributeProto.TENSOR, onnx.AttributeProto.TENSORS


def check(model: onnx.ModelProto) -> bool:
    """Raise `ModelError` unless this is a model; tell whether every graph is sorted already."""
    _check_versions(model)
    if not model.graph.output:
        raise ModelError("the model has no outputs", "name its outputs when you export it")
    in_order = _Scopes().graph(model.graph)
    for function in model.functions:
        in_order &= _Scopes().function(function)
    _check_calls(model)
    return in_order


def tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every dense tensor: initializers and attributes, those of nested graphs too."""
    yield from _graph_tensors(model.graph)
    for function in model.functions:
        yield from _node_tensors(function.node)
        yield from (attribute.t for attribute in function.attribute_proto)


def _graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    yield from _node_tensors(graph.node)


def _node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            kind = attribute.type
            if kind == _TENSOR:
                yield attribute.t
            elif kind == _TENSORS:
                yield from attribute.tensors
            elif kind in (_GRAPH, _GRAPHS):
                for graph in (attribute.g, *attribute.graphs):
                    yield from _graph_tensors(graph)


def _check_versions(model: onnx.ModelProto) -> None:
    newest = onnx.IR_VERSION
    if not _OLDEST_IR <= model.ir_version <= newest:
        older = model.ir_version < _OLDEST_IR
        raise ModelError(
            f"IR version {model.ir_version} is not supported: onnx {onnx.__version__} knows"
            f" {_OLDEST_IR} to {newest}",
            "export the model again with a newer exporter" if older else "pip install -U onnx",
        )
    if not model.opset_import:
        raise ModelError("the model names no operator set", _EXPORT_AGAIN)
    known = onnx.defs.onnx_opset_version()
    importers: tuple[Any, ...] = (model, *model.functions)
    for graph in importers:
        versions: dict[str, int] = {}
        for entry in graph.opset_import:
            domain = "" if entry.domain == "ai.onnx" else entry.domain
            if versions.setdefault(domain, entry.version) != entry.version:
                raise ModelError(
                    f"domain {domain or 'ai.onnx'!r} has two operator set versions,"
                    f" {versions[domain]} and {entry.version}",
                    _EXPORT_AGAIN,
                )
        if versions.get("", 0) > known:
            raise ModelError(
                f"operator set {versions['']} of domain 'ai.onnx' is newer than the newest that"
                f" onnx {onnx.__version__} knows, {known}",
                "pip install -U onnx, or export the model for an older operator set",
            )


def _check_calls(model: onnx.ModelProto) -> None:
    """Refuse functions that call themselves, directly or by way of another."""
    bodies = {(f.domain, f.name, f.overload): f for f in model.functions}
    if len(bodies) != len(model.functions):
        raise ModelError("two functions have the same name", _EXPORT_AGAIN)
    done: set[tuple[str, str, str]] = set()

    def visit(name: tuple[str, str, str], callers: tuple[Any, ...]) -> None:
        if name in callers:
            raise ModelError(f"function {name[1]!r} calls itself", _EXPORT_AGAIN)
        if name in bodies and name not in done:
            for called in set(_calls(bodies[name].node)):
                visit(called, (*callers, name))
            done.add(name)

    for name in bodies:
        visit(name, ())


def _calls(nodes: Iterable[onnx.NodeProto]) -> Iterator[tuple[str, str, str]]:
    for node in nodes:
        yield node.domain, node.op_type, node.overload
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _calls(graph.node)


class _Scopes:
    """The names that may be read at a place, from the outermost graph in.

    `known` are those computed so far, `declared` all that the graphs around define anywhere.
    """

    def __init__(self) -> None:
        self.known: list[set[str]] = []
        self.declared: list[set[str]] = []
        self.in_order = True

    def graph(self, graph: onnx.GraphProto) -> bool:
        names = [value.name for value in graph.input]
        held = [tensor.name for tensor in graph.initializer]
        held += [sparse.values.name for sparse in graph.sparse_initializer]
        for tensor in graph.initializer:
            check_tensor(tensor)
        _refuse_twice(names, "graph input")
        _refuse_twice(held, "initializer")
        self._body({*names, *held}, graph.node, [value.name for value in graph.output])
        return self.in_order

    def function(self, function: onnx.FunctionProto) -> bool:
        _refuse_twice(function.input, f"input of function {function.name!r}:")
        for attribute in function.attribute_proto:
            if attribute.type == _TENSOR:
                check_tensor(attribute.t, f"function {function.name!r}")
        self._body(set(function.input), function.node, function.output)
        return self.in_order

    def _body(
        self, known: set[str], nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]
    ) -> None:
        if "" in known:
            raise ModelError("an input or an initializer has no name", _EXPORT_AGAIN)
        declared = set(known)
        for node in nodes:
            for name in node.output:
                if name in declared and name:
                    raise ModelError(
                        f"{name!r} is defined twice, the second time by {_title(node)}",
                        _EXPORT_AGAIN,
                    )
                declared.add(name)
        for name in declared:
            if type(name) is not str:
                raise ModelError(f"the name {name!r} is not UTF-8", _EXPORT_AGAIN)
        self.known.append(known)
        self.declared.append(declared)
        for node in nodes:
            self._node(node, known)
        for name in outputs:
            if name not in known or not name:
                self._missing(name, "is an output of the graph")
        self.known.pop()
        self.declared.pop()

    def _node(self, node: onnx.NodeProto, known: set[str]) -> None:
        if type(node.op_type) is not str or type(node.domain) is not str:
            raise ModelError(f"the operator {node.op_type!r} is not UTF-8", _EXPORT_AGAIN)
        for name in node.input:
            if name not in known and name:
                self._find(name, node)
        attributes = node.attribute
        if attributes:
            self._attributes(node, attributes)
        known.update(node.output)

    def _attributes(self, node: onnx.NodeProto, attributes: Sequence[onnx.AttributeProto]) -> None:
        if len(attributes) > 1 and len({a.name for a in attributes}) != len(attributes):
            raise ModelError(f"{_title(node)} has two attributes of one name", _EXPORT_AGAIN)
        for attribute in attributes:
            kind = attribute.type
            if kind == _TENSOR and not attribute.ref_attr_name:
                check_tensor(attribute.t, _title(node))
            elif kind == _TENSORS:
                for tensor in attribute.tensors:
                    check_tensor(tensor, _title(node))
            elif kind == _GRAPH and not attribute.ref_attr_name:
                self.graph(attribute.g)
                if node.op_type == "If" and len(attribute.g.output) != len(node.output):
                    raise ModelError(
                        f"a branch of {_title(node)} has {len(attribute.g.output)} outputs"
                        f" instead of {len(node.output)}",
                        _EXPORT_AGAIN,
                    )
            elif kind == _GRAPHS:
                for graph in attribute.graphs:
                    self.graph(graph)

    def _find(self, name: str, node: onnx.NodeProto) -> None:
        if any(name in known for known in reversed(self.known)):
            return
        if not any(name in declared for declared in self.declared):
            self._missing(name, f"is read by {_title(node)}")
        self.in_order = False

    def _missing(self, name: str, where: str) -> None:
        raise ModelError(f"{name!r} {where}, but nothing defines it", _EXPORT_AGAIN)


def _title(node: onnx.NodeProto) -> str:
    """Return how a message calls a node: with its name, or else with its first output's."""
    if node.name:
        return f"{node.op_type} node {node.name!r}"
    return f"{node.op_type} node that makes {next(iter(node.output), '')!r}"


def _refuse_twice(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(f"{what} {name!r} is defined twice", _EXPORT_AGAIN)
        seen.add(name)


def check_tensor(tensor: onnx.TensorProto, owner: str = "") -> None:
    """Raise `ModelError` unless the tensor's data, where it is embedded, fits type and shape."""
    bits = _bits().get(tensor.data_type)
    dims = tensor.dims
    count = math.prod(dims)
    if bits is None or any(size < 0 for size in dims):
        _refuse(tensor, owner, "has no valid type or shape")
    elif tensor.data_location == _EXTERNAL:
        _check_external(tensor, owner, -(-count * bits // 8))
    elif tensor.data_type == _STRING:
        if len(tensor.string_data) != count:
            _refuse(tensor, owner, f"holds {len(tensor.string_data)} strings instead of {count}")
    elif tensor.HasField("raw_data"):
        held, needed = len(tensor.raw_data), -(-count * bits // 8)
        if held != needed:
            _refuse(tensor, owner, f"holds {held} bytes, but its type and shape need {needed}")
    else:
        held = len(getattr(tensor, _FIELDS.get(tensor.data_type, "int32_data")))
        needed = count * 2 if tensor.data_type in _COMPLEX else count
        # Two or four elements to a byte; those of six bits come one to a number.
        if bits in (2, 4):
            needed = -(-count * bits // 8)
        if held != needed:
            _refuse(tensor, owner, f"holds {held} numbers, but its type and shape need {needed}")


def _check_external(tensor: onnx.TensorProto, owner: str, needed: int) -> None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if tensor.data_type == _STRING or not entries.get("location"):
        _refuse(tensor, owner, "says that its data is external, but not where")
    for key in ("offset", "length"):
        text = entries.get(key, "0")
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            _refuse(tensor, owner, f"has an external data {key} that is none: {text[:40]!r}")
    if "length" in entries and int(entries["length"]) != needed:
        _refuse(
            tensor, owner,
            f"holds {entries['length']} bytes, but its type and shape need {needed}",
        )  # fmt: skip


def _refuse(tensor: onnx.TensorProto, owner: str, what: str) -> None:
    where = f" of {owner}" if owner else ""
    raise ModelError(f"tensor {tensor.name!r}{where} {what}", _EXPORT_AGAIN)


@cache
def _bits() -> dict[int, int]:
    """Return the bits of an element by data type."""
    sized = {int(kind): kind.bitwidth for kind in ir.DataType if kind not in (_UNDEFINED, _STRING)}
    return {**sized, _STRING: 0}
