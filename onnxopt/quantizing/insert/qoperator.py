"""Turns Q/DQ nodes into operators that compute with integers, where there are such operators.

    DequantizeLinear → Conv → QuantizeLinear   becomes   QLinearConv

onnxruntime does the same when it loads a model, with the same kernels: the results are equal. What
has no such operator keeps its pairs. The standard has QLinearConv and QLinearMatMul, and moves
elements of any type; the others are onnxruntime's own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor, graph_of
from onnxopt.quantizing.placement.looking import nodes_of

_CONTRIB = "com.microsoft"
_POINTWISE = {
    "Sigmoid": (),
    "LeakyRelu": ("alpha",),
    "Softmax": ("axis",),
    "GlobalAveragePool": (),
    "AveragePool": (
        "auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides",
    ),
}  # fmt: skip
_MOVING = {
    "MaxPool", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split",
    "Gather", "Resize", "DepthToSpace", "Expand", "Tile", "ReduceMax", "ReduceMin",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Integers:
    """Integers with their scale and zero point, as a Q or DQ node has them."""

    value: ir.Value
    scale: ir.Value
    zero: ir.Value
    axis: int

    @property
    def three(self) -> tuple[ir.Value, ir.Value, ir.Value]:
        return self.value, self.scale, self.zero

    @property
    def is_per_tensor(self) -> bool:
        return facts.rank(self.scale) == 0

    @property
    def is_per_channel(self) -> bool:
        return facts.rank(self.scale) == 1 and facts.rank(self.zero) == 1


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """An operator that is to take the place of another and of the conversions around it."""

    op_type: str
    inputs: Sequence[ir.Value | None]
    attributes: dict[str, Any]
    domain: str = ""


def to_qoperator(model: ir.Model, *, contrib: bool) -> Counter[str]:
    """Replace Q/DQ nodes by integer operators, in place; return how many of which were made.

    With `contrib` onnxruntime's own operators may be used, otherwise those of the standard alone.
    """
    conversion = _Conversion(model, contrib=contrib)
    for node in list(nodes_of(model)):
        conversion.convert(node)
    return conversion.done


class _Conversion:
    """One model on its way from pairs to integer operators."""

    def __init__(self, model: ir.Model, *, contrib: bool) -> None:
        self.opset = model.opset_imports.get("", 0)
        self.editor = Editor(model)
        self.contrib = contrib
        self.done: Counter[str] = Counter()

    def convert(self, node: ir.Node) -> None:
        if node.domain or node.graph is None:
            return
        quantizers = _quantizers(node)
        recipe = self.recipe(node, quantizers)
        if recipe is None or (recipe.domain and not self.contrib):
            return
        made = ir.Node(
            recipe.domain,
            recipe.op_type,
            recipe.inputs,
            ir.convenience.convert_attributes(recipe.attributes),
            num_outputs=len(node.outputs),
            name=self.editor.fresh(node.name or recipe.op_type),
        )
        if recipe.domain:
            self.editor.import_opset(graph_of(node), recipe.domain)
        self.put(made, node, quantizers)
        self.done[recipe.op_type] += 1

    def put(self, made: ir.Node, node: ir.Node, quantizers: Sequence[ir.Node]) -> None:
        """Let a node take the place of another and of the QuantizeLinear nodes behind it."""
        for old, new in zip(node.outputs, made.outputs, strict=True):
            new.shape, new.type = old.shape, old.type
            new.name = self.editor.fresh(f"{old.name}_integers")
        self.editor.insert([made], node)
        ends = quantizers or [node]
        for end, new in zip(ends, made.outputs, strict=True):
            new.type = end.outputs[0].type
            self.editor.replace(end.outputs[0], new, named=True)
        for end in ends:
            self.editor.erase(end)

    def recipe(self, node: ir.Node, quantizers: Sequence[ir.Node]) -> _Recipe | None:
        """Return what to put in a node's place, or None where it has to stay as it is."""
        op, read = node.op_type, [_read(value) for value in node.inputs]
        written = [_integers(each.outputs[0], each) for each in quantizers]
        if not read or read[0] is None or (quantizers and None in written):
            return None
        found = [each for each in written if each is not None]
        if op in _MOVING:
            return self.moving(node, read[0], found)
        inputs = [each for each in read if each is not None]
        if len(inputs) != sum(value is not None for value in node.inputs):
            return None
        target = found[0] if found else None
        if op in ("MatMul", "Gemm"):
            return self.product(node, inputs, target)
        if target is None or not all(each.is_per_tensor for each in (inputs[0], target)):
            return None
        if op == "Conv":
            return _convolution(node, inputs, target)
        if not all(each.is_per_tensor for each in inputs):
            return None
        return self.contributed(node, inputs, target)

    def moving(
        self, node: ir.Node, read: _Integers, written: Sequence[_Integers]
    ) -> _Recipe | None:
        """Move integers instead of numbers, if they keep scale and zero point."""
        if not written or not all(_same(read, each) for each in written):
            return None
        inputs = [read.value, *node.inputs[1:]]
        return _Recipe(op_type=node.op_type, inputs=inputs, attributes=dict(node.attributes))

    def product(
        self, node: ir.Node, inputs: Sequence[_Integers], target: _Integers | None
    ) -> _Recipe | None:
        one, two = inputs[:2]
        if not one.is_per_tensor or not (two.is_per_tensor or two.is_per_channel):
            return None
        if target is not None and not target.is_per_tensor:
            return None
        ends = [] if target is None else [target.scale, target.zero]
        if node.op_type == "Gemm":
            bias = inputs[2].value if len(inputs) > 2 else None
            kept = {name: node.attributes[name] for name in _GEMM if name in node.attributes}
            return _Recipe(
                op_type="QGemm",
                domain=_CONTRIB,
                inputs=[*one.three, *two.three, bias, *ends],
                attributes=kept,
            )
        if two.is_per_channel and two.axis != (facts.rank(two.value) or 0) - 1:
            return None
        if target is not None:
            return _Recipe(
                op_type="QLinearMatMul", inputs=[*one.three, *two.three, *ends], attributes={}
            )
        return _Recipe(
            op_type="MatMulIntegerToFloat",
            domain=_CONTRIB,
            inputs=[one.value, two.value, one.scale, two.scale, one.zero, two.zero],
            attributes={},
        )

    def contributed(
        self, node: ir.Node, inputs: Sequence[_Integers], target: _Integers
    ) -> _Recipe | None:
        op, ends = node.op_type, (target.scale, target.zero)
        taken = [value for each in inputs for value in each.three]
        attributes: dict[str, Any] = {}
        if op == "Concat":
            attributes, taken = {"axis": node.attributes["axis"]}, [*ends, *taken]
        elif op in ("Add", "Mul"):
            taken = [*taken, *ends]
        elif op in _POINTWISE and not self.is_dilated(node):
            taken = [*taken, *ends]
            attributes = {
                name: node.attributes[name] for name in _POINTWISE[op] if name in node.attributes
            }
        else:
            return None
        if op == "Softmax":
            axis = facts.attribute(node, "axis", self.opset)
            attributes = {"axis": axis, "opset": self.opset}
        return _Recipe(op_type=f"QLinear{op}", domain=_CONTRIB, inputs=taken, attributes=attributes)

    def is_dilated(self, node: ir.Node) -> bool:
        return any(step != 1 for step in facts.attribute(node, "dilations", self.opset) or ())


