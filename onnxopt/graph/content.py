"""Tells whether tensors, attributes and whole graphs hold the same, as keys that can be hashed."""

from __future__ import annotations

import functools
import struct
from collections.abc import Hashable, Iterator, Mapping

import numpy as np
import onnx

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.mapped import MappedTensor, digest

_WHOLE = 256  # bytes up to which a tensor's content is its own key
_PIECE = 64  # bytes looked at in each of three places before a large tensor is read whole


def tensor_key(tensor: ir.TensorProtocol) -> Hashable:
    """Return a key that equal tensors share: element type, shape, and the bytes or their digest."""
    kind = (tensor.dtype, tuple(tensor.shape.numpy()))
    if tensor.dtype == ir.DataType.STRING:
        return *kind, tuple(tensor.numpy().reshape(-1).tolist())
    if tensor.nbytes <= _WHOLE:
        return *kind, tensor.tobytes()
    return *kind, digest(tensor)


def tensor_hint(tensor: ir.TensorProtocol) -> Hashable:
    """Return a key that equal tensors share, and unequal ones seldom, after a look at few bytes."""
    kind = (tensor.dtype, tuple(tensor.shape.numpy()))
    if tensor.dtype == ir.DataType.STRING or tensor.dtype.bitwidth < 8:
        return kind
    if isinstance(tensor, MappedTensor):
        # Read, not mapped: mapping a few bytes brings the memory around them too.
        places, start = _places(tensor.nbytes), tensor.offset
        return *kind, *(tensor.file.read(start + at, length) for at, length in places)
    array = np.asarray(tensor.numpy())
    if not array.flags.c_contiguous:
        return kind
    held = array.reshape(-1).view(np.uint8)
    return *kind, *(bytes(held[at : at + length]) for at, length in _places(len(held)))


def _places(size: int) -> Iterator[tuple[int, int]]:
    """Yield where to look at so many bytes, and at how many: first, in the middle, last."""
    for start in (0, size // 2, max(size - _PIECE, 0)):
        yield start, min(_PIECE, size - start)


def attributes_key(
    node: ir.Node, defaults: Mapping[str, Hashable] | None = None
) -> Hashable | None:
    """Return a key that nodes with the same attributes share; one with graphs or types has none.

    An attribute that holds what `defaults` says counts as absent.
    """
    if not node.attributes:
        return ()
    found = []
    for name in sorted(node.attributes):
        key = _attribute_key(node.attributes[name])
        if key is None:
            return None
        if defaults is None or defaults.get(name) != key:
            found.append((name, key))
    return tuple(found)


def _attribute_key(attr: ir.Attr) -> Hashable | None:
    kind, value = attr.type, attr.value
    if attr.is_ref():
        return "reference", attr.ref_attr_name, kind
    if kind in (ir.AttributeType.INT, ir.AttributeType.STRING):
        return kind, value
    if kind in (ir.AttributeType.INTS, ir.AttributeType.STRINGS):
        return kind, tuple(value)
    # The bits, not the number: 0 and -0 differ, and not-a-number is the same as itself.
    if kind == ir.AttributeType.FLOAT:
        return kind, struct.pack("<d", value)
    if kind == ir.AttributeType.FLOATS:
        return kind, struct.pack(f"<{len(value)}d", *value)
    if kind == ir.AttributeType.TENSOR:
        return kind, tensor_key(value)
    return None


@functools.cache
def default_attributes(op_type: str, domain: str, opset: int) -> Mapping[str, Hashable]:
    """Return the keys of the attributes that an operator's schema has a default for."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return {}
    found: dict[str, Hashable] = {}
    for name, attribute in schema.attributes.items():
        if attribute.default_value.name:
            key = _attribute_key(ir.serde.deserialize_attribute(attribute.default_value))
            if key is not None:
                found[name] = key
    return found


def same_graph(first: ir.Graph, second: ir.Graph) -> bool:
    """Tell whether two nested graphs compute the same of the same values, node by node."""
    return _same_graph(first, second, {})


def _same_graph(first: ir.Graph, second: ir.Graph, twins: dict[ir.Value, ir.Value]) -> bool:
    """Compare two graphs; `twins` says which value of the first each of the second stands for."""
    if any(
        len(ours) != len(theirs)
        for ours, theirs in (
            (first, second),
            (first.inputs, second.inputs),
            (first.outputs, second.outputs),
        )
    ):
        return False
    twins.update(zip(second.inputs, first.inputs, strict=True))
    return all(_same_node(*pair, twins) for pair in zip(first, second, strict=True)) and all(
        _same_value(*pair, twins) for pair in zip(first.outputs, second.outputs, strict=True)
    )


def _same_node(first: ir.Node, second: ir.Node, twins: dict[ir.Value, ir.Value]) -> bool:
    if first.op_identifier() != second.op_identifier():
        return False
    if len(first.inputs) != len(second.inputs) or len(first.outputs) != len(second.outputs):
        return False
    if not all(_same_value(*pair, twins) for pair in zip(first.inputs, second.inputs, strict=True)):
        return False
    if first.attributes.keys() != second.attributes.keys():
        return False
    for ours, theirs in zip(first.outputs, second.outputs, strict=True):
        if bool(ours.name) != bool(theirs.name):
            return False
        twins[theirs] = ours
    return all(
        _same_attribute(attr, second.attributes[name], twins)
        for name, attr in first.attributes.items()
    )


def _same_attribute(first: ir.Attr, second: ir.Attr, twins: dict[ir.Value, ir.Value]) -> bool:
    if first.type == ir.AttributeType.GRAPH and not (first.is_ref() or second.is_ref()):
        return second.type == first.type and _same_graph(first.as_graph(), second.as_graph(), twins)
    key = _attribute_key(first)
    return key is not None and key == _attribute_key(second)


def _same_value(
    first: ir.Value | None, second: ir.Value | None, twins: dict[ir.Value, ir.Value]
) -> bool:
    if first is None or second is None:
        return first is second
    if second in twins:
        return twins[second] is first
    if first is second:
        return True
    ours, theirs = facts.tensor(first), facts.tensor(second)
    return ours is not None and theirs is not None and tensor_key(ours) == tensor_key(theirs)
