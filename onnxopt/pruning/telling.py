"""Puts what was taken out and found into the words and numbers of the report."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from statistics import median

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import decibel
from onnxopt.pruning.blocks.worth import Point
from onnxopt.pruning.budget.allocate import Cut, Front
from onnxopt.pruning.factoring import Factored
from onnxopt.report import PrunedPart, PrunePoint

_WHOLE = "it loses more than others do for the same gain"
_HOW = {
    "identity": "what it reads in its place",
    "scale": "a scale and shift of each channel in its place",
    "map": "a fitted map in its place",
}


def sparsity(parts: Iterable[PrunedPart]) -> float:
    """Return the share of units that went: of elements, channels, blocks or ranks."""
    before = after = 0
    for part in parts:
        before += part.before
        after += part.after
    return 1 - after / before if before else 0.0


def everything(size: int) -> Array:
    """Return the mask of a group that stays whole."""
    return np.ones(size, bool)


def middle(ridges: Sequence[float]) -> float | None:
    """Return the ridge in the middle of those that layers were refitted by."""
    return float(median(ridges)) if ridges else None


def front(
    found: Front, chosen: Cut, noise: Callable[[Cut], float] | None, most: int
) -> tuple[PrunePoint, ...]:
    """Return points of a front, from the whole model on, some of them judged by `noise`."""
    cuts = [cut for cut in found.cuts if cut.kept != chosen.kept]
    judged: set[int] = set()
    if noise is not None and cuts:
        places = np.linspace(1, len(cuts), min(most, len(cuts)), endpoint=False).astype(int)
        judged = {min(int(place), len(cuts) - 1) for place in places}
    points = [
        _point(cut, noise(cut) if noise is not None and place in judged else None)
        for place, cut in enumerate(cuts)
    ]
    points.append(replace(_point(chosen, None), chosen=True))
    return tuple(sorted(points, key=lambda point: -point.macs))


def _point(cut: Cut, noise: float | None) -> PrunePoint:
    return PrunePoint(
        name=f"{cut.macs:.2f}× MACs",
        macs=cut.macs,
        parameters=cut.parameters,
        predicted=cut.ms,
        sqnr_db=None if noise is None else decibel(noise),
    )


def with_chosen(points: Iterable[PrunePoint], noise: float | None) -> tuple[PrunePoint, ...]:
    """Return points of which the chosen one has the error of the result."""
    known = None if noise is None else decibel(noise)
    return tuple(replace(point, sqnr_db=known) if point.chosen else point for point in points)


def blocks(point: Point, macs: float) -> tuple[PrunedPart, ...]:
    """Say which blocks went, and what came in their place."""
    return tuple(
        PrunedPart(
            name=trial.block.name,
            nodes=trial.block.nodes,
            unit="blocks",
            before=1,
            after=0,
            reason=f"{_HOW[trial.how]}; {decibel(trial.noise):.1f} dB with it gone",
            lost_db=None if trial.seen is None else decibel(trial.seen),
            macs_before=round(trial.saved * macs),
            macs_after=0,
        )
        for trial in point.removed
    )


def block_front(points: Sequence[Point], model: ir.Model) -> tuple[PrunePoint, ...]:
    """Return what each block that went left of the model."""
    whole = parameters(model)
    return tuple(
        PrunePoint(
            name=f"{len(point.removed)} out",
            macs=point.cost,
            parameters=parameters(point.model) / max(whole, 1),
            sqnr_db=point.sqnr_db,
            chosen=place == len(points) - 1,
        )
        for place, point in enumerate(points)
    )


def parameters(model: ir.Model) -> int:
    """Count the elements of the initializers of a model."""
    return sum(
        math.prod(facts.static_shape(value) or (0,))
        for graph in facts.graphs_within(model.graph)
        for value in graph.initializers.values()
    )


def ranks(found: Factored) -> tuple[PrunedPart, ...]:
    """Say which layers were split in two, and by what rank."""
    return tuple(
        PrunedPart(
            name=layer.nodes[0],
            nodes=layer.nodes,
            unit="ranks",
            reason="" if layer.rank is not None else _WHOLE,
            before=min(layer.outputs, layer.columns),
            after=layer.rank if layer.rank is not None else min(layer.outputs, layer.columns),
            lost_db=None if layer.rank is None else decibel(max(layer.lost, 0.0)),
            macs_before=layer.macs_before,
            macs_after=layer.macs_after,
        )
        for layer in found.layers
    )
