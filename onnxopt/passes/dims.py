"""Fixes dimensions: `batch=1` everywhere that name stands, `input_ids:1=128` at one axis."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.text import near_matches


def fix(model: ir.Model, sizes: Mapping[str, int]) -> int:
    """Give dimensions of the inputs a size; return how many values changed.

    Raises `OnnxOptError` for a name that no input has and for a size that contradicts the model.
    """
    renamed: dict[str, int] = {}
    changed = 0
    for where, size in sizes.items():
        name, colon, axis = where.rpartition(":")
        if colon and axis.lstrip("-").isdigit() and name in {v.name for v in model.graph.inputs}:
            changed += _fix_axis(model, name, int(axis), size, renamed)
        else:
            renamed[_known(model, where)] = size
    return changed + _substitute(model, renamed)


def _known(model: ir.Model, name: str) -> str:
    known = {
        dim
        for value in model.graph.inputs
        for dim in facts.shape(value) or ()
        if isinstance(dim, str)
    }
    if name not in known:
        named = known | {f"{v.name}:{axis}" for v in model.graph.inputs for axis in _open(v)}
        hint = near_matches(name, named) if named else "every dimension of its inputs has a size"
        raise OnnxOptError(f"the model has no dimension {name!r}", hint)
    return name


def _open(value: ir.Value) -> Iterator[int]:
    for axis, dim in enumerate(facts.shape(value) or ()):
        if not isinstance(dim, int):
            yield axis


def _fix_axis(model: ir.Model, name: str, axis: int, size: int, renamed: dict[str, int]) -> int:
    value = next(v for v in model.graph.inputs if v.name == name)
    dims = facts.shape(value)
    if dims is None or not -len(dims) <= axis < len(dims):
        rank = "an unknown rank" if dims is None else f"{len(dims)} dimensions"
        raise OnnxOptError(f"input {name!r} has no axis {axis}", f"it has {rank}")
    dim = dims[axis]
    if isinstance(dim, int):
        if dim != size:
            raise OnnxOptError(
                f"axis {axis} of input {name!r} is {dim}, not {size}", "it is fixed in the model"
            )
        return 0
    if dim is not None:
        if renamed.setdefault(dim, size) != size:
            raise OnnxOptError(f"dimension {dim!r} is fixed to two sizes", "give it one size")
        return 0
    assert value.shape is not None
    shape = value.shape.copy()
    shape[axis] = size
    value.shape = shape
    return 1


def _substitute(model: ir.Model, sizes: Mapping[str, int]) -> int:
    """Put a size wherever a name stands, in every graph."""
    changed = 0
    for graph, _ in facts.scopes(model):
        made = (value for node in graph for value in node.outputs)
        for value in {*graph.inputs, *graph.outputs, *made}:
            dims = [] if value.shape is None else list(value.shape)
            names = [dim.value if isinstance(dim, ir.SymbolicDim) else None for dim in dims]
            if any(name in sizes for name in names if name):
                known = [sizes.get(n or "", d) for n, d in zip(names, dims, strict=True)]
                value.shape = ir.Shape(known)
                changed += 1
    return changed
