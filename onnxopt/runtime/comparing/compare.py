"""Tells whether two models compute the same: runs both, and judges by the reference's own noise.

The yardstick is the reference with onnxruntime's graph optimizations off: nothing has been
rewritten in it. With them on it gives slightly other numbers; that difference is the noise floor.
A candidate is run both ways too, and each output must lie within the tolerance of `metrics` or
within four times the reference's noise at that output. Where a candidate fails, the noise is
looked at once more, now as the reference's answer to inputs that differ by their last bit: a
quantized model may turn that into a whole step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxopt.errors import DataError, ModelError
from onnxopt.report import Comparison, OutputComparison
from onnxopt.runtime.comparing.metrics import Limits, Slack, Tally, is_float, largest_float
from onnxopt.runtime.feeding.feeds import make_feeds
from onnxopt.runtime.sessions.engine import ONNXRUNTIME, Engine, NothingRunsError, open_engine
from onnxopt.runtime.sessions.session import Optimize, SessionError

if TYPE_CHECKING:
    from onnxopt.graph._onnx_ir import ir

Feed = Mapping[str, Any]
Model = Path | str | bytes

NOISE_FACTOR = 4.0
_PERTURBATIONS = 3
_CHEAP_SECONDS = 1.0
_WEAK = 0.05
_WAYS: dict[Optimize, str] = {
    "none": "onnxruntime's optimizations off",
    "all": "onnxruntime's optimizations on",
}


class Reference:
    """The original model's outputs on some feeds, to judge any number of candidates by.

    Holds outputs, never a session: one model is in memory at a time. `unverified` says why
    nothing could be run; every judgement is then `verified=False`.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.feeds: list[dict[str, Any]] = []
        self.names: tuple[str, ...] = ()
        self.engine = ONNXRUNTIME
        self.unverified = ""
        self.warnings: list[str] = []
        self._outputs: list[list[Any]] = []
        self._random: set[int] = set()
        self._noise: list[Slack] = []
        self._ways: list[Optimize] = ["none"]
        self._perturbed = False

    @classmethod
    def of(cls, model: Model, feeds: Sequence[Feed]) -> Reference:
        """Run `model` on `feeds` and remember what it computes.

        Raises `SessionError` when the model is broken and `RunError` when it refuses the feeds.
        """
        return cls._build(model, lambda _: [dict(feed) for feed in feeds])

    @classmethod
    def invent(
        cls,
        path: Model,
        model: ir.Model,
        *,
        seed: int = 0,
        count: int | None = None,
        fix: Mapping[str, int] | None = None,
        data: Path | str | None = None,
    ) -> Reference:
        """Make feeds for `model`, which `path` holds, as `make_feeds` does, and run it on them.

        Finding feeds and running them share one session. Raises `DataError` when nothing runs.
        """
        return cls._build(
            path,
            lambda runs: make_feeds(model, runs=runs, seed=seed, count=count, fix=fix, data=data),
        )

    @classmethod
    def _build(
        cls, model: Model, feeds: Callable[[Callable[[Feed], Any] | None], list[dict[str, Any]]]
    ) -> Reference:
        self = cls(model)
        try:
            engine = open_engine(model, optimize="none")
        except NothingRunsError as error:
            self.unverified = f"nothing here can run this model: {error.message}"
            return self
        self.engine, self.names = engine.name, engine.outputs
        self.feeds = feeds(engine.run)
        if not self.feeds:
            raise DataError("there are no samples to compare on", "give at least one feed")
        self._outputs, self._random = _run_all(engine, self.feeds)
        del engine
        self._measure_noise()
        return self

    @property
    def noise_floor(self) -> float:
        """The largest absolute difference that the reference shows against itself."""
        return max((slack.absolute for slack in self._noise), default=0.0)

    def _measure_noise(self) -> None:
        self._noise = [Slack() for _ in self.names]
        if self.engine != ONNXRUNTIME:
            return
        try:
            engine = open_engine(self.model, optimize="all", only=ONNXRUNTIME)
            for feed, outputs in zip(self.feeds, self._outputs, strict=True):
                self._add_noise(outputs, engine.run(feed))
        except (ModelError, DataError) as error:
            self.warnings.append(f"the original fails when onnxruntime optimizes it: {error}")
            return
        self._ways.append("all")
        self._warn_of_weak_outputs()

    def _warn_of_weak_outputs(self) -> None:
        """Say where the outputs are so small that noise hides what was computed."""
        if self.feeds and not any(map(_has_floats, self._outputs[0])):
            self.warnings.append(
                "no output is a number with a fraction: only differences that change a decision"
                " can be seen"
            )
        for index, name in enumerate(self.names):
            if self._noise[index].absolute * NOISE_FACTOR > _WEAK * self._largest(index):
                self.warnings.append(
                    f"output {name!r} is nearly lost in the original's own noise on these inputs:"
                    " give real samples with --data"
                )

    def _largest(self, index: int) -> float:
        return max((largest_float(outputs[index]) for outputs in self._outputs), default=0.0)

    def _add_noise(self, outputs: Sequence[Any], again: Sequence[Any]) -> None:
        """Widen the noise by what two runs of the reference on (almost) the same feed differ."""
        for index, (want, got) in enumerate(zip(outputs, again, strict=True)):
            tally = Tally(self.names[index])
            tally.see(want, got, "")
            old = self._noise[index]
            self._noise[index] = Slack(
                absolute=max(old.absolute, tally.max_abs if _has_floats(want) else 0.0),
                fraction=max(old.fraction, tally.share_differing),
            )

    def judge(
        self,
        candidate: Model,
        *,
        rtol: float | None = None,
        atol: float | None = None,
        min_sqnr: float | None = None,
    ) -> Comparison:
        """Run `candidate` on the same feeds and compare.

        `rtol` and `atol` (|a-b| ≤ atol + rtol·|a|) and `min_sqnr` (dB) take the place of the
        tolerances that are derived from types and noise. A candidate that cannot be loaded or
        run has not passed. With `verified=False` nothing was run: `passed` then only means that
        nothing speaks against the candidate.
        """
        if self.unverified:
            return Comparison.unverified(self.unverified)
        limits = Limits(rtol=rtol, atol=atol, min_sqnr=min_sqnr)
        comparison = self._judge(candidate, limits)
        free = not limits.elementwise and min_sqnr is None
        if comparison.passed or not free or self._perturbed or not comparison.outputs:
            return comparison
        before = list(self._noise)
        self._perturb()
        return comparison if self._noise == before else self._judge(candidate, limits)

    def _judge(self, candidate: Model, limits: Limits) -> Comparison:
        tallies = [
            Tally(name, _widen(noise), limits, self._largest(index))
            for index, (name, noise) in enumerate(zip(self.names, self._noise, strict=True))
        ]
        failure = ""
        for way in self._ways:
            failure = self._run_candidate(candidate, way, tallies)
            if failure:
                break
        outputs = () if failure else tuple(self._results(tallies))
        if not failure and not any(tally.compared for tally in tallies):
            return Comparison.unverified("no output held an element or a finite number to compare")
        silent = [tally.name for tally in tallies if not tally.compared]
        if silent and not failure:
            names = ", ".join(map(repr, silent[:3]))
            remark = f"nothing could be compared at {names}: empty, NaN or infinite in every run"
            self.warnings = [*(w for w in self.warnings if w != remark), remark]
        wrong = [output for output in outputs if not output.passed]
        reason = failure or "; ".join(f"output {out.name!r} {out.reason}" for out in wrong[:3])
        return Comparison(
            passed=not reason,
            verified=True,
            noise_floor=self.noise_floor,
            outputs=outputs,
            feeds=len(self.feeds),
            engine=self.engine,
            reason=reason or "; ".join(self.warnings),
        )

    def _run_candidate(self, candidate: Model, way: Optimize, tallies: list[Tally]) -> str:
        """Run the candidate one way; return why that failed, or nothing."""
        words = _WAYS[way] if self.engine == ONNXRUNTIME else self.engine
        try:
            engine = open_engine(candidate, optimize=way, only=self.engine)
        except SessionError as error:
            return f"it does not load ({words}): {error.message}"
        if len(engine.outputs) != len(self.names):
            return f"it has {len(engine.outputs)} outputs instead of {len(self.names)}"
        by_name = sorted(engine.outputs) == sorted(self.names)
        order = [engine.outputs.index(n) for n in self.names] if by_name else range(len(tallies))
        for number, (feed, wanted) in enumerate(zip(self.feeds, self._outputs, strict=True)):
            try:
                outputs = engine.run(feed)
            except DataError as error:
                return f"it does not run on feed {number} ({words}): {error.message}"
            for index, position in enumerate(order):
                if index not in self._random:
                    tallies[index].see(wanted[index], outputs[position], f"feed {number}, {words}")
        return ""

    def _results(self, tallies: Sequence[Tally]) -> list[OutputComparison]:
        return [
            _not_judged(tally.name) if index in self._random else tally.result()
            for index, tally in enumerate(tallies)
        ]

    def _perturb(self) -> None:
        """Widen the noise by what the reference does with inputs that differ by their last bit."""
        self._perturbed = True
        floats = [name for name, value in self.feeds[0].items() if _has_floats(value)]
        if not floats or self.engine != ONNXRUNTIME:
            return
        engine = open_engine(self.model, optimize="none", only=ONNXRUNTIME)
        rng = np.random.default_rng(0)
        for _ in range(_PERTURBATIONS):
            for feed, outputs in zip(self.feeds, self._outputs, strict=True):
                shaken = {
                    name: _shake(value, rng) if name in floats else value
                    for name, value in feed.items()
                }
                try:
                    self._add_noise(outputs, engine.run(shaken))
                except DataError:
                    continue


