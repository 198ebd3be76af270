"""Takes channels out: judges units, spreads what is to go over groups, refits what is left.

    evidence → order and loss of each group → how much of it arrives at the outputs → front → cut

Everything up to the cut is told by the model as it was given; the cut itself is made on a copy that
is refitted from front to back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxopt.arrays import Array
from onnxopt.errors import OnnxOptError
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import decibel
from onnxopt.judging.samples import Samples
from onnxopt.prune_config import PruneConfig
from onnxopt.pruning import refitting, seeing
from onnxopt.pruning.budget.allocate import Costs, Cut, Front, at, front
from onnxopt.pruning.budget.curves import Curve, curve, multiple_for, widths_of
from onnxopt.pruning.budget.latency import Latency
from onnxopt.pruning.budget.sensitivity import Reach
from onnxopt.pruning.budget.work import Work
from onnxopt.pruning.dense import Dense
from onnxopt.pruning.groups.cutting import mask
from onnxopt.pruning.plan import Group, Groups, Keep
from onnxopt.pruning.refitting import Refitted, Way
from onnxopt.pruning.seeing import Pair, Progress, evidence
from onnxopt.pruning.weights.choosing import choose_order
from onnxopt.pruning.weights.evidence import Evidence
from onnxopt.pruning.weights.factor import RIDGE
from onnxopt.pruning.weights.order import Removal, removal
from onnxopt.report import FrozenPart, PrunedPart
from onnxopt.sweep.moments import Moments

_WORK, _FEWEST, _MOST = 2e12, 16, 160
"""Multiply-accumulates, a minute or two, that it may take to ask how much of each group's loss
arrives at the outputs; and how often it is asked at least, and at most. By work, not by a clock:
the same samples make the same model on every machine."""
_JUDGED = 128
"""Samples that a question is about, at most."""
_COUNTS = 8
"""Widths of a group that are refitted to and judged on held-out samples, at most."""

Judged = Callable[[ir.Model], float]
"""Returns the noise of a model's outputs over their energy, on held-out samples."""


