"""MatMul and Add of matrices, as the one Gemm that they are."""

from __future__ import annotations

from typing import Any

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, variables
from onnxopt.rewrite.rule import Builder, rule

x, w, b = variables("x w b")


@rule(op.MatMul(x, w) + b, since=7)
def fuse_matmul_add(new: Builder, x: ir.Value, w: ir.Value, b: ir.Value) -> Any:
    """MatMul(x, w) + b of two matrices becomes Gemm, b being a row, one number or a constant."""
    if facts.rank(x) != 2 or facts.rank(w) != 2 or not facts.is_float(w):
        return None
    columns, shape = (facts.shape(w) or (None,))[-1], facts.shape(b)
    if shape is None or len(shape) > 2 or not isinstance(columns, int):
        new.refuse("the shapes are not known")
    row = (1, 1, *shape)[-2:]
    if row[0] != 1 or row[1] not in (1, columns):
        new.refuse("the summand is no row")
    return new.Gemm(x, w, b)
