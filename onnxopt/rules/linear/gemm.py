"""MatMul and Add of matrices, as the one Gemm that they are; Gemm of more than matrices."""

from __future__ import annotations

from typing import Any

from onnxopt.graph import dims, facts
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


@rule(op.Reshape(op.Gemm(op.Reshape(x, ..., bind="merging"), w, b, bind="gemm"), ..., bind="root"))
def multiply_without_merging(
    new: Builder, x: ir.Value, w: ir.Value, b: ir.Value, merging: ir.Node, gemm: ir.Node
) -> Any:
    """Gemm between two Reshapes that only make a matrix of its input becomes MatMul(x, w) + b."""
    source, merged = dims.shape(x), facts.shape(merging.outputs[0])
    wanted, held = facts.shape(new.root.outputs[0]), facts.static_shape(w)
    if source is None or merged is None or wanted is None or held is None:
        new.refuse("the shapes are not known")
    plain = [new.attribute(gemm, name) for name in ("alpha", "beta", "transA", "transB")]
    row = (1, 1, *(facts.static_shape(b) or (0, 0, 0)))[-2:]
    if plain != [1, 1, 0, 0] or row[0] != 1 or row[1] not in (1, held[1]) or not facts.is_float(w):
        return None
    if len(source) < 3 or len(merged) != 2 or source[-1] != held[0] or merged[1] != held[0]:
        return None
    if wanted[-1] != held[1] or not dims.same_by_count((*source[:-1], held[1]), wanted):
        new.refuse("the result is shaped otherwise than the input")
    product = new.MatMul(x, w)
    product.shape = ir.Shape(wanted)
    return new.Add(product, b)
