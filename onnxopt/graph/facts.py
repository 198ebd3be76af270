"""What is known about values and nodes: constants, shapes, attributes with their defaults.

Everything here only reads. A value whose default the caller of the model may override (an
initializer that is also a graph input) is no constant, whatever its initializer holds.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, KeysView
from typing import Any

import numpy as np
import onnx

from onnxopt.graph._onnx_ir import ir

Dim = int | str | None

NO_TENSORS = (ir.SequenceType, ir.OptionalType)
"""Types of values that are no tensors, compared by identity: isinstance is slow on protocols."""

UNKNOWN_NAMES = frozenset({"", "?", "*", "-1", "None", "none", "unknown", "dynamic"})
"""What exporters write for a dimension that they do not know: no name, two of them may differ."""


def is_constant(value: ir.Value | None) -> bool:
    """Tell whether the value is the same at every run and known now."""
    if value is None:
        return False
    if value.const_value is not None:
        return not value.is_graph_input()
    node = value.producer()
    return node is not None and node.op_type == "Constant" and not node.domain and _plain(node)


def _plain(node: ir.Node) -> bool:
    attributes = node.attributes
    return (
        len(attributes) == 1
        and "sparse_value" not in attributes
        and not next(iter(attributes.values())).is_ref()
    )


def tensor(value: ir.Value | None) -> Any | None:
    """Return the tensor object of a constant (nothing is read from disk), or None."""
    if value is None or not is_constant(value):
        return None
    if value.const_value is not None:
        return value.const_value
    node = value.producer()
    assert node is not None
    name, attr = next(iter(node.attributes.items()))
    # Not get_const_tensor: it takes 60 µs, only ASCII, and cuts off trailing zero bytes.
    if name == "value":
        return attr.value
    if name in ("value_float", "value_floats"):
        return ir.Tensor(np.array(attr.value, np.float32))
    if name in ("value_int", "value_ints"):
        return ir.Tensor(np.array(attr.value, np.int64))
    return _strings(attr.value) if name in ("value_string", "value_strings") else None


def _strings(value: str | bytes | tuple[str | bytes, ...]) -> ir.StringTensor:
    texts = [value] if isinstance(value, (str, bytes)) else list(value)
    array = np.empty(len(texts), object)
    array[:] = [text.encode() if isinstance(text, str) else text for text in texts]
    return ir.StringTensor(array.reshape(()) if isinstance(value, (str, bytes)) else array)


def constant(value: ir.Value | None, limit: int | None = None) -> np.ndarray[Any, Any] | None:
    """Return the array of a constant of at most `limit` elements, or None."""
    found = tensor(value)
    if found is None or (limit is not None and found.size > limit):
        return None
    array: np.ndarray[Any, Any] = found.numpy()
    return array


def scalar(value: ir.Value | None) -> float | int | bool | None:
    """Return the only element of a one-element numeric constant, or None."""
    found = tensor(value)
    if found is None or found.size != 1 or found.dtype == ir.DataType.STRING:
        return None
    item: float | int | bool = found.numpy().item()
    return item


def integers(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return a constant of at most 64 integers as a tuple (a scalar gives one), or None."""
    array = constant(value, limit=64)
    if array is None or not np.issubdtype(array.dtype, np.integer) or array.ndim > 1:
        return None
    return tuple(int(item) for item in array.reshape(-1))


def shape(value: ir.Value | None) -> tuple[Dim, ...] | None:
    """Return the dimensions: sizes, names, or None where nothing is known; None without a rank."""
    if value is None:
        return None
    if value.shape is None:
        found = tensor(value)
        return None if found is None else tuple(found.shape.numpy())
    return tuple(_dim(dim if isinstance(dim, int) else dim.value) for dim in value.shape)


def _dim(dim: Dim) -> Dim:
    if isinstance(dim, int):
        return dim if dim >= 0 else None
    return None if dim in UNKNOWN_NAMES else dim


def static_shape(value: ir.Value | None) -> tuple[int, ...] | None:
    """Return the shape where every dimension is a size, or None."""
    dims = shape(value)
    if dims is None or not all(isinstance(dim, int) for dim in dims):
        return None
    return tuple(dim for dim in dims if isinstance(dim, int))


def rank(value: ir.Value | None) -> int | None:
    """Return the number of dimensions, or None where it is not known."""
    if value is None:
        return None
    if value.shape is not None:
        return len(value.shape)
    found = tensor(value)
    return None if found is None else len(found.shape)


def dtype(value: ir.Value | None) -> ir.DataType | None:
    """Return the element type, or None where it is not known or the value is no tensor."""
    if value is None:
        return None
    if type(value.type) in NO_TENSORS:
        return None
    if value.dtype is not None:
        return value.dtype
    found = tensor(value)
    return None if found is None else found.dtype


