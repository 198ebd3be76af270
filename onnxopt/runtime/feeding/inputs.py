"""What a model wants to be fed: name, type and dimensions of every input."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from onnxopt.errors import DataError

if TYPE_CHECKING:
    import numpy as np

    from onnxopt.graph._onnx_ir import ir

Kind = Literal["tensor", "sequence", "optional"]
# Names that exporters write where they know nothing: Paddle's `?`, an old PyTorch's empty name.
_NAMELESS = re.compile(r"^(\?|-1|\s*|None|unknown|dynamic)$", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Input:
    """One graph input. A dimension is a size or the name (or expression) of a free one.

    An anonymous dimension gets the name `input:axis`, so that it differs from all others. `dims`
    is None where the model gives no rank. `dtype` is None for a string tensor. An input that is
    not `required` has an initializer, and may be left out.
    """

    name: str
    kind: Kind
    dtype: np.dtype | None
    dims: tuple[int | str, ...] | None
    required: bool = True

    def describe(self) -> str:
        """Write the type for people: `float32[batch,3,224,224]`."""
        dims = "?" if self.dims is None else ",".join(str(d).split(":")[-1] for d in self.dims)
        text = f"{self.dtype or 'string'}[{dims}]"
        return text if self.kind == "tensor" else f"{self.kind}({text})"


def model_inputs(model: ir.Model) -> tuple[Input, ...]:
    """List what a caller gives or, for inputs with an initializer, may give."""
    initializers = model.graph.initializers
    return tuple(_read(value, value.name not in initializers) for value in model.graph.inputs)


def _read(value: ir.Value, required: bool) -> Input:
    from onnxopt.graph._onnx_ir import ir

    name, type_ = value.name or "", value.type
    kind: Kind = "tensor"
    if isinstance(type_, (ir.SequenceType, ir.OptionalType)):
        kind = "sequence" if isinstance(type_, ir.SequenceType) else "optional"
        type_ = type_.elem_type
    if not isinstance(type_, ir.TensorType):
        raise DataError(
            f"input {name!r} has a type that cannot be fed ({type_})",
            "leave verification out with --no-verify",
        )
    element = type_.dtype
    dtype = None if element is ir.DataType.STRING else element.numpy()
    shape = value.shape
    dims = None if shape is None else tuple(_dim(name, i, d) for i, d in enumerate(shape))
    return Input(name=name, kind=kind, dtype=dtype, dims=dims, required=required)


def _dim(name: str, axis: int, dim: int | ir.SymbolicDim) -> int | str:
    """Return a size or a name; 0, -1, `?` and nothing at all are all ways to say 'unknown'."""
    if isinstance(dim, int):
        return dim if dim > 0 else f"{name}:{axis}"
    text = dim.value
    if text is None or _NAMELESS.match(text):
        return f"{name}:{axis}"
    return text


def symbols(dim: int | str) -> tuple[str, ...]:
    """Return the names that a dimension depends on: two for `past_length + length`."""
    if isinstance(dim, int):
        return ()
    tree = _parse(dim)
    if tree is None:
        return (dim,)
    return tuple(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))


def size_of(dim: int | str, sizes: Mapping[str, int]) -> int:
    """Return the size of a dimension, given those of its names; expressions are computed."""
    if isinstance(dim, int):
        return dim
    if dim in sizes:
        return sizes[dim]
    tree = _parse(dim)
    return max(0, _evaluate(tree.body, sizes)) if tree else sizes[dim]


_ALLOWED = (
    ast.Expression, ast.BinOp, ast.Name, ast.Load, ast.Constant, ast.Add, ast.Sub, ast.Mult,
    ast.FloorDiv,
)  # fmt: skip


def _parse(text: str) -> ast.Expression | None:
    """Parse arithmetic over names (`a + b`, `2*n`); None for anything else, such as `x.0`."""
    if text.isidentifier():
        return None
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError):
        return None
    nodes = list(ast.walk(tree))
    sound = all(isinstance(node, _ALLOWED) for node in nodes)
    return tree if sound and any(isinstance(node, ast.Name) for node in nodes) else None


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> int:
    if isinstance(node, ast.Constant):
        return int(node.value)  # type: ignore[arg-type]
    if isinstance(node, ast.Name):
        return sizes[node.id]
    assert isinstance(node, ast.BinOp)
    left, right = _evaluate(node.left, sizes), _evaluate(node.right, sizes)
    if isinstance(node.op, ast.Add):
        return left + right
    if isinstance(node.op, ast.Sub):
        return left - right
    return left * right if isinstance(node.op, ast.Mult) else left // max(right, 1)