@dataclass(kw_only=True)
class Channels:
    """The groups of one model, prepared by `refitting.prepare`, on their way to being narrower.

    `noise` judges a model; None where there are no samples.
    """

    model: ir.Model
    groups: Groups
    work: Work
    config: PruneConfig
    samples: Samples | None
    folder: Path
    noise: Judged | None = None
    latency: Latency | None = None
    room: int = 1 << 29
    progress: Progress | None = None
    removals: dict[str, Removal] = field(default_factory=dict)
    curves: dict[str, Curve] = field(default_factory=dict)
    ridges: dict[str, float] = field(default_factory=dict)
    done: Refitted | None = None

    def __post_init__(self) -> None:
        self.dense = Dense(self.folder / "moments")
        self.seen = seeing.enough(float(self.work.macs.whole))
        config = self.config
        multiple = config.multiple or multiple_for(config.target.name)
        self.widths = {
            group.name: widths_of(group, multiple, small=config.multiple is not None)
            for group in self.groups
        }

    def survey(self) -> None:
        """Find the order of units of every group, and what it costs to take them out."""
        evidence(
            self.model,
            self.groups,
            self.samples,
            self._judge,
            most=self.seen,
            keep=self._kept,
            room=self.room,
            progress=self.progress,
        )
        for group in self.groups:
            if group.name in self.removals:
                self._draw(group, self.removals[group.name].losses)
        if self.noise is not None and self.config.refit and len(self.curves) > 1:
            self._see_what_arrives()

    def _draw(self, group: Group, losses: Array) -> None:
        """Note what a group loses."""
        weight = float(max(1, _places(group)))
        self.curves[group.name] = curve(group.name, losses, self.widths[group.name], weight=weight)

    def _see_what_arrives(self) -> None:
        """Tell losses by what arrives at the outputs, closest where the choice falls."""
        orders = {
            name: found.order for name, found in self.removals.items() if len(found.order) > 1
        }
        losses = {name: self.removals[name].losses for name in orders}
        reach = Reach(orders=orders, losses=losses, noise=self._arrives)
        budget = self._questions()
        reach.measure(budget=budget, progress=self.progress)

        def choose() -> dict[str, int]:
            for group in self.groups:
                if group.name in orders:
                    self._draw(group, reach.at_outputs(group.name))
            kept = self.cut(self.front()).kept
            return {name: self.curves[name].size - count for name, count in kept.items()}

        if self.config.scope == "global":
            reach.refine(choose, budget=budget, progress=self.progress)
        else:
            choose()

    def _questions(self) -> int:
        """Return how often it may be asked what arrives at the outputs."""
        held = 1 if self.samples is None else max(1, self.samples.held_count)
        each = float(self.work.macs.whole) * min(held, _JUDGED)
        return int(min(_MOST, max(_FEWEST, _WORK / max(each, 1.0))))

    def _kept(self, name: str, pair: Pair) -> None:
        fit, held = pair
        self.dense.put(name, fit.merged(held) if held.samples else fit)

    def _judge(self, group: Group, found: Evidence, held: Sequence[Moments]) -> None:
        config, generator = self.config, np.random.default_rng(self.config.seed)
        ridge = RIDGE if config.ridge is None else config.ridge
        known = any(moments.samples and moments.gram.size for moments in held)
        if config.ridge is not None or not known or not config.refit:
            made = removal(found, config.importance, ridge, refit=config.refit, generator=generator)
        else:
            counts = _few(self.widths[group.name][1:])
            chosen = choose_order(found, held, counts, config.importance, generator=generator)
            ridge, made = chosen.ridge, chosen.removal
            if len(chosen.counts):
                made = _with_losses(made, chosen.counts, chosen.losses)
        self.removals[group.name] = made
        for part in group.of("reads"):
            self.ridges[part.edge.node] = max(ridge, self.ridges.get(part.edge.node, 0.0))

    def _arrives(self, keep: Keep) -> float:
        """Return the noise at the outputs when some units are gone and the rest was refitted."""
        assert self.noise is not None
        return self.noise(self.quick(keep))

    def quick(self, keep: Keep) -> ir.Model:
        """Return a soft model that was refitted on the moments of the original."""
        if not self.config.refit:
            student = self.model.clone()
            mask(student, self.groups, keep)
            return student
        return self.dense.soft(
            self.model, self.groups, keep, lambda name: self.ridges.get(name, RIDGE)
        )

    def front(self) -> Front:
        """Return the choices from the whole model to the smallest."""
        config = self.config
        costs = Costs(
            macs=self.work.macs,
            parameters=self.work.parameters,
            ms=None if self.latency is None else self.latency.total,
        )
        by = "units" if config.sparsity is not None else "macs"
        if config.target_latency is not None:
            by = "ms"
        return front(
            self.curves.values(),
            costs,
            by=by,  # type: ignore[arg-type]
            scope=config.scope,  # type: ignore[arg-type]
        )

    def cut(self, found: Front) -> Cut:
        """Return the choice that was asked for."""
        config = self.config
        return at(
            found,
            target_macs=config.target_macs,
            target_latency=config.target_latency,
            sparsity=config.sparsity,
            threshold=config.threshold,
        )

    def keep(self, cut: Cut) -> dict[str, Array]:
        """Return which units stay; groups that stay whole are absent."""
        return {
            name: self.removals[name].kept(count)
            for name, count in cut.kept.items()
            if count < self.curves[name].size
        }

    def soft(self, keep: Keep) -> ir.Model:
        """Return a copy without some units, of the same shapes, its layers refitted.

        Layers that read what the pruned layers before them make can make up for those, too; on
        samples that they were not fitted to that may be worse than fitting each by itself. So both
        are made, and their mean: what errs least on held-out samples is returned.
        """
        found = self._front_to_back(keep)
        known = self.done is not None and self.removals
        if self.noise is None or not known or self.config.solver != "exact":
            return found
        each = self.quick(keep)
        return min((found, refitting.averaged(each, found), each), key=self.noise)

    def _front_to_back(self, keep: Keep) -> ir.Model:
        student = self.model.clone()
        mask(student, self.groups, keep)
        if self.samples is not None and self.config.refit:
            columns = refitting.kept_columns(self.groups, keep, self.model)
            self.done = refitting.refit(
                self.model,
                student,
                columns,
                self.samples,
                Way(ridge=self.config.ridge, solver=self.config.solver, ridges=self.ridges),
                most=self.seen,
                room=self.room,
                progress=self.progress,
            )
        return student

    def parts(self, keep: Keep) -> tuple[PrunedPart, ...]:
        """Say what became of each group."""
        return tuple(self._part(group, keep) for group in self.groups)

    def _part(self, group: Group, keep: Keep) -> PrunedPart:
        kept = {name: int(stays.sum()) for name, stays in keep.items()}
        after = kept.get(group.name, group.size)
        layers = tuple(dict.fromkeys(part.edge.node for part in group.of("reads")))
        macs, ms = self.work.macs, None if self.latency is None else self.latency.total
        return PrunedPart(
            name=group.name,
            nodes=tuple(dict.fromkeys(part.edge.node for part in group.slices)),
            unit=group.kind,
            before=group.size,
            after=after,
            reason=self._reason(group, after),
            lost_db=self._lost(group, after, layers),
            macs_before=int(macs.along({}, group.name, [group.size])[0]),
            macs_after=int(macs.along(kept, group.name, [after])[0]),
            ms_before=None if ms is None else float(ms.along({}, group.name, [group.size])[0]),
            ms_after=None if ms is None else float(ms.along(kept, group.name, [after])[0]),
        )

    def _lost(self, group: Group, after: int, layers: Sequence[str]) -> float | None:
        """Return the SQNR of a group's readers on held-out samples, in dB; None where unknown."""
        if self.done is None or after == group.size:
            return None
        made = self.removals.get(group.name)
        if made is not None:
            return decibel(float(made.losses[group.size - after]))
        return decibel(max(self.done.lost.get(name, 0.0) for name in layers))

    def _reason(self, group: Group, after: int) -> str:
        if after < group.size:
            return ""
        if len(self.widths[group.name]) < 2:
            return "too narrow for kernels to gain by less"
        return "it loses more than others do for the same gain"


