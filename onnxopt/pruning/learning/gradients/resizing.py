"""Resize and its gradient: a matrix for each axis, found by what onnxruntime makes of unit rows.

Nearest, linear and cubic resizing are linear maps of each axis alone, whatever the coordinates are
that they read at. So a row with a one in it, resized, is a column of the matrix; its transpose
pulls gradients back.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.pruning.learning.gradients.call import (
    Call,
    Inputs,
    Made,
    first_alone,
    given,
    needed,
    optional,
)
from onnxopt.runtime.sessions.session import open_session, run

_KEPT = (
    "coordinate_transformation_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value",
    "mode", "nearest_mode",
)  # fmt: skip
"""Attributes that say the same of one axis as of all."""


def resizes_by_axis(call: Call) -> bool:
    """Tell whether a Resize is the same map at each run, and one of each axis alone."""
    sizes = [call.value(place) for place in (2, 3)]
    fixed = all(value is None or facts.is_constant(value) for value in sizes)
    return (
        call.opset >= 11
        and any(value is not None for value in sizes)
        and fixed
        and not call.get("antialias")
        and str(call.get("keep_aspect_ratio_policy") or "stretch") == "stretch"
        and str(call.get("coordinate_transformation_mode")) != "tf_crop_and_resize"
    )


def resize(call: Call, inputs: Inputs) -> Made:
    """Compute Resize of which `resizes_by_axis` is true."""
    x = needed(inputs, 0)
    scales, sizes = optional(inputs, 2), optional(inputs, 3)
    by_size = scales is None or not scales.size
    to = sizes if by_size else scales
    assert to is not None
    axes = [axis % x.ndim for axis in call.get("axes") or range(x.ndim)]
    kept = tuple((name, call.get(name)) for name in _KEPT if call.get(name) is not None)
    maps = [
        (axis, _matrix(kept, call.opset, x.shape[axis], factor, by_size))
        for axis, factor in zip(axes, to.tolist(), strict=True)
        if factor != (x.shape[axis] if by_size else 1)
    ]
    made = x
    for axis, matrix in maps:
        made = _along(made, matrix, axis)

    def pull(gradients: Inputs) -> Inputs:
        gradient = given(gradients)
        for axis, matrix in reversed(maps):
            gradient = _along(gradient, matrix.T, axis)
        return first_alone(gradient, inputs)

    return (made,), pull


def _along(x: Array, matrix: Array, axis: int) -> Array:
    """Return x with an axis multiplied by a matrix [made, read]."""
    shape = (*x.shape[:axis], len(matrix), *x.shape[axis + 1 :])
    if axis == x.ndim - 1:
        return np.asarray(x.reshape(-1, x.shape[axis]) @ matrix.T).reshape(shape)
    rows = x.reshape(-1, x.shape[axis], int(np.prod(x.shape[axis + 1 :])))
    return np.asarray(np.matmul(matrix, rows)).reshape(shape)


@lru_cache(maxsize=256)
def _matrix(
    kept: tuple[tuple[str, Any], ...], opset: int, size: int, factor: float, by_size: bool
) -> Array:
    """Return the matrix [made, read] of an axis."""
    from onnx import TensorProto, helper

    names = ["x", "", "", "to"] if by_size else ["x", "", "to"]
    if opset < 13:
        names[1] = "roi"
        names[2] = names[2] or "none"
    whole = [size, 1, int(factor), 1] if by_size else [1.0, 1.0, factor, 1.0]
    kind = TensorProto.INT64 if by_size else TensorProto.FLOAT
    empty = [helper.make_tensor(name, TensorProto.FLOAT, [0], []) for name in ("roi", "none")]
    graph = helper.make_graph(
        [helper.make_node("Resize", names, ["y"], **dict(kept))],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [size, 1, size, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [helper.make_tensor("to", kind, [4], whole), *(e for e in empty if e.name in names)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    units = np.eye(size, dtype=np.float32).reshape(size, 1, size, 1)
    (made,) = run(open_session(model.SerializeToString(), threads=1), {"x": units})
    return np.ascontiguousarray(np.asarray(made).reshape(size, -1).T)
