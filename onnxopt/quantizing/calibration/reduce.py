"""Reduces tensors inside the graph, so that of a range only scalars leave it.

For each tensor there are four numbers: least, greatest, a sum, and how many numbers there are.
onnxruntime's ReduceMin and ReduceMax overlook NaN wherever it does not come first (1.32), but a sum
does not: it is NaN where the tensor holds NaN, or numbers so great that sums overflow to both
sides. Who finds NaN there has to look at the values. Of an empty tensor the least number is inf,
the greatest -inf.

onnxruntime reduces a whole tensor on one thread; in two steps, rows first, it uses them all. A
GlobalAveragePool is the cheapest sum: it works on the blocked layout of convolutions too.

onnxruntime executes nodes in the order in which a search from the graph's only leaf, back to front,
leaves them. The rows of a stack therefore stand in the graph in reverse, the first tensor last:
so each tensor is reduced right after it was made, and can be freed (365 MB instead of 628 at the
peak for EfficientNet-Lite0 with a batch of 8).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.calibration.bodies import Bodies

ROWS = 4
"""Numbers for each tensor: least, greatest, sum, count."""

_AXES_ARE_INPUT = {"ReduceSum": 13, "ReduceMin": 18, "ReduceMax": 18}
_SMALL = 1 << 15
"""So many numbers are reduced faster than a second node starts."""


def reducible(value: ir.Value) -> bool:
    """Tell whether onnxruntime has kernels that reduce a tensor of this type."""
    return facts.dtype(value) == ir.DataType.FLOAT


def stack_ranges(bodies: Bodies, values: Sequence[ir.Value]) -> ir.Value:
    """Return a float32 tensor of [4 * len(values)]: least, greatest, sum, count of each tensor.

    The values are those of the main graph and its bodies, in topological order.
    """
    rows: list[ir.Value] = []
    for value in reversed(values):
        rows.extend(reversed(_summary(bodies, bodies.current(value))))
    return _stacked(bodies, rows[::-1])


def stack_sizes(bodies: Bodies, values: Sequence[ir.Value]) -> ir.Value:
    """Return an int64 tensor of [len(values)]: how many numbers each tensor of the main graph has.

    The values are in topological order.
    """
    rows = [_one(bodies, _size(bodies, bodies.current(value))) for value in reversed(values)]
    return _stacked(bodies, rows[::-1])


def _stacked(bodies: Bodies, rows: Sequence[ir.Value]) -> ir.Value:
    stacked = bodies.compute(bodies.main, "Concat", *rows, axis=0)
    stacked.shape = ir.Shape([len(rows)])
    return stacked


def _summary(bodies: Bodies, value: ir.Value) -> list[ir.Value]:
    graph = value.graph
    assert graph is not None
    count = bodies.compute(graph, "Cast", _size(bodies, value), to=ir.DataType.FLOAT)
    count.type, count.shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    found = (
        (_reduced(bodies, value, "ReduceMin"), "ReduceMin", np.inf),
        (_reduced(bodies, value, "ReduceMax"), "ReduceMax", -np.inf),
        (_summed(bodies, value), "ReduceSum", 0.0),
        (count, "ReduceSum", 0.0),
    )
    return [
        _one(bodies, bodies.reduced(scalar, op_type, np.array(neutral, np.float32)))
        for scalar, op_type, neutral in found
    ]


def _size(bodies: Bodies, value: ir.Value) -> ir.Value:
    assert value.graph is not None
    size = bodies.compute(value.graph, "Size", value)
    size.type, size.shape = ir.TensorType(ir.DataType.INT64), ir.Shape([])
    return size


def _one(bodies: Bodies, scalar: ir.Value) -> ir.Value:
    """Make a scalar a tensor of [1]."""
    target = bodies.constant(bodies.main, np.array([1], np.int64))
    return bodies.compute(bodies.main, "Reshape", scalar, target)


def _summed(bodies: Bodies, value: ir.Value) -> ir.Value:
    shape = facts.shape(value)
    assert value.graph is not None
    # An empty map would be refused.
    if shape is not None and len(shape) == 4 and all(_positive(dim) for dim in shape[1:]):
        value = bodies.compute(value.graph, "GlobalAveragePool", value)
        return _whole(bodies, value, "ReduceSum")
    return _reduced(bodies, value, "ReduceSum")


def _reduced(bodies: Bodies, value: ir.Value, op_type: str) -> ir.Value:
    """Reduce a tensor to a scalar, in two steps where it is large."""
    axes, graph = _rows_of(value), value.graph
    assert graph is not None
    if axes:
        if bodies.editor.opset(graph) >= _AXES_ARE_INPUT[op_type]:
            given = bodies.constant(graph, np.array(axes, np.int64))
            value = bodies.compute(graph, op_type, value, given, keepdims=0)
        else:
            value = bodies.compute(graph, op_type, value, axes=list(axes), keepdims=0)
    return _whole(bodies, value, op_type)


def _whole(bodies: Bodies, value: ir.Value, op_type: str) -> ir.Value:
    assert value.graph is not None
    scalar = bodies.compute(value.graph, op_type, value, keepdims=0)
    scalar.shape = ir.Shape([])
    return scalar


def _rows_of(value: ir.Value) -> tuple[int, ...]:
    """Return the axes to reduce first: maps of images, else the last axis; none of the small."""
    shape = facts.shape(value)
    if shape is None or len(shape) < 2:
        return ()
    known = facts.static_shape(value)
    if known is not None and int(np.prod(known, dtype=np.int64)) <= _SMALL:
        return ()
    return (2, 3) if len(shape) == 4 else (len(shape) - 1,)


def _positive(dim: facts.Dim) -> bool:
    return isinstance(dim, int) and dim > 0
