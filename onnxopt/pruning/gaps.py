"""What a layer reads in both models, and what is off in that which is added to its output."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.weights.rank import Gap
from onnxopt.sweep import patches
from onnxopt.sweep.line import Line
from onnxopt.sweep.together import Stop


def pairs(stop: Stop) -> Iterator[tuple[Array, Array]]:
    """Yield what a layer reads of each sample in both models, as [1, rows, columns]."""
    node, other = stop.node, stop.teacher.nodes[stop.name]
    for sample in range(stop.samples):
        yield (
            patches.read_by(_get(stop.teacher, sample, other), other, stop.student.model),
            patches.read_by(_get(stop.student, sample, node), node, stop.student.model),
        )


def _get(line: Line, sample: int, node: ir.Node) -> Array:
    value = node.inputs[0]
    assert value is not None
    return line.get(sample, value.name or "")


def gap_of(stop: Stop, outputs: int, wanted: Callable[[int], bool] = lambda _: True) -> Gap | None:
    """Return what is off in that which is added to a layer's output; None where nothing is known.

    It has to be computed before the layer is, as the other side of a residual sum is. Only samples
    that are `wanted`, by number, are looked at.
    """
    added = _added(stop.node)
    parts: list[Array] = []
    count = 0
    for sample, (_, q) in enumerate(pairs(stop)):
        if not wanted(sample):
            continue
        try:
            off = stop.teacher.get(sample, added) - stop.student.get(sample, added)
        except KeyError:
            return None
        e = _rows_of_sum(off, stop.node, q.shape[2])
        if len(q) != 1 or e.shape != (q.shape[1], outputs):
            return None
        now = (e.T @ q[0] / len(e), e.mean(axis=0), q[0].mean(axis=0))
        parts = [one + other for one, other in zip(parts, now, strict=True)] if parts else [*now]
        count += 1
    if not count:
        return None
    cross, mean, seen = (part / count for part in parts)
    return Gap(cross=cross - np.outer(mean, seen), mean=mean)


def _added(node: ir.Node) -> str:
    """Return the name of what is added to a layer's output, behind its bias."""
    value = node.outputs[0]
    while facts.is_private(value):
        use = next(iter(facts.uses(value)))
        if use.node.op_type != "Add" or use.node.graph is not node.graph:
            return ""
        other = use.node.inputs[1 - use.idx]
        if not facts.is_constant(other):
            return "" if other is None else other.name or ""
        value = use.node.outputs[0]
    return ""


def _rows_of_sum(off: Array, node: ir.Node, columns: int) -> Array:
    """Return the rows of a tensor beside a layer's output that go with those of its input."""
    if node.op_type == "Conv":
        ones = (1,) * (off.ndim - 2)
        window = patches.Window(
            kernel=ones, strides=ones, dilations=ones, pads=(0,) * (2 * len(ones))
        )
        return np.asarray(patches.convolved(off, window, patches.enough(columns))[0])
    rows = off.reshape(-1, off.shape[-1])
    return np.asarray(rows[:: max(1, math.ceil(len(rows) / patches.enough(columns)))])