def frozen(groups: Groups) -> tuple[FrozenPart, ...]:
    """Say what could not go."""
    return tuple(
        FrozenPart(tensor=part.tensor, node=part.node, reason=part.reason) for part in groups.frozen
    )


def nothing(groups: Groups) -> OnnxOptError:
    """Return the error of a model that nothing can be taken out of."""
    for part in groups.frozen:
        return OnnxOptError(
            f"no channels can go: {part.reason} ({part.node})",
            "try --structure element, block or rank",
        )
    return OnnxOptError(
        "no channels can go: the model has no layers that one could follow",
        "try --structure element, block or rank",
    )


def sizes(groups: Groups) -> Mapping[str, tuple[int, ...]]:
    """Return the shapes of masks, by name."""
    return {group.name: (group.size,) for group in groups}


def _places(group: Group) -> int:
    written = [int(np.count_nonzero(part.units >= 0)) for part in group.of("writes")]
    return min(written, default=group.size) // group.size


def _few(widths: Sequence[int]) -> tuple[int, ...]:
    """Return some of many widths, evenly spread."""
    if len(widths) <= _COUNTS:
        return tuple(widths)
    places = np.linspace(0, len(widths) - 1, _COUNTS).round().astype(int)
    return tuple(widths[place] for place in places)


def _with_losses(found: Removal, counts: Sequence[int], losses: Array) -> Removal:
    """Return an order with losses of held-out samples, straight between the widths judged."""
    size = len(found.order)
    gone = np.array([0, *(size - count for count in counts)])
    order = np.argsort(gone)
    seen = np.maximum.accumulate(np.array([0.0, *losses])[order])
    everywhere = np.interp(np.arange(size + 1), gone[order], seen)
    beyond = np.arange(size + 1) > gone.max()
    everywhere[beyond] = np.maximum(found.losses[beyond], seen[-1])
    return Removal(order=found.order, losses=np.maximum.accumulate(everywhere))
