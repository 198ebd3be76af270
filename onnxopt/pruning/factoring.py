"""Gives layers a low rank, where that takes fewer multiplications, from front to back.

Layers that read the same (the queries, keys and values of attention) share the factor in front: for
the same work they keep more. Where something is added to a layer's output, as in a residual block,
the layer makes up for what is off in that, too.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import OnnxOptError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.graph.profile import known_macs
from onnxopt.judging.samples import Samples
from onnxopt.pruning.factored import factor_layers, factorable, siblings, sides
from onnxopt.pruning.gaps import gap_of, pairs
from onnxopt.pruning.weights import rank as ranks
from onnxopt.sweep import matrix
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.together import Stop, moments, together

_STEP = 8
"""Ranks are multiples of it: what kernels like."""
Progress = Callable[[str, float | None], None]
Noise = Callable[[Path], float]
"""Says how far a model is from the one that nothing was taken from: noise over signal of outputs,
on samples that nothing was fitted on."""
Ranks = Mapping[tuple[str, ...], int | None]
"""By the nodes of a unit; None where they stay whole."""


@dataclass(frozen=True, kw_only=True)
class FactoredLayer:
    """Layers that read the same and were looked at: `rank` is None where they stayed whole.

    `outputs` are those of all of them. MACs are those of one run, as `profile.macs` counts them.
    `lost` is the error over the energy of the outputs where samples were held back, for the input
    that they get by then.
    """

    nodes: tuple[str, ...]
    outputs: int
    columns: int
    rank: int | None
    macs_before: int
    macs_after: int
    lost: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Factored:
    """A model with factored layers; `share` is what is left of the MACs of the layers looked at."""

    model: ir.Model
    layers: tuple[FactoredLayer, ...]
    share: float


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Layers that get one rank: the names of their nodes, and the matrix they make up together."""

    nodes: tuple[str, ...]
    outputs: int
    columns: int
    macs: int

    @property
    def most(self) -> int:
        """The highest rank that takes fewer multiplications."""
        return ranks.break_even(self.outputs, self.columns)

    def work(self, rank: int | None) -> float:
        """Return the MACs of a rank."""
        if rank is None:
            return self.macs
        return self.macs * rank * (self.outputs + self.columns) / (self.outputs * self.columns)


def factored(
    model: ir.Model,
    samples: Samples,
    share: float,
    *,
    protect: Collection[str] = (),
    noise: Noise | None = None,
    ridge: float = 0.03,
    pull: float = 1.0,
    room: int = 1 << 30,
    progress: Progress | None = None,
) -> Factored:
    """Return a copy whose layers keep a share of their MACs, split where that loses least.

    `noise` judges models; each layer is split alone to see how much of its error arrives at the
    outputs, and ranks are given out by that per MAC. Without it every layer keeps the same share:
    errors of layers cannot be compared, a few outputs of great energy would speak for them all.
    Then each is split in turn, to come near to what it made in `model` with the input that it gets
    by now. `ridge` and `pull` are those of `rank.spectrum`. Samples that are held back are never
    fitted, so that `noise` may be of them.
    """
    work = _Work(model, samples, protect, ridge, pull)
    chosen = {unit.nodes: _even(unit, share) for unit in work.units.values()}

    def told(text: str) -> Callable[[float], None] | None:
        return None if progress is None else lambda done: progress(text, done)

    stops = [unit.nodes[0] for unit in work.units.values()]
    if noise is not None and stops:
        together(
            model, work.student, stops, samples.all(), partial(work.look, chosen), room=room,
            progress=told("looking at layers"),
        )  # fmt: skip
        arriving = work.arriving(noise, told("splitting each layer alone"))
        chosen = allocate(list(work.units.values()), arriving, share)
    layers: list[FactoredLayer] = []
    if stops:
        together(
            model, work.student, stops, samples.all(),
            lambda stop: layers.append(work.split(stop, chosen)), room=room,
            progress=told("splitting layers"),
        )  # fmt: skip
    before = sum(layer.macs_before for layer in layers)
    left = sum(layer.macs_after for layer in layers) / max(before, 1)
    return Factored(model=work.student, layers=tuple(layers), share=left)


