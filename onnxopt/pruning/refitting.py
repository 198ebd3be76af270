"""Refits what is left of each layer, from front to back, to the outputs of the original model.

That model is the teacher, a copy whose layers no longer read what is gone is the student. Each
layer is fitted to what the teacher's makes of the teacher's input, reading what the student has at
that place: so it makes up for what the layers in front have lost, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.judging.samples import Samples
from onnxopt.pruning.plan import Groups, Keep
from onnxopt.pruning.seeing import SEEN, Progress, is_seen, nodes_of, see
from onnxopt.pruning.weights import refit as closed
from onnxopt.pruning.weights.solvers.problem import Multiplied
from onnxopt.pruning.weights.solvers.solver import SOLVERS
from onnxopt.pruning.weights.solvers.stepping import refit_by_steps
from onnxopt.sweep import matrix
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.together import Stop, said, together


@dataclass(frozen=True, kw_only=True)
class Way:
    """How layers are refitted.

    `ridge`, in mean diagonals of a Gram matrix, pulls the weights towards what they were. None:
    that of `ridges` where the layer is known there, for others the one that errs least on samples
    that were put aside. Behind layers that err, that one pulls too hard for what comes after.
    """

    ridge: float | None = None
    solver: str = "exact"
    ridges: Mapping[str, float] = field(default_factory=dict)

    def of(self, layer: str) -> float | None:
        """Return the ridge of a layer; None where it is to be chosen."""
        return self.ridges.get(layer) if self.ridge is None else self.ridge


@dataclass(kw_only=True)
class Refitted:
    """What came of each layer: its ridge, and its error on held-out samples over its energy."""

    ridges: dict[str, float] = field(default_factory=dict)
    lost: dict[str, float] = field(default_factory=dict)


def kept_columns(groups: Groups, keep: Keep, model: ir.Model) -> dict[str, Array]:
    """Return by layer which of its columns stay, bool [columns]; not of layers that lose none."""
    nodes, opset = nodes_of(model), model.opset_imports.get("", 0)
    found: dict[str, Array] = {}
    for group in groups:
        stays = keep.get(group.name)
        if stays is None or stays.all():
            continue
        for part in group.of("reads"):
            node = nodes.get(part.edge.node)
            if node is None or part.edge.place != 1 or not matrix.is_layer(node, opset):
                continue
            units = matrix.columns_of(part.units, node)
            mine = np.where(units >= 0, stays[units], True)
            found[part.edge.node] = found.get(part.edge.node, np.ones(len(mine), bool)) & mine
    return found


def prepare(model: ir.Model) -> None:
    """Give every layer of the graph itself a bias of its own: a refit then changes numbers alone.

    Zeros that stay zeros are taken away by whoever optimizes the result.
    """
    editor = Editor(model)
    for node in list(model.graph):
        if is_seen(node, model):
            bias = node.inputs[2] if node.op_type != "MatMul" and len(node.inputs) > 2 else None
            if bias is None or facts.is_constant(bias):
                matrix.biased(editor, node)


def refit(
    teacher: ir.Model,
    student: ir.Model,
    columns: Mapping[str, Array],
    samples: Samples,
    way: Way,
    *,
    most: int = SEEN,
    room: int = 1 << 29,
    progress: Progress | None = None,
) -> Refitted:
    """Refit the layers of `columns` in `student`, which has been masked, in place.

    Both models were prepared by `prepare`. `columns` tells for each layer which of its columns may
    be used; `most` samples are looked at.
    """
    editor, opset = Editor(student), student.opset_imports.get("", 0)
    done = Refitted()
    aside = samples.aside(most)

    def visit(stop: Stop) -> None:
        fit, other = see(stop, aside)
        rows = matrix.rows_of(stop.teacher.nodes[stop.name], opset)
        found, ridge, lost = solve(
            rows, columns[stop.name], fit, other, way.of(stop.name), way.solver
        )
        done.ridges[stop.name], done.lost[stop.name] = ridge, lost
        node = stop.node
        edge = matrix.biased(editor, node)
        matrix.set_rows(editor, node, found.rows)
        matrix.add_to_bias(editor, student, edge, found.shift)

    feeds = (feed for _, feed in samples.numbered(most))
    together(
        teacher, student, columns, feeds, visit, room=room, progress=said(progress, "refitting")
    )
    return done


def averaged(one: ir.Model, other: ir.Model) -> ir.Model:
    """Return a copy of two models that are alike but for numbers, which are the mean of both.

    Errors of two refits of the same cut are partly their own: their mean has less of them.
    """
    made = other.clone()
    editor, first = Editor(made), nodes_of(one)
    for name, node in nodes_of(made).items():
        for place, value in enumerate(list(node.inputs)):
            array, mine = facts.constant(value), facts.constant(first[name].inputs[place])
            if array is None or mine is None or array.dtype.kind != "f":
                continue
            if not np.array_equal(array, mine, equal_nan=True):
                mean = 0.5 * (array.astype(np.float64) + mine)
                matrix.set_constant(editor, node, place, mean.astype(array.dtype))
    return made


def solve(
    rows: Array,
    kept: Array,
    fit: Moments,
    held: Moments,
    ridge: float | None = None,
    solver: str = "exact",
) -> tuple[closed.Refit, float, float]:
    """Return a layer's new rows, the ridge, and the loss on held-out samples over their energy.

    Without a ridge it is chosen. Once it is known, the rows are found on all samples.
    """
    if ridge is None:
        if held.samples and fit.samples:
            ridge = closed.choose_ridge(rows, kept, fit, held).ridge
        else:
            ridge = closed.RIDGES[len(closed.RIDGES) // 2]
    lost = 0.0
    if held.samples and fit.samples:
        tried = closed.refit(rows, kept, fit, ridge=ridge)
        energy = float(closed.energies(rows, held).sum()) or 1.0
        lost = float(closed.noise(tried.rows, tried.shift, rows, held).sum()) / energy
    whole = fit.merged(held) if held.samples else fit
    if solver != "exact":
        return stepped(rows, kept, whole, ridge, solver), ridge, lost
    return closed.refit(rows, kept, whole, ridge=ridge), ridge, lost


def stepped(rows: Array, kept: Array, moments: Moments, ridge: float, name: str) -> closed.Refit:
    """Return what the closed form returns, by the gradient steps of a solver."""
    gram, cross = moments.centred()
    made = np.zeros(rows.shape)
    each = len(rows) // len(gram)
    for group, square in enumerate(gram):
        mine = slice(group * each, (group + 1) * each)
        problem = Multiplied(
            times=square.astype(np.float64).__rmatmul__,
            wanted=np.asarray(rows[mine], np.float64) @ cross[group],
            diagonal=np.diagonal(square).astype(np.float64),
            mean=moments.mean[group],
            seen=moments.seen[group],
        )
        found = refit_by_steps(rows[mine], kept, problem, SOLVERS[name](), ridge=ridge)
        made[mine] = found.rows
    shift = closed.shifted(rows, made, moments)
    return closed.Refit(rows=made, shift=shift, error=closed.noise(made, shift, rows, moments))
