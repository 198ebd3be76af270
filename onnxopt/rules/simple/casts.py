"""Chains of Cast.

A cast to a wider type keeps every value, so what follows it may start from the narrow one. A cast
to a narrower type rounds or wraps: nothing here removes one.
"""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule

x = var("x")

_Type = ir.DataType
_SIGNED = (_Type.INT8, _Type.INT16, _Type.INT32, _Type.INT64)
_UNSIGNED = (_Type.UINT8, _Type.UINT16, _Type.UINT32, _Type.UINT64)
_PRECISION = {_Type.BFLOAT16: 8, _Type.FLOAT16: 11, _Type.FLOAT: 24, _Type.DOUBLE: 53}
"""Bits of the significand, the hidden one included: integers up to 2 to that power are exact."""

_WIDER_FLOATS = {
    _Type.BFLOAT16: {_Type.FLOAT, _Type.DOUBLE},
    _Type.FLOAT16: {_Type.FLOAT, _Type.DOUBLE},
    _Type.FLOAT: {_Type.DOUBLE},
}


def keeps_every_value(narrow: ir.DataType, wide: ir.DataType) -> bool:
    """Tell whether a cast between two types loses nothing, whatever the value."""
    if narrow == wide:
        return True
    numbers = (*_SIGNED, *_UNSIGNED, *_PRECISION)
    if narrow == _Type.BOOL:
        return wide in numbers
    if narrow in _PRECISION:
        return wide in _WIDER_FLOATS.get(narrow, ())
    if narrow not in numbers or wide not in numbers:
        return False
    signed = narrow in _SIGNED
    bits = narrow.itemsize * 8 - signed
    if wide in _PRECISION:
        return bits <= _PRECISION[wide]
    return (wide in _SIGNED or not signed) and bits <= wide.itemsize * 8 - (wide in _SIGNED)


@rule(op.Cast(x, bind="node") | op.CastLike(x, var("like"), bind="node"), since=6)
def drop_cast_to_same_type(new: Builder, node: ir.Node, x: ir.Value) -> Any:
    """Cast to the type that the input has becomes the input."""
    wanted = _target(new, node)
    return x if wanted is not None and wanted == facts.dtype(x) else None


@rule(op.Cast(op.Cast(x, bind="inner", shared=True), bind="outer"), since=6)
def merge_casts(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Cast(Cast(x)) becomes one Cast, or x, where the inner one loses nothing."""
    before, between, after = facts.dtype(x), _target(new, inner), _target(new, outer)
    if before is None or between is None or after is None:
        return None
    if not keeps_every_value(before, between):
        new.refuse(f"the cast from {before.name} to {between.name} may change values")
    if after == before:
        return x
    if not _same_way(before, between, after):
        new.refuse(f"{before.name} to {after.name} need not wrap like {between.name} does")
    if not facts.is_private(inner.outputs[0]):
        new.refuse(f"'{inner.outputs[0].name}' is read by others too")
    return new.Cast(x, **outer.attributes)


def _same_way(before: ir.DataType, between: ir.DataType, after: ir.DataType) -> bool:
    """Tell whether values out of range end the same with and without the step in between."""
    if after == _Type.BOOL or after in _PRECISION:
        return True
    if after not in (*_SIGNED, *_UNSIGNED):
        return False
    return (before in _PRECISION) == (between in _PRECISION) or keeps_every_value(before, after)


def _target(new: Builder, node: ir.Node) -> ir.DataType | None:
    if node.op_type == "CastLike":
        return facts.dtype(node.inputs[1])
    code = new.attribute(node, "to")
    return None if code is None else _Type(code)
