"""Visits every tensor of a model: initializers and attributes, nested graphs and functions too."""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, TypeAlias

from onnxopt.graph._onnx_ir import ir

# Is given the tensor and the name of its attribute, "" for an initializer.
Change: TypeAlias = Callable[[Any, str], Any]
Undo: TypeAlias = list[Callable[[], None]]

_KINDS = ir.AttributeType


def replace_tensors(model: ir.Model, change: Change, undo: Undo) -> None:
    """Put what `change` returns in the place of every tensor; note in `undo` how to go back."""
    _in_graph(model.graph, change, undo)
    for function in model.functions.values():
        _in_graph(function.graph, change, undo)
        _in_attributes(function.attributes, change, undo)


def _in_graph(graph: ir.Graph, change: Change, undo: Undo) -> None:
    for value in graph.initializers.values():
        old = value.const_value
        if old is not None and (new := change(old, "")) is not old:
            undo.append(partial(setattr, value, "const_value", old))
            value.const_value = new
    for node in graph:
        if node.attributes:
            _in_attributes(node.attributes, change, undo)


def _in_attributes(attributes: MutableMapping[str, ir.Attr], change: Change, undo: Undo) -> None:
    for name, attribute in attributes.items():
        kind, old = attribute.type, attribute.value
        new = old
        if old is None:
            continue
        if kind == _KINDS.TENSOR:
            new = change(old, name)
        elif kind == _KINDS.TENSORS:
            new = tuple(change(tensor, name) for tensor in old)
            new = old if all(map(_same, old, new)) else new
        elif kind == _KINDS.GRAPH:
            _in_graph(old, change, undo)
        elif kind == _KINDS.GRAPHS:
            for graph in old:
                _in_graph(graph, change, undo)
        if new is not old:
            undo.append(partial(attributes.__setitem__, name, attribute))
            attributes[name] = ir.Attr(name, kind, new, doc_string=attribute.doc_string)


def _same(one: object, other: object) -> bool:
    return one is other
