"""Sets single weights to zero, or two of every four, and lets the others make up for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.judging.quality import decibel
from onnxopt.judging.samples import Samples
from onnxopt.prune_config import PruneConfig
from onnxopt.pruning.seeing import SEEN, Progress, is_seen, nodes_of, see
from onnxopt.pruning.weights import elements, sparse
from onnxopt.pruning.weights.factor import RIDGE
from onnxopt.pruning.weights.refit import energies, noise, refit, shifted
from onnxopt.pruning.weights.splitting import Project
from onnxopt.report import PrunedPart
from onnxopt.sweep import matrix
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.together import Stop, said, together

_NAMES = {"auto": "obs", "batchnorm": "l2"}
_RIDGES = (0.03, 0.1, 0.3, 1.0)
"""What is tried, in mean diagonals: of EfficientNet-Lite0 the first layers want the least, the last
one, which few samples say little of, the most. 3 gains nothing in all."""


@dataclass(kw_only=True)
class Zeros:
    """A model whose layers get zeros; `chosen` are masks by the name of the weight, true stays.

    `model` was prepared by `refitting.prepare`. Without samples nothing is refitted;
    `seen` are looked at, at most. `shares` is by layer how much goes, where that was decided.
    """

    model: ir.Model
    config: PruneConfig
    samples: Samples | None
    seen: int = SEEN
    room: int = 1 << 29
    progress: Progress | None = None
    chosen: dict[str, Array] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)
    parts: list[PrunedPart] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.opset = self.model.opset_imports.get("", 0)
        self.nodes = nodes_of(self.model)
        protected = set(self.config.protect)
        self.layers = {
            name: node
            for name, node in self.nodes.items()
            if is_seen(node, self.model) and not protected & {name, self.weight(node)}
        }

    def weight(self, node: ir.Node) -> str:
        """Return the name of a layer's weight."""
        value = node.inputs[1]
        return (value and value.name) or ""

    def sizes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the weights that may get zeros, by name."""
        return {
            self.weight(node): facts.static_shape(node.inputs[1]) or ()
            for node in self.layers.values()
        }

    def run(self, given: Mapping[str, Array] | None = None) -> ir.Model:
        """Return a copy of the model with zeros; `given` are masks that were decided before."""
        student = self.model.clone()
        rows = {name: matrix.rows_of(node, self.opset) for name, node in self.layers.items()}
        kept = self._given(given) if given is not None else self._decided(rows)
        editor = Editor(student)
        if self.samples is None or not self.config.refit:
            nodes = nodes_of(student)
            for name in self.layers:
                stays = self._stays(name, rows[name], kept)
                matrix.set_rows(editor, nodes[name], np.where(stays, rows[name], 0.0))
                self._note(name, stays, None)
            return student
        aside = self.samples.aside(self.seen)

        def visit(stop: Stop) -> None:
            fit, other = see(stop, aside)
            self._refit(editor, stop, rows[stop.name], fit, other, kept)

        together(
            self.model,
            student,
            self.layers,
            (feed for _, feed in self.samples.numbered(self.seen)),
            visit,
            room=self.room,
            progress=said(self.progress, "refitting"),
        )
        return student

    def _given(self, given: Mapping[str, Array]) -> dict[str, Array]:
        """Return masks of weights as masks of rows; weights that are not named stay whole."""
        found = {}
        for name, node in self.layers.items():
            array = given.get(self.weight(node))
            if array is None:
                found[name] = np.ones(matrix.rows_of(node, self.opset).shape, bool)
            else:
                found[name] = matrix.as_rows(array, node, self.opset).astype(bool)
        return found

    def _decided(self, rows: Mapping[str, Array]) -> dict[str, Array] | None:
        """Return what stays where all layers have to be compared; None where each decides alone."""
        by_itself = self.config.structure == "2:4" or (
            self.config.threshold is None and self.config.scope == "layer"
        )
        if by_itself:
            return None
        scores = self._scores(rows)
        if self.config.threshold is not None:
            kept = elements.above(list(scores.values()), self.config.threshold)
        else:
            kept = elements.masks(list(scores.values()), self.config.sparsity or 0.0, "global")
            if self.samples is not None and self.config.refit and self._by_cost():
                # Which elements go is best seen while the others make up for those that went.
                gone = [1 - float(stays.mean()) for stays in kept]
                self.shares = dict(zip(scores, gone, strict=True))
                return None
        return dict(zip(scores, kept, strict=True))

    def _scores(self, rows: Mapping[str, Array]) -> dict[str, Array]:
        """Return how much each element matters, relative to what its layer puts out."""
        found: dict[str, Array] = {}
        if self.samples is None:
            return {name: self._score(rows[name], None) for name in self.layers}

        def visit(stop: Stop) -> None:
            seen, _ = see(stop, lambda _: False)
            energy = float(energies(rows[stop.name], seen).sum())
            score = self._score(rows[stop.name], seen)
            found[stop.name] = score / np.sqrt(energy) if energy > 0 else score

        together(
            self.model,
            None,
            self.layers,
            self.samples.fitted(self.seen),
            visit,
            room=self.room,
            progress=said(self.progress, "looking at layers"),
        )
        return found

    def _score(self, rows: Array, moments: Moments | None) -> Array:
        if self.config.importance == "random":
            return np.asarray(np.random.default_rng(self.config.seed).random(rows.shape))
        name = _NAMES.get(self.config.importance, self.config.importance)
        return elements.ELEMENT_SCORES[name](rows, moments)

    def _stays(self, name: str, rows: Array, kept: Mapping[str, Array] | None) -> Array:
        """Return what stays of a layer that nothing was seen of."""
        if kept is not None:
            return kept[name]
        scores = self._score(rows, None)
        if self.config.structure == "2:4":
            return elements.fours(scores, self._channels(name))
        return elements.masks([scores], self.config.sparsity or 0.0, "layer")[0]

    def _channels(self, name: str) -> int | None:
        shape = facts.static_shape(self.layers[name].inputs[1]) or ()
        return shape[1] if self.layers[name].op_type == "Conv" else None

    def _by_cost(self) -> bool:
        """Tell whether elements go by what they cost after the others have made up for them."""
        return self.config.importance in ("auto", "obs")

    def _choice(
        self, name: str, rows: Array, seen: Moments, kept: Mapping[str, Array] | None
    ) -> tuple[list[int], sparse.Choose]:
        """Return what chooses the elements of a layer while its errors are passed on."""
        if kept is not None:
            return sparse.of_mask(kept[name])
        if self._by_cost():
            if self.config.structure == "2:4":
                return sparse.of_fours(rows.shape[1], self._channels(name))
            share = self.shares.get(name, self.config.sparsity or 0.0)
            return sparse.of_share(share, rows.shape[1])
        scores = self._score(rows, seen)
        if self.config.structure == "2:4":
            return sparse.of_mask(elements.fours(scores, self._channels(name)))
        return sparse.of_mask(elements.masks([scores], self.config.sparsity or 0.0, "layer")[0])

    def _made(
        self,
        name: str,
        rows: Array,
        seen: Moments,
        kept: Mapping[str, Array] | None,
        ridge: float,
        project: Project | None = None,
    ) -> sparse.Sparse:
        """Return what becomes of a layer by what was seen of it."""
        aim = refit(rows, np.ones(rows.shape[1], bool), seen, ridge=ridge).rows
        gram, _ = seen.centred()
        choice = self._choice(name, rows, seen, kept)
        return sparse.sparse(aim, gram, choice, ridge=ridge, project=project)

    def _ridge(
        self,
        name: str,
        rows: Array,
        fit: Moments,
        held: Moments,
        kept: Mapping[str, Array] | None,
    ) -> float:
        """Return the ridge by which a layer loses least on samples that were held back."""
        if self.config.ridge is not None:
            return self.config.ridge
        if not held.samples:
            return RIDGE
        errors = {}
        for ridge in _RIDGES:
            found = self._made(name, rows, fit, kept, ridge)
            shift = shifted(rows, found.rows, fit)
            errors[ridge] = float(noise(found.rows, shift, rows, held).sum())
        return min(errors, key=lambda ridge: errors[ridge])

    def _refit(
        self,
        editor: Editor,
        stop: Stop,
        rows: Array,
        fit: Moments,
        held: Moments,
        kept: Mapping[str, Array] | None,
    ) -> None:
        whole = fit.merged(held) if held.samples else fit
        ridge = self._ridge(stop.name, rows, fit, held, kept)
        project = None
        if kept is None and self.config.structure == "2:4" and self._by_cost():
            project = sparse.by_fours(self._channels(stop.name))
        found = self._made(stop.name, rows, whole, kept, ridge, project)
        shift = shifted(rows, found.rows, whole)
        edge = matrix.biased(editor, stop.node)
        matrix.set_rows(editor, stop.node, found.rows)
        matrix.add_to_bias(editor, stop.student.model, edge, shift)
        judged = held if held.samples else whole
        energy = float(energies(rows, judged).sum()) or 1.0
        lost = float(noise(found.rows, shift, rows, judged).sum()) / energy
        self._note(stop.name, found.kept, lost)

    def _note(self, name: str, stays: Array, lost: float | None) -> None:
        node = self.layers[name]
        shape = facts.static_shape(node.inputs[1]) or ()
        self.chosen[self.weight(node)] = matrix.from_rows(stays, shape, node, self.opset)
        self.parts.append(
            PrunedPart(
                name=self.weight(node),
                nodes=(name,),
                unit="elements",
                before=stays.size,
                after=int(stays.sum()),
                lost_db=None if lost is None else decibel(max(lost, 0.0)),
            )
        )