def verify(
    reference: Model,
    candidate: Model,
    feeds: Sequence[Feed],
    *,
    rtol: float | None = None,
    atol: float | None = None,
    min_sqnr: float | None = None,
) -> Comparison:
    """Compare `candidate` with `reference` on `feeds`: see `Reference.judge`."""
    found = Reference.of(reference, feeds)
    return found.judge(candidate, rtol=rtol, atol=atol, min_sqnr=min_sqnr)


def _run_all(engine: Engine, feeds: Sequence[Feed]) -> tuple[list[list[Any]], set[int]]:
    """Run all feeds; also return which outputs differ, bit by bit, when the same feed is rerun."""
    outputs, random = [], set()
    begun = time.perf_counter()
    for number, feed in enumerate(feeds):
        outputs.append(engine.run(feed))
        if number and time.perf_counter() - begun > _CHEAP_SECONDS:
            continue
        for index, (one, two) in enumerate(zip(outputs[-1], engine.run(feed), strict=True)):
            if not _identical(one, two):
                random.add(index)
    return outputs, random


def _identical(one: Any, two: Any) -> bool:
    if isinstance(one, list):
        return len(one) == len(two) and all(map(_identical, one, two))
    if isinstance(one, Mapping):
        return one.keys() == two.keys() and all(_identical(one[key], two[key]) for key in one)
    if isinstance(one, np.ndarray) and one.dtype.kind != "O":
        return bool(one.shape == two.shape and one.tobytes() == two.tobytes())
    return bool(np.array_equal(one, two))


def _has_floats(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_has_floats, value))
    if isinstance(value, Mapping):
        return any(map(_has_floats, value.values()))
    return value is not None and is_float(np.asarray(value).dtype)


def _shake(value: Any, rng: np.random.Generator) -> Any:
    """Move every float to one of its two neighbours, or leave it."""
    if isinstance(value, list):
        return [_shake(item, rng) for item in value]
    array = np.asarray(value)
    if array.dtype.kind != "f":
        return value
    step = rng.integers(-1, 2, array.shape).astype(array.dtype) * np.finfo(array.dtype).eps
    return (array * (1 + step)).astype(array.dtype)


def _widen(noise: Slack) -> Slack:
    return Slack(absolute=NOISE_FACTOR * noise.absolute, fraction=NOISE_FACTOR * noise.fraction)


def _not_judged(name: str) -> OutputComparison:
    nothing = float("nan")
    return OutputComparison(
        name=name,
        max_abs=nothing,
        max_rel=nothing,
        sqnr_db=nothing,
        cosine=nothing,
        worst_index=(),
        tolerance=nothing,
        passed=True,
        reason="not deterministic: the original differs from itself, so this is not judged",
    )
