"""Chooses the part of a model that becomes int8: measured time against measured error."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import Judge
from onnxopt.judging.sensitivity import Sensitivity, sensitivity
from onnxopt.quantizing.calibration.expose import expose_sizes
from onnxopt.quantizing.calibration.statistics import Statistics
from onnxopt.quantizing.insert.qdq import values_of
from onnxopt.quantizing.making import Made, Maker
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.regions.costs import Costs, measure_costs, problem
from onnxopt.quantizing.regions.cut import Problem, corners, front
from onnxopt.quantizing.regions.front import Tools, Wishes, decide
from onnxopt.quantizing.regions.regions import Regions, divide
from onnxopt.report import Difference, FrontPoint
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.runtime.sessions.session import open_session, run

_ASKED = 12
"""Held-out samples that the sensitivity of regions is told by."""

_BUDGET = 60.0
"""Seconds that asking for sensitivities may take."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """What was chosen, and what the choice was made by; `made` is None where nothing was right."""

    made: Made | None
    difference: Difference | None
    points: tuple[FrontPoint, ...]
    reason: str
    regions: Regions
    sensitivity: Sensitivity
    costs: Costs | None = None
    int8: frozenset[str] = field(default_factory=frozenset)


@dataclass(kw_only=True)
class Chooser:
    """Chooses among the regions of one repaired model.

    `measure` and `score` are asked about models; None where speed is not measured, or there is no
    metric.
    """

    model: ir.Model
    placement: Placement
    statistics: Statistics
    maker: Maker
    judge: Judge
    source: Path
    wishes: Wishes
    measure: Callable[[Path], Difference] | None = None
    score: Callable[[Made], float] | None = None
    threads: int | None = None

    def run(self) -> Chosen:
        """Make everything int8, find the front, and take what holds what is asked for."""
        whole = self.maker.make(self.model, self.placement, self.statistics)
        regions = divide(self.model, self.placement, self.sizes())
        noise = self.sensitivity(whole, regions)
        costs = None if self.measure is None else self.costs(whole)
        posed = self.problem(regions, costs, noise.noise)
        choices, measure = front(posed), self.measure
        optimized = self.optimized() if choices and costs is not None else None
        gained = _gained(optimized)
        tools: Tools[Made] = Tools(
            build=lambda choice: self.part(whole, regions.units(choice.int8)),
            predicted=None if costs is None else lambda choice: gained * costs.ratio(choice.gain),
            sqnr=lambda made: self.judge.judge(self.maker.save(made)).sqnr_db,
            measure=None if measure is None else lambda made: measure(self.maker.save(made)),
            score=self.score,
            progress=self.maker.progress,
        )
        found = decide(
            choices,
            len(regions.regions),
            self.wishes,
            tools,
            finer=corners(posed),
            optimized=optimized,
        )
        difference = next((point.difference for point in found.points if point.chosen), None)
        made, choice = found.model, found.choice
        if made is not None and choice is not None:
            made = self.again(made, regions.units(choice.int8))
        return Chosen(
            made=made,
            difference=difference,
            points=found.points,
            reason=found.reason,
            regions=regions,
            sensitivity=noise,
            costs=costs,
            int8=frozenset() if choice is None else choice.int8,
        )

    def optimized(self) -> FrontPoint:
        """Measure the float model as it was rewritten: what is gained without int8."""
        assert self.measure is not None
        return FrontPoint(
            name="float, optimized",
            int8_regions=0,
            sqnr_db=self.judge.judge(self.float_path).sqnr_db,
            difference=self.measure(self.float_path),
        )

    @property
    def float_path(self) -> Path:
        """The file of the rewritten float model."""
        path = self.maker.folder / "float.onnx"
        if not path.exists():
            io.save(self.model, path)
        return path

    def sizes(self) -> dict[str, int]:
        """Return the elements of the placement's tensors whose shapes the model does not tell."""
        values = values_of(self.model)
        unknown = [
            name for name in self.placement.tensors if facts.static_shape(values[name]) is None
        ]
        if not unknown:
            return {}
        exposed = expose_sizes(self.model, unknown)
        session = open_session(io.to_proto(exposed.model).SerializeToString())
        found = run(session, self.judge.feeds[0], exposed.outputs)
        return dict(
            zip(unknown, np.concatenate([np.ravel(f) for f in found]).tolist(), strict=True)
        )

    def part(self, whole: Made, units: Collection[str]) -> Made:
        """Return the model with nothing but some units in int8, with the integers of the whole."""
        return self.maker.written(self.model, whole, self.placement.only(units))

    def again(self, made: Made, units: Collection[str]) -> Made:
        """Round once more, now that it is known what is float; keep what comes nearer."""
        if len(units) == len(self.placement.units):
            return made
        other = self.maker.make(self.model, self.placement.only(units), self.statistics)
        both = [self.judge.judge(self.maker.save(each)).noise for each in (made, other)]
        return other if both[1] < both[0] else made

    def sensitivity(self, whole: Made, regions: Regions) -> Sensitivity:
        """Return the noise of each region alone."""
        few = Judge(self.source, self.judge.feeds[:_ASKED], exact=self.judge.exact)

        def noise(chosen: frozenset[str]) -> float:
            made = self.part(whole, regions.units(chosen))
            return few.judge(io.to_proto(made.model).SerializeToString()).noise

        weights = {region.name: float(len(region.units)) for region in regions.regions}
        return sensitivity(weights, noise, budget=_BUDGET, progress=self.maker.progress)

    def costs(self, whole: Made) -> Costs:
        """Return the measured times of all units."""
        return measure_costs(
            self.float_path,
            self.maker.save(whole),
            self.placement,
            self.judge.feeds[0],
            threads=self.threads or usable_cores(),
            progress=self.maker.progress,
        )

    def problem(self, regions: Regions, costs: Costs | None, noise: Mapping[str, float]) -> Problem:
        """Return what the cut solves; without times every region is worth the same."""
        if costs is not None:
            return problem(regions, costs, noise)
        return Problem(saved={region.name: 1.0 for region in regions.regions}, noise=noise)


def _gained(optimized: FrontPoint | None) -> float:
    """Return how much faster than the model that was given rewriting made it, if that is sure."""
    found = None if optimized is None else optimized.difference
    if found is None or found.low <= 1 <= found.high:
        return 1.0
    return found.ratio