def made_by(value: ir.Value | None, op_type: str, reader: ir.Node) -> ir.Node | None:
    """Return the node that makes a value, if it is that standard operator in a reader's graph."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != op_type or node.domain or node.graph is not reader.graph:
        return None
    return node


def uses(value: ir.Value) -> KeysView[Any]:
    """Return who reads a value, without the copy that `value.uses()` makes of it.

    A constant may have 100,000 readers. Whoever changes the graph meanwhile takes the copy.
    """
    return value._uses.keys()  # noqa: SLF001


def is_private(value: ir.Value | None) -> bool:
    """Tell whether a value is read exactly once, and by a node: no graph hands it out."""
    return value is not None and len(uses(value)) == 1 and not value.is_graph_output()


def is_single_or_half(value: ir.Value | None) -> bool:
    """Tell whether the value is float32 or float16: what every runtime has all kernels for."""
    return dtype(value) in (ir.DataType.FLOAT, ir.DataType.FLOAT16)


def is_float(value: ir.Value | None) -> bool:
    """Tell whether the value is known to hold floating-point numbers."""
    known = dtype(value)
    return known is not None and known.is_floating_point()


@functools.cache
def defines_attribute(op_type: str, domain: str, opset: int, name: str) -> bool:
    """Tell whether an operator has an attribute at all at an operator set."""
    try:
        return name in onnx.defs.get_schema(op_type, opset, domain).attributes
    except onnx.defs.SchemaError:
        return False


@functools.cache
def _default(op_type: str, domain: str, opset: int, name: str) -> Any:
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None
    found = schema.attributes.get(name)
    if found is None or not found.default_value.name:
        return None
    value = onnx.helper.get_attribute_value(found.default_value)
    return value.decode() if isinstance(value, bytes) else value


def attribute(node: ir.Node, name: str, opset: int) -> Any:
    """Return an attribute's value, or the default of the operator's schema at `opset`.

    Lists come as tuples. A reference to a function's attribute is not known: None.
    """
    found = node.attributes.get(name)
    if found is None:
        value = _default(node.op_type, node.domain, opset, name)
    elif found.is_ref():
        return None
    else:
        value = found.value
    return tuple(value) if isinstance(value, list) else value


def axes(node: ir.Node, opset: int, *, index: int = 1) -> tuple[int, ...] | None:
    """Return the `axes` of a reduction, Squeeze or Unsqueeze: attribute in old opsets, input since.

    Empty when none are given; None when they are computed at run time.
    """
    if "axes" in node.attributes:
        found = attribute(node, "axes", opset)
        return None if found is None else tuple(found)
    if len(node.inputs) > index and node.inputs[index] is not None:
        return integers(node.inputs[index])
    return ()


@functools.cache
def _may_carry_graphs(op_type: str, domain: str) -> bool:
    """Tell whether an operator can have graphs among its attributes; an unknown one may."""
    try:
        schema = onnx.defs.get_schema(op_type, domain)
    except onnx.defs.SchemaError:
        return True
    kinds = (onnx.defs.OpSchema.AttrType.GRAPH, onnx.defs.OpSchema.AttrType.GRAPHS)
    return any(attribute.type in kinds for attribute in schema.attributes.values())


def nested_graphs(node: ir.Node) -> Iterator[ir.Graph]:
    """Yield the graphs that a node carries in its attributes (If, Loop, Scan)."""
    if not _may_carry_graphs(node.op_type, node.domain):
        return
    for attr in node.attributes.values():
        if attr.is_ref():
            continue
        if attr.type == ir.AttributeType.GRAPH:
            yield attr.as_graph()
        elif attr.type == ir.AttributeType.GRAPHS:
            yield from attr.as_graphs()


def graphs_within(graph: ir.Graph) -> Iterator[ir.Graph]:
    """Yield a graph and every graph nested in its nodes, outer ones first."""
    stack = [graph]
    while stack:
        current = stack.pop()
        yield current
        for node in current:
            if _may_carry_graphs(node.op_type, node.domain):
                stack.extend(nested_graphs(node))


def scopes(model: ir.Model) -> Iterator[tuple[ir.Graph, dict[str, int]]]:
    """Yield every graph of a model with the operator sets that hold in it.

    Nested graphs inherit the model's, bodies of functions have their own.
    """
    for graph in graphs_within(model.graph):
        yield graph, model.opset_imports
    for function in model.functions.values():
        for graph in graphs_within(function.graph):
            yield graph, function.opset_imports


def count_nodes(model: ir.Model) -> int:
    """Count every node, those of nested graphs and functions included."""
    return sum(len(graph) for graph, _ in scopes(model))
