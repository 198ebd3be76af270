"""Turns a ModelProto into an onnx_ir model and back, without loss."""

from __future__ import annotations

from typing import Any

import onnx

from onnxopt.errors import ModelError
from onnxopt.graph import garbage
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.storage import kept, valid


def to_model(proto: onnx.ModelProto) -> ir.Model:
    """Build a model from a proto, which is changed on the way; its external tensors stay external.

    A graph that is not sorted is sorted. Raises `ModelError` where the proto is no valid model.
    """
    with garbage.paused():
        taken = kept.take_out(proto)
        in_order = valid.check(proto)
        model = ir.serde.deserialize_model(proto)
        if taken:
            kept.settle(model)
        model.graph.meta[kept.TYPES] = model.meta[kept.TYPES] = kept.types(model)
    if not in_order:
        _sort(model)
    _tell_apart(model)
    return model


def to_proto(model: ir.Model) -> onnx.ModelProto:
    """Return the model as a proto, with all its tensors in it.

    Raises `ModelError` where a name in it is no text.
    """
    with garbage.paused():
        try:
            proto = ir.serde.serialize_model(model)
        except ir.serde.SerdeError as error:
            cause = root_cause(error)
            if not isinstance(cause, UnicodeDecodeError):
                raise
            raise ModelError(
                f"the model holds text that is not UTF-8: {cause.object[:80]!r}",
                "give it names in plain letters and export it again",
            ) from error
        kept.put_back(proto, model)
    return proto


def _tell_apart(model: ir.Model) -> None:
    """Give nodes of one name different ones: onnxruntime refuses a graph with two of a name."""
    for graph in model.graphs():
        seen: set[str] = set()
        for node in graph:
            name, number = node.name, 0
            while name and name in seen:
                number += 1
                name = f"{node.name}_{number}"
            if name:
                seen.add(name)
                if number:
                    node.name = name


def root_cause(error: BaseException) -> BaseException:
    """Return the first of a chain of errors: onnx_ir wraps it once for every level of nesting."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _sort(model: ir.Model) -> None:
    graphs: list[Any] = [model.graph, *model.functions.values()]
    for graph in graphs:
        try:
            graph.sort()
        except ValueError:
            raise ModelError(
                f"the nodes of graph {graph.name!r} form a cycle",
                "the exporter wrote a broken model: export it again, or run onnx.checker on it",
            ) from None
