"""What the callers of a model rely on: names, types, shapes and order of its inputs and outputs."""

from __future__ import annotations

from dataclasses import dataclass

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.report import TensorSpec


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The inputs and outputs of a graph as its callers see them.

    An initializer that is also an input is an input with a default: it is part of the signature.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def differences(self, other: Signature) -> list[str]:
        """Say in words what differs from another signature; nothing when they are the same."""
        found = []
        for side in ("inputs", "outputs"):
            mine, theirs = getattr(self, side), getattr(other, side)
            names, others = [spec.name for spec in mine], [spec.name for spec in theirs]
            if names != others:
                found.append(f"{side} {names} became {others}")
                continue
            for spec, changed in zip(mine, theirs, strict=True):
                if spec != changed:
                    found.append(f"{side[:-1]} {describe(spec)} became {describe(changed)}")
        return found


def describe(spec: TensorSpec) -> str:
    """Write a tensor as `name: float32[batch, 3, ?]`."""
    if spec.shape is None:
        return f"{spec.name}: {spec.type}"
    dims = ", ".join("?" if dim is None else str(dim) for dim in spec.shape)
    return f"{spec.name}: {spec.type}[{dims}]"


def spec_of(value: ir.Value) -> TensorSpec:
    """Describe a value: its name, its type in words and its dimensions."""
    return TensorSpec(
        name=value.name or "",
        type=type_name(value.type),
        shape=None if value.shape is None else _as_declared(value.shape),
    )


def _as_declared(shape: ir.Shape) -> tuple[facts.Dim, ...]:
    return tuple(dim if isinstance(dim, int) else dim.value for dim in shape)


def type_name(kind: ir.TypeProtocol | None) -> str:
    """Write a type as `float32`, `sequence(int64)` or `unknown`."""
    if kind is None:
        return "unknown"
    if isinstance(kind, ir.SequenceType):
        return f"sequence({type_name(kind.elem_type)})"
    if isinstance(kind, ir.OptionalType):
        return f"optional({type_name(kind.elem_type)})"
    name = kind.dtype.name.lower()
    name = {"float": "float32", "double": "float64"}.get(name, name)
    return f"sparse({name})" if isinstance(kind, ir.SparseTensorType) else name


def signature_of(model: ir.Model) -> Signature:
    """Return the signature of a model's main graph."""
    return Signature(
        inputs=tuple(spec_of(value) for value in model.graph.inputs),
        outputs=tuple(spec_of(value) for value in model.graph.outputs),
    )


@dataclass(frozen=True)
class Declared:
    """The types and shapes as the file declares them, to be put back before saving.

    Shape inference may learn more about an output than its author wrote down; what the file says
    to its callers stays what it was.
    """

    values: tuple[tuple[ir.TypeProtocol | None, ir.Shape | None], ...]

    @classmethod
    def of(cls, model: ir.Model) -> Declared:
        """Remember what a model declares."""
        graph = model.graph
        return cls(tuple((v.type, _copied(v.shape)) for v in (*graph.inputs, *graph.outputs)))

    def restore(self, model: ir.Model) -> None:
        """Declare it again, by position: names and order are the signature's."""
        graph = model.graph
        pairs = zip((*graph.inputs, *graph.outputs), self.values, strict=True)
        for value, (kind, shape) in pairs:
            value.type, value.shape = kind, _copied(shape)


def _copied(shape: ir.Shape | None) -> ir.Shape | None:
    return None if shape is None else shape.copy()
