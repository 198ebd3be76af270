"""From a float model and a choice of units to an int8 model: calibrate, round, write."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import numpy as np

from onnxopt.arrays import Array
from onnxopt.config import QuantizeConfig
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.samples import Samples
from onnxopt.quantizing.calibration.choice import activations
from onnxopt.quantizing.calibration.collect import collect
from onnxopt.quantizing.calibration.expose import Wanted
from onnxopt.quantizing.calibration.ranges import Method
from onnxopt.quantizing.calibration.statistics import Statistics
from onnxopt.quantizing.insert.qdq import insert
from onnxopt.quantizing.insert.qoperator import to_qoperator
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.solution import Solution
from onnxopt.quantizing.sweeping import Layer, walk
from onnxopt.quantizing.weights.limits import Limits, Plain
from onnxopt.quantizing.weights.pairs import limits_for
from onnxopt.quantizing.weights.rounding import Method as Rounding
from onnxopt.quantizing.weights.solve import Solver
from onnxopt.runtime.machine.multiply import Kernels

METHOD: Method = "minmax"
"""The ranges that `auto` begins with; others are tried against it on held-out samples."""

Progress = Callable[[str, float | None], None]

WALKED = 128
"""Samples that are walked through the layers: more tell little, and take their time and room."""

_COUNTED = 1 << 15
"""Numbers of a tensor that go into its histogram, of each sample: all go into its range."""

_MOST_INPUT = 255


@dataclass(kw_only=True)
class Made:
    """An int8 model, what is in it, and how its weights were found."""

    model: ir.Model
    solution: Solution
    solver: Solver
    statistics: Statistics
    path: Path | None = None


@dataclass(kw_only=True)
class Maker:
    """Makes int8 models of one float model for one target.

    `identity` is the SHA-256 of the model that was given; `statistics` are kept under it, and under
    longer names for what it was rewritten to. `method` is how ranges are chosen from now on, and
    `seconds` are what statistics have taken.
    """

    samples: Samples
    config: QuantizeConfig
    kernels: Kernels
    folder: Path
    progress: Progress | None = None
    identity: str = ""
    method: Method = METHOD
    numbers: int = 0
    seconds: float = 0.0
    statistics: dict[str, Statistics] = field(default_factory=dict)

    @property
    def pairs_neighbours(self) -> bool:
        """Whether kernels add neighbouring columns in 16 bits: their order matters."""
        return self.kernels.adds_in_16_bits and self.kernels.neighbours

    @property
    def rounding(self) -> Rounding:
        """How weights are rounded in what is not only tried out."""
        asked = self.config.rounding if self.config.repairs("rounding") else "nearest"
        return cast("Rounding", asked)

    def calibrate(self, model: ir.Model, placement: Placement, identity: str) -> Statistics:
        """Return statistics of a placement's tensors; what is known under an identity is kept."""
        known = self.statistics.get(identity)
        closely = self.config.method != "minmax"
        wanted = {
            name: Wanted(histogram=closely, most=_COUNTED)
            for name, spec in placement.tensors.items()
            if spec.fixed is None and (known is None or name not in known.observers)
        }
        if wanted:
            start = time.perf_counter()
            found = collect(
                model,
                wanted,
                self.samples.fitted,
                max_memory=self.config.max_memory,
                identity=identity,
                progress=self.progress,
                directory=self.folder,
            )
            if known is None:
                known = found
            else:
                known.observers.update(found.observers)
            self.statistics[identity] = known
            self.seconds += time.perf_counter() - start
        assert known is not None
        return known

    def make(
        self,
        model: ir.Model,
        placement: Placement,
        statistics: Statistics,
        *,
        quick: bool = False,
    ) -> Made:
        """Return the int8 model of the units of a placement; a quick one rounds to the nearest."""
        found = activations(placement, statistics.observers, self.method)
        solution = Solution(placement=placement, activations=found)
        solver = Solver(
            limits=self.limits,
            method="nearest" if quick else self.rounding,
            use_samples=not quick and self.config.repairs("rounding"),
            correct=self.config.repairs("bias"),
        )
        most = WALKED // 4 if quick else WALKED
        walk(
            model,
            solution,
            (feed for _, feed in self.samples.numbered(most)),
            solver,
            seen=solver.use_samples or solver.correct,
            second=solver.use_samples,
            held=self.samples.aside(most),
            room=self.config.max_memory // 2,
            progress=self.progress,
        )
        made = Made(model=model, solution=solution, solver=solver, statistics=statistics)
        return self.written(model, made, placement)

    def written(self, model: ir.Model, made: Made, placement: Placement) -> Made:
        """Return a float model with a solution in it, as far as a placement's units go."""
        solution = replace(made.solution, placement=placement)
        result = model.clone()
        insert(result, solution)
        if self.config.format == "qoperator":
            to_qoperator(result, contrib="com.microsoft" in self.config.target.domains)
        return replace(made, model=result, solution=solution, path=None)

    def save(self, made: Made) -> Path:
        """Write a model to the folder, once, and return its path."""
        if made.path is None:
            self.numbers += 1
            made.path = self.folder / f"int8_{self.numbers}.onnx"
            io.save(made.model, made.path)
        return made.path

    def limits(self, layer: Layer, rows: Array) -> Limits:
        """Return what a layer's integers may be: kernels that add in 16 bits must not overflow."""
        weight = layer.unit.weight
        assert weight is not None
        if not self.config.repairs("saturation"):
            return Plain()
        importance = np.diagonal(layer.fit.gram, axis1=1, axis2=2) if layer.fit.gram.size else None
        return limits_for(
            self.kernels,
            layer.unit.op,
            np.full(rows.shape[1], _MOST_INPUT),
            importance,
            depthwise=weight.groups == len(rows) > 1,
        )
