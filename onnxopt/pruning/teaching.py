"""Refits a changed model block by block to what the blocks of the original make.

The last layer of a residual block is given another weight, so that the sum behind it comes as near
as it can to that of the original: with q what it reads by now, and m what is missing in the sum,

    W' = W + E[m qᵀ](G + λ)⁻¹,   m = W₀ x + s₀ - W q - s,

about the means, s what else is in the sum. Samples that were held back choose λ, infinity among
the choices: then only the bias is corrected. What is zero in q everywhere stays unread.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.judging.samples import Samples
from onnxopt.pruning.factored import factorable
from onnxopt.pruning.gaps import gap_of, pairs
from onnxopt.pruning.weights import factor
from onnxopt.pruning.weights.rank import Gap, energies
from onnxopt.sweep import matrix
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.together import Stop, moments, together

RIDGES = (0.3, 1.0, 3.0, 10.0, 30.0, math.inf)
"""In mean diagonals; smaller ones learn the samples by heart."""
_LEAST = 1e-4
"""Gain below which a layer is left as it was."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """A layer that was refitted, with which ridge.

    `gained` is by how much the error of the sum behind it fell where samples were held back, over
    the energy of the layer's own output.
    """

    node: str
    ridge: float
    gained: float


def teach(
    teacher: ir.Model,
    student: ir.Model,
    samples: Samples,
    *,
    protect: Collection[str] = (),
    ridges: Collection[float] = RIDGES,
    room: int = 1 << 30,
    progress: Callable[[str, float | None], None] | None = None,
) -> tuple[Lesson, ...]:
    """Refit the layers of `student` that end residual blocks, in place and from front to back.

    Layers are known by their names; those that the models do not share, or whose shapes differ,
    stay as they are. Without samples that are held back nothing is done.
    """
    editor, lessons = Editor(student), []
    known = factorable(teacher)
    nodes = {name: node for name, node in factorable(student, protect).items() if name in known}
    for node in nodes.values():
        matrix.biased(editor, node)

    def visit(stop: Stop) -> None:
        lesson = _taught(editor, stop, samples, ridges)
        if lesson is not None:
            lessons.append(lesson)

    if nodes and samples.held_count:
        together(
            teacher,
            student,
            list(nodes),
            samples.all(),
            visit,
            room=room,
            progress=None if progress is None else lambda done: progress("teaching", done),
        )
    return tuple(lessons)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Missing:
    """What is missing in a sum: E[m qᵀ] and G about the means, E[m] and E[q]."""

    cross: Array
    gram: Array
    mean: Array
    seen: Array

    @classmethod
    def of(cls, first: Array, rows: Array, bias: Array, seen: Moments, gap: Gap) -> _Missing:
        """Return it from W₀ and W, what is off in the bias, in the input and beside the layer."""
        gram, cross = (part[0].astype(np.float64) for part in seen.centred())
        return cls(
            cross=first @ cross - rows @ gram + gap.cross,
            gram=gram,
            mean=first @ seen.mean[0] - rows @ seen.seen[0] + bias + gap.mean,
            seen=seen.seen[0],
        )

    def more(self, ridge: float) -> Array:
        """Return what is to be added to the weight."""
        if not math.isfinite(ridge):
            return np.zeros_like(self.cross)
        return factor.solve(factor.ridged(self.gram, ridge)[0], self.cross.T).T

    def change(self, more: Array, shift: Array) -> float:
        """Return by how much a change of weight and bias changes the error, E‖m‖²."""
        told = np.sum((more @ self.gram) * more) - 2 * np.sum(more * self.cross)
        mean = self.mean - more @ self.seen - shift
        return float(told + np.sum(mean**2) - np.sum(self.mean**2))


def _taught(
    editor: Editor, stop: Stop, samples: Samples, ridges: Collection[float]
) -> Lesson | None:
    node, opset = stop.node, editor.opset(stop.node.graph)
    first = matrix.rows_of(stop.teacher.nodes[stop.name], opset).astype(np.float64)
    rows = matrix.rows_of(node, opset).astype(np.float64)
    if first.shape != rows.shape:
        return None
    fitted = gap_of(stop, len(rows), lambda sample: not samples.is_held(sample))
    kept = gap_of(stop, len(rows), samples.is_held)
    if fitted is None or kept is None:
        return None
    bias = _bias(stop.teacher.nodes[stop.name], len(rows)) - _bias(node, len(rows))
    seen, other = moments(pairs(stop), samples.is_held)
    fit = _Missing.of(first, rows, bias, seen, fitted)
    held = _Missing.of(first, rows, bias, other, kept)
    tried = {}
    for ridge in ridges:
        more = fit.more(ridge)
        tried[ridge] = (held.change(more, fit.mean - more @ fit.seen), more)
    ridge = min(tried, key=lambda one: tried[one][0])
    change, more = tried[ridge]
    gained = -change / max(float(energies(first, other).sum()), 1e-30)
    if gained < _LEAST:
        return None
    edge = matrix.biased(editor, node)
    holder = stop.student.nodes.get(edge.node) or _reader(node)
    old = facts.constant(holder.inputs[edge.place])
    assert old is not None
    shift = fit.mean - more @ fit.seen
    matrix.set_constant(editor, holder, edge.place, np.asarray(old + shift, old.dtype))
    matrix.set_rows(editor, node, rows + more)
    return Lesson(node=stop.name, ridge=ridge, gained=gained)


def _bias(node: ir.Node, outputs: int) -> Array:
    """Return the bias of a layer, zeros where it has none."""
    value = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
    if node.op_type == "MatMul" and facts.is_private(node.outputs[0]):
        use = next(iter(facts.uses(node.outputs[0])))
        if use.node.op_type == "Add":
            value = use.node.inputs[1 - use.idx]
    held = facts.constant(value)
    fits = held is not None and held.shape == (outputs,)
    return np.asarray(held, np.float64) if fits else np.zeros(outputs)


def _reader(node: ir.Node) -> ir.Node:
    found: ir.Node = next(iter(facts.uses(node.outputs[0]))).node
    return found
