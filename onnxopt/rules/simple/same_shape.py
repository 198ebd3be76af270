"""Nodes that would reshape, cut, pad, repeat or resample, but leave everything where it is."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.layout.slices import read_slice

_OPEN_ENDED = frozenset({"tf_crop_and_resize", "tf_half_pixel_for_nn"})
_REDUCTIONS_OF_ONE = frozenset({"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"})


@rule(
    op.Reshape(bind="node")
    | op.Flatten(bind="node")
    | op.Squeeze(bind="node")
    | op.Unsqueeze(bind="node")
)
def drop_reshape_to_same_shape(new: Builder, node: ir.Node) -> Any:
    """Reshape, Flatten, Squeeze and Unsqueeze to the shape that the input has become the input."""
    x, y = node.inputs[0], node.outputs[0]
    before, after = dims.shape(x), dims.shape(y)
    if before is None or after is None or len(before) != len(after):
        return None
    if node.op_type in ("Squeeze", "Unsqueeze"):
        return x
    return x if dims.same_by_count(before, after) else None


@rule(op.Expand(bind="node") | op.Tile(bind="node"))
def drop_expand_to_same_shape(new: Builder, node: ir.Node) -> Any:
    """Expand and Tile to the shape that the input has become the input."""
    x, y = node.inputs[0], node.outputs[0]
    if dims.same_shape(x, y):
        return x
    sizes = facts.integers(node.inputs[1]) if len(node.inputs) == 2 else None
    if sizes is None:
        return None
    if node.op_type == "Tile":
        return x if all(size == 1 for size in sizes) else None
    return x if dims.broadcast_keeps(x, sizes) else None


@rule(op.Slice(bind="node"))
def drop_slice_of_all(new: Builder, node: ir.Node) -> Any:
    """Slice from the first element to the last, forwards, becomes its input."""
    x = node.inputs[0]
    cut = read_slice(node, new.opset)
    if cut is None or x is None:
        return None
    shape = dims.shape(x)
    for axis, part in cut.items():
        size = shape[axis] if shape is not None and axis < len(shape) else None
        if isinstance(size, int):
            if range(size)[part] != range(size):
                return None
        elif part.start != 0 or part.step != 1 or not _is_beyond(part.stop, shape):
            return None
    return x


def _is_beyond(stop: int, shape: tuple[facts.Dim, ...] | None) -> bool:
    """Tell whether no axis can be longer: a tensor of that size would have 2⁴⁰ elements or more."""
    sizes = [dim for dim in shape or () if isinstance(dim, int)]
    return stop >= dims.TO_THE_END or stop * math.prod(sizes) >= 1 << 40


@rule(op.Pad(bind="node"))
def drop_empty_pad(new: Builder, node: ir.Node) -> Any:
    """Pad by nothing becomes its input."""
    pads = new.attribute(node, "pads") if len(node.inputs) == 1 else facts.integers(node.inputs[1])
    return node.inputs[0] if pads and not any(pads) else None


@rule(
    op.AveragePool(bind="node")
    | op.MaxPool(bind="node")
    | op.DepthToSpace(blocksize=1, bind="node")
    | op.SpaceToDepth(blocksize=1, bind="node")
)
def drop_pool_of_one(new: Builder, node: ir.Node) -> Any:
    """A pool over windows of one element without stride or pads, and blocks of one, become x."""
    x = node.inputs[0]
    if not node.op_type.endswith("Pool"):
        return x
    ones = (*new.attribute(node, "kernel_shape"), *(new.attribute(node, "strides") or ()))
    pads = new.attribute(node, "pads") or ()
    return x if set(ones) == {1} and not any(pads) else None


@rule(op.GlobalAveragePool(bind="node") | op.GlobalMaxPool(bind="node"))
def drop_global_pool_of_one(new: Builder, node: ir.Node) -> Any:
    """A global pool over one position becomes its input."""
    shape = dims.shape(node.inputs[0])
    return node.inputs[0] if shape is not None and set(shape[2:]) == {1} else None


@rule(op.Resize(bind="node") | op.Upsample(bind="node"))
def drop_resize_to_same_size(new: Builder, node: ir.Node) -> Any:
    """Resize by factors of one becomes its input."""
    x = node.inputs[0]
    if new.attribute(node, "coordinate_transformation_mode") in _OPEN_ENDED:
        return None
    scales, sizes = scales_and_sizes(new, node)
    if scales is not None and scales.size:
        return x if np.all(scales == 1) else None
    if sizes is None or node.attributes.get("axes") is not None:
        return None
    return x if facts.static_shape(x) == sizes else None


def scales_and_sizes(new: Builder, node: ir.Node) -> tuple[Any, tuple[int, ...] | None]:
    """Return what Upsample and Resize of any operator set say about the size, where known now."""
    inputs = [*node.inputs, None, None, None]
    if "scales" in node.attributes:
        return np.array(new.attribute(node, "scales")), None
    if node.op_type == "Upsample" or new.opset < 11:
        return facts.constant(inputs[1]), None
    return facts.constant(inputs[2]), facts.integers(inputs[3])


@rule(
    op.ReduceSum(bind="node")
    | op.ReduceMean(bind="node")
    | op.ReduceMax(bind="node")
    | op.ReduceMin(bind="node")
    | op.ReduceProd(bind="node")
)
def drop_reduction_of_one(new: Builder, node: ir.Node) -> Any:
    """A sum, mean, product or extreme over axes of size one becomes x, or Squeeze(x)."""
    x = node.inputs[0]
    shape = dims.shape(x)
    axes = facts.axes(node, new.opset)
    if x is None or shape is None or axes is None:
        return None
    if not axes:
        axes = () if new.attribute(node, "noop_with_empty_axes") else tuple(range(len(shape)))
    known = dims.normalized_axes(axes, len(shape))
    if known is None or any(shape[axis] != 1 for axis in known):
        return None
    if new.attribute(node, "keepdims") or not known:
        return x
    return new.with_axes("Squeeze", x, known)