class _Work:
    """The model on its way to low rank, and what is known of its layers."""

    def __init__(
        self,
        model: ir.Model,
        samples: Samples,
        protect: Collection[str],
        ridge: float,
        pull: float,
    ) -> None:
        self.student = model.clone()
        self.editor = Editor(self.student)
        self.samples, self.ridge, self.pull = samples, ridge, pull
        self.opset = self.student.opset_imports.get("", 0)
        self.nodes = factorable(self.student, protect)
        # Before any segment is cut: a bias is a node more.
        for node in self.nodes.values():
            matrix.biased(self.editor, node)
        self.units = {
            group[0].name or "": self._unit(group) for group in siblings(self.nodes.values())
        }
        self.curves: dict[tuple[str, ...], Array] = {}
        self.alone: dict[tuple[str, ...], ranks.Factors] = {}

    def _unit(self, group: Sequence[ir.Node]) -> Unit:
        sizes = [sides(node, self.opset) for node in group]
        macs = sum(
            known_macs(node) or math.prod(size) for node, size in zip(group, sizes, strict=True)
        )
        return Unit(
            nodes=tuple(node.name or "" for node in group),
            outputs=sum(size[0] for size in sizes),
            columns=sizes[0][1],
            macs=macs,
        )

    def look(self, chosen: Ranks, stop: Stop) -> None:
        """See what each rank of a unit loses while nothing is split yet."""
        unit = self.units[stop.name]
        fit, _ = self._moments(stop)
        rows, weights = self._rows(unit, fit)
        seen = ranks.spectrum(rows, fit, self.ridge, math.inf, weights=weights)
        self.curves[unit.nodes] = seen.lost
        rank = chosen[unit.nodes]
        if rank is not None:
            self.alone[unit.nodes] = ranks.cut_off(rows, fit, seen, rank)

    def arriving(
        self, noise: Noise, progress: Callable[[float], None] | None
    ) -> dict[tuple[str, ...], Array]:
        """Return by unit what each rank loses at the model's outputs, by what one of them does.

        A unit whose loss cannot be measured stays whole.
        """
        found = {name: np.full(len(curve), math.inf) for name, curve in self.curves.items()}
        for number, (name, made) in enumerate(self.alone.items()):
            model = self.student.clone()
            nodes = {node.name: node for node in model.graph}
            factor_layers(Editor(model), [nodes[one] for one in name], made)
            lost = _judged(model, noise)
            here = float(self.curves[name][len(made.down)])
            if math.isfinite(lost):
                found[name] = self.curves[name] * (lost / here if here > 0 else 0.0)
            if progress is not None:
                progress((number + 1) / len(self.alone))
        return found

    def split(self, stop: Stop, chosen: Ranks) -> FactoredLayer:
        """Give a unit its rank."""
        unit = self.units[stop.name]
        rank, loss = chosen[unit.nodes], 0.0
        if rank is not None:
            fit, held = self._moments(stop)
            rows, weights = self._rows(unit, fit)
            fitted = partial(_is_fitted, self.samples)
            gap = gap_of(stop, len(rows), fitted) if len(unit.nodes) == 1 else None
            found = ranks.spectrum(rows, fit, self.ridge, self.pull, weights=weights, gap=gap)
            made = ranks.cut_off(rows, fit, found, rank, gap)
            if held.samples:
                loss = ranks.lost(rows, held, made)
            factor_layers(self.editor, [self.nodes[name] for name in unit.nodes], made)
        return FactoredLayer(
            nodes=unit.nodes,
            outputs=unit.outputs,
            columns=unit.columns,
            rank=rank,
            macs_before=unit.macs,
            macs_after=round(unit.work(rank)),
            lost=loss,
        )

    def _rows(self, unit: Unit, seen: Moments) -> tuple[Array, Array]:
        """Return the weights of a unit below each other, and what makes its layers count alike."""
        rows = [matrix.rows_of(self.nodes[name], self.opset) for name in unit.nodes]
        energy = [max(float(ranks.energies(part, seen).sum()), 1e-30) for part in rows]
        scales = [np.full(len(part), one**-0.5) for part, one in zip(rows, energy, strict=True)]
        return np.concatenate(rows), np.concatenate(scales)

    def _moments(self, stop: Stop) -> tuple[Moments, Moments]:
        return moments(pairs(stop), self.samples.is_held)


def _is_fitted(samples: Samples, number: int) -> bool:
    return not samples.is_held(number)


def _judged(model: ir.Model, noise: Noise) -> float:
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        path = Path(folder) / "factored.onnx"
        io.save(model, path)
        try:
            return noise(path)
        except OnnxOptError:
            return math.inf


def _even(unit: Unit, share: float) -> int | None:
    """Return the rank that leaves a share of a unit's MACs."""
    rank = int(share * unit.outputs * unit.columns / (unit.outputs + unit.columns))
    rank = rank // _STEP * _STEP
    return rank if _STEP <= rank <= unit.most else None


def allocate(
    units: Sequence[Unit], curves: Mapping[tuple[str, ...], Array], share: float
) -> dict[tuple[str, ...], int | None]:
    """Return the rank of each unit, None where it stays whole, for a share of all MACs.

    At a price of MACs each takes the rank, or stays whole, that comes cheapest with its error; the
    price is the least at which the share is kept.
    """
    total = max(sum(unit.macs for unit in units), 1)
    options = {unit.nodes: _options(unit, curves[unit.nodes]) for unit in units}

    def at(magnitude: float) -> dict[tuple[str, ...], tuple[int | None, float, float]]:
        # Prices are spread over all magnitudes: 1e-12 … 1e12 for all MACs together.
        price = 10 ** (24 * magnitude - 12) / total
        return {
            name: min(ways, key=lambda one: (one[2] + price * one[1], one[1]))
            for name, ways in options.items()
        }

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if sum(one[1] for one in at(middle).values()) > share * total:
            low = middle
        else:
            high = middle
    return {name: one[0] for name, one in at(high).items()}


def _options(unit: Unit, curve: Array) -> list[tuple[int | None, float, float]]:
    """Return rank, MACs and error of each way to compute a unit."""
    most = min(unit.most, len(curve) - 1)
    split: list[tuple[int | None, float, float]] = [
        (rank, unit.work(rank), float(curve[rank])) for rank in range(_STEP, most + 1, _STEP)
    ]
    return [(None, float(unit.macs), 0.0), *split]
