"""Tells of what shape each value is when the inputs have sizes: what a cost has to be told by."""

from __future__ import annotations

import logging
from collections.abc import Mapping

import onnx

from onnxopt.graph._onnx_ir import ir
from onnxopt.passes.declared import declare

Shape = tuple[int, ...]


def concrete(model: ir.Model, given: Mapping[str, Shape]) -> dict[str, Shape]:
    """Infer the shapes of values by name, where those of inputs and of other values are `given`.

    A dimension that cannot be told is 1. The model is not changed.
    """
    proto = declare(model).proto
    graph = proto.graph
    sizes: dict[str, int] = {}
    for info in graph.input:
        dims = info.type.tensor_type.shape.dim
        sizes |= {
            dim.dim_param: size
            for dim, size in zip(dims, given.get(info.name, ()), strict=False)
            if dim.dim_param
        }
    for info in (*graph.input, *graph.value_info, *graph.output):
        _fill(info.type.tensor_type.shape, given.get(info.name), sizes)
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    except (onnx.shape_inference.InferenceError, RuntimeError, ValueError) as error:
        logging.getLogger(__name__).info("shape inference failed: %s", error)
        inferred = graph
    found = dict(given)
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if info.type.tensor_type.HasField("shape") and (all(shape) or info.name not in found):
            found[info.name] = tuple(size or 1 for size in shape)
    return found


def _fill(shape: onnx.TensorShapeProto, given: Shape | None, sizes: Mapping[str, int]) -> None:
    """Write sizes where names stood; those given win."""
    for axis, dim in enumerate(shape.dim):
        if given is not None and axis < len(given):
            dim.dim_value = given[axis]
        elif dim.dim_param in sizes:
            dim.dim_value = sizes[dim.dim_param]