_GEMM = ("alpha", "transA", "transB")


def _convolution(node: ir.Node, inputs: Sequence[_Integers], target: _Integers) -> _Recipe | None:
    image, weight = inputs[:2]
    if not weight.is_per_tensor and not (weight.is_per_channel and weight.axis == 0):
        return None
    bias = [inputs[2].value] if len(inputs) > 2 else []
    if bias and facts.dtype(bias[0]) != ir.DataType.INT32:
        return None
    return _Recipe(
        op_type="QLinearConv",
        inputs=[*image.three, *weight.three, target.scale, target.zero, *bias],
        attributes=dict(node.attributes),
    )


def _read(value: ir.Value | None) -> _Integers | None:
    """Return the integers that a value is made of by a DequantizeLinear."""
    node = value.producer() if value is not None else None
    if node is None or node.op_type != "DequantizeLinear" or node.domain:
        return None
    return _integers(node.inputs[0], node)


def _integers(value: ir.Value | None, node: ir.Node) -> _Integers | None:
    if value is None or len(node.inputs) < 3 or "block_size" in node.attributes:
        return None
    scale, zero = node.inputs[1:3]
    if scale is None or zero is None:
        return None
    axis = node.attributes["axis"].as_int() if "axis" in node.attributes else 1
    return _Integers(value=value, scale=scale, zero=zero, axis=axis)


def _quantizers(node: ir.Node) -> list[ir.Node]:
    """Return the QuantizeLinear that alone reads each output; none where floats are read."""
    found = []
    for value in node.outputs:
        reader = next(iter(facts.uses(value))).node if facts.is_private(value) else None
        if reader is None or reader.op_type != "QuantizeLinear" or reader.graph is not node.graph:
            return []
        found.append(reader)
    return found


def _same(one: _Integers, two: _Integers) -> bool:
    """Tell whether two tensors have one scale and one zero point, of one type."""
    for mine, other in ((one.scale, two.scale), (one.zero, two.zero)):
        left, right = facts.constant(mine), facts.constant(other)
        if left is None or right is None or left.dtype != right.dtype:
            return False
        if left.ndim or not np.array_equal(left, right):
            return False
    return True
