"""Keeps only what is proven and what pays: verify, measure, find the guilty step, leave it out.

The file on disk is the reference and is never changed. A candidate is made from it by running the
steps; leaving out a rule means loading the file again and running the rest, so that no copy of the
model has to be kept. Where a candidate is wrong, the guilty unit (a rule or a pass) is found by
halving: the units are enabled in their order up to the first prefix that fails.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from onnxopt.accept import Acceptance, leave_out_doubtful
from onnxopt.config import OptimizeConfig
from onnxopt.errors import DataError, OnnxOptError, ProviderError
from onnxopt.graph import garbage, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.profile import profile
from onnxopt.graph.signature import Declared, Signature, signature_of
from onnxopt.graph.spill import spill_into
from onnxopt.passes import dims, opset, shapes
from onnxopt.pipeline import PassCrashedError, Progress, Transformation, transform
from onnxopt.report import ORIGINAL, RESULT, Comparison, Difference, Measurement, Profile, Step

_MOST_CULPRITS = 12
_LARGE = 1 << 30  # bytes: such a model is not copied to where small temporary files go


@dataclass(frozen=True, kw_only=True)
class Original:
    """The model as it was loaded, and what its file declares; its shapes are inferred.

    `shaped` tells whether the file says of what shape its inner values are.
    """

    model: ir.Model
    declared: Declared
    signature: Signature
    shaped: bool


@dataclass(kw_only=True)
class Candidate:
    """A model made from the file by some of the steps.

    `declared` is what its file declares of inputs and outputs. `path` is where it was written for a
    check; that file goes with the candidate.
    """

    model: ir.Model
    declared: Declared
    transformation: Transformation
    profile: Profile
    path: Path | None = None


@dataclass(kw_only=True)
class Proof:
    """The candidate that was kept, and what was found on the way."""

    candidate: Candidate
    verification: Comparison | None = None
    difference: Difference | None = None
    measurements: tuple[Measurement, ...] = ()
    dropped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def steps(self) -> tuple[Step, ...]:
        """Return the steps that were kept, then a line for each unit that was taken back."""
        kept = tuple(self.candidate.transformation.steps)
        after = kept[-1].nodes_after if kept else 0
        back = (
            Step(
                name=name,
                done={},
                nodes_before=after,
                nodes_after=after,
                seconds=0.0,
                status="rolled back",
                reason=reason,
            )
            for name, reason in self.dropped.items()
        )
        return (*kept, *back)


class Prover:
    """Makes candidates from one model file and holds them against it."""

    def __init__(
        self,
        source: Path,
        config: OptimizeConfig,
        *,
        data: Path | str | None = None,
        feeds: Sequence[Mapping[str, Any]] | None = None,
        progress: Progress | None = None,
        beside: Path | None = None,
    ) -> None:
        """Take the model at `source`; what is large and temporary goes to the folder `beside`."""
        self.source = source
        self.config = config
        self.data = data
        self.feeds = feeds
        self.progress = progress
        self.beside = beside
        self.file_bytes = 0
        self.crashed: dict[str, str] = {}
        self._original: Original | None = None
        self._reference: Any = None
        self._feed: Mapping[str, Any] | None = None

    def original(self) -> Original:
        """Return the model as it is; the first candidate is made from the same object."""
        if self._original is None:
            self._original = self.load()
        return self._original

    @garbage.paused()
    def load(self) -> Original:
        """Load the file, fix the dimensions that were asked for, infer shapes."""
        if self._original is not None:
            loaded, self._original = self._original, None
            return loaded
        model = io.load(self.source)
        spill_into(model, self.beside)
        origin = io.source_of(model)
        self.file_bytes = 0 if origin is None else origin.file_bytes
        if self.config.fix:
            dims.fix(model, self.config.fix)
        declared, signature = Declared.of(model), signature_of(model)
        shaped = shapes.declares_shapes(model)
        shapes.infer(model)
        return Original(model=model, declared=declared, signature=signature, shaped=shaped)

    @garbage.paused()
    def make(self, without: frozenset[str] = frozenset()) -> Candidate:
        """Load the file and run the steps but some; a pass or rule that crashes is left out too."""
        while True:
            loaded = self.load()
            model = loaded.model
            try:
                made = transform(
                    model,
                    self.config,
                    without=without | self.crashed.keys(),
                    progress=self.progress,
                )
            except PassCrashedError as crash:
                if crash.name in self.crashed:
                    raise
                self.crashed[crash.name] = str(crash)
                continue
            self.crashed.update(made.outcome.crashed)
            if made.raised_in_vain:
                without |= {opset.NAME}
                continue
            loaded.declared.restore(model)
            changed = loaded.signature.differences(signature_of(model))
            assert not changed, f"the signature changed: {changed}"
            after = profile(model)
            shapes.forget(model, everything=not loaded.shaped)
            return Candidate(
                model=model, declared=loaded.declared, transformation=made, profile=after
            )

    def prove(self) -> Proof:
        """Make the best candidate that is right and, where it can be measured, not slower."""
        self.original()
        unmeasurable = self._leave_measuring() if self.config.measure else ""
        proof = Proof(candidate=self.make())
        if unmeasurable:
            proof.warnings.append(unmeasurable)
        place = self.beside if self.file_bytes > _LARGE else None
        with tempfile.TemporaryDirectory(prefix=".onnxopt-", dir=place) as folder:
            self.folder = Path(folder)
            if self.config.verify:
                self._verify(proof)
            if self.config.measure:
                self._measure(proof)
        proof.dropped = {**self.crashed, **proof.dropped}
        return proof

    def reference(self) -> Any:
        """Return the original's outputs, computed on first use."""
        if self._reference is None:
            from onnxopt.runtime.comparing.compare import Reference
            from onnxopt.runtime.feeding.feeds import checked
            from onnxopt.runtime.sessions.crash import crash_on_loading

            self._tell("running the original", None)
            if crash := crash_on_loading(self.source):
                raise DataError(crash, "another version of onnxruntime may do better")
            if self.feeds is not None:
                fitting = checked(self.feeds, self.load().model)
                self._reference = Reference.of(self.source, fitting)
            else:
                self._reference = self._invent()
        return self._reference

    def _invent(self) -> Any:
        """Run the original on inputs that are made for it, of the sizes that were asked for."""
        from onnxopt.runtime.comparing.compare import Reference

        model, seed, fix = self.load().model, self.config.seed, self.config.fix
        try:
            return Reference.invent(self.source, model, seed=seed, fix=fix, data=self.data)
        except DataError as error:
            if not fix or self.data is not None:
                raise
            Reference.invent(self.source, io.load(self.source), seed=seed, count=1)
            given = " ".join(f"--fix {name}={size}" for name, size in fix.items())
            raise OnnxOptError(
                f"the model does not run with {given}: {error.message}",
                "the rest contradicts that: fix what goes with it, or give samples with --data",
            ) from error

    def judge(self, candidate: Candidate) -> Comparison:
        """Hold a candidate against the original on the same feeds."""
        from onnxopt.runtime.sessions.crash import crash_on_loading

        if shortage := self._shortage():
            return Comparison.unverified(f"{shortage}: use 'onnxopt compare' on a larger machine")
        path = self._write(candidate)
        reference = self.reference()
        self._tell("verifying", None)
        if not reference.unverified and (crash := crash_on_loading(path)):
            return Comparison(
                passed=False,
                verified=True,
                noise_floor=reference.noise_floor,
                outputs=(),
                feeds=len(reference.feeds),
                reason=crash,
            )
        found: Comparison = reference.judge(path)
        return found

    def _write(self, candidate: Candidate) -> Path:
        if candidate.path is None:
            folder = tempfile.mkdtemp(dir=self.folder)
            weakref.finalize(candidate, shutil.rmtree, folder, ignore_errors=True)
            candidate.path = Path(folder, "model.onnx")
            io.save(candidate.model, candidate.path)
        return candidate.path

    def _verify(self, proof: Proof) -> None:
        try:
            proof.verification = self.judge(proof.candidate)
        except (DataError, ProviderError) as error:
            if self.data is not None or self.feeds is not None:
                raise
            proof.verification = Comparison.unverified(str(error))
        if not proof.verification.verified:
            proof.warnings.append(proof.verification.reason)
            self._keep_loadable(proof)
            if proof.candidate.transformation.raised_for:
                proof.dropped[opset.NAME] = "without --opset only what is verified may be raised"
                proof.candidate = self.make(frozenset(proof.dropped))
            return

        def attempt(without: frozenset[str]) -> tuple[Candidate, Comparison]:
            candidate = self.make(without)
            return candidate, self.judge(candidate)

        while not proof.verification.passed and len(proof.dropped) < _MOST_CULPRITS:
            units = [u for u in proof.candidate.transformation.units() if u not in proof.dropped]
            guilty = find_guilty(units, frozenset(proof.dropped), lambda w: attempt(w)[1].passed)
            if guilty is None:
                break
            proof.dropped[guilty] = f"its result differs: {proof.verification.reason}"
            proof.candidate, proof.verification = attempt(frozenset(proof.dropped))

    def _keep_loadable(self, proof: Proof) -> None:
        """Leave out what onnxruntime refuses to load, where it loads the original."""
        from onnxopt.runtime.sessions.crash import refusal

        def refused(candidate: Candidate) -> str:
            return refusal(self._write(candidate))

        if self._shortage() or refusal(self.source):
            return
        while why := refused(proof.candidate):
            units = [u for u in proof.candidate.transformation.units() if u not in proof.dropped]
            gone = frozenset(proof.dropped)
            guilty = find_guilty(units, gone, lambda without: not refused(self.make(without)))
            if guilty is None or len(proof.dropped) >= _MOST_CULPRITS:
                break
            proof.dropped[guilty] = f"the model no longer loads with it: {why}"
            proof.candidate = self.make(frozenset(proof.dropped))

    def _shortage(self) -> str:
        """Say that there is not the memory to run the model, or nothing."""
        from onnxopt.runtime.machine.memory import shortage

        return shortage(self.file_bytes)

    def _leave_measuring(self) -> str:
        """Go by the table where the model cannot run here on the target's provider; say so."""
        from onnxopt.runtime.execution.providers import check_usable

        why = self._shortage()
        try:
            check_usable(self.config.target.provider)
        except ProviderError as error:
            why = str(error)
        if why:
            self.config = replace(self.config, measure=False)
            return f"not measured: {why}"
        return ""

    def _measure(self, proof: Proof) -> None:
        if proof.verification is not None and not proof.verification.passed:
            return
        if proof.verification is not None and not proof.verification.verified:
            leave_out_doubtful(self, proof)
        elif proof.candidate.transformation.steps:
            acceptance = Acceptance(self, proof)
            try:
                acceptance.run()
            except (DataError, ProviderError) as error:
                if self.data is not None and isinstance(error, DataError):
                    raise
                proof.warnings.append(f"not measured: {error}")
                leave_out_doubtful(self, proof)
            proof.measurements = acceptance.measurements()

    def feed(self) -> Mapping[str, Any]:
        """Return the inputs that speed is measured with, found on first use."""
        if self._feed is None:
            from onnxopt.benchmarking.measure import feed_for

            self._feed = (
                self.feeds[0]
                if self.feeds
                else feed_for(self.source, fix=self.config.fix, data=self.data)
            )
        return self._feed

    def measure(
        self,
        candidate: Candidate,
        *,
        against: Candidate | None = None,
        named: str = ORIGINAL,
        seconds: float,
    ) -> Difference:
        """Compare a candidate's speed with the original's, or another's, on the target's provider.

        `named` is what the report calls the latter.
        """
        from onnxopt.benchmarking.measure import ab

        baseline = self.source if against is None else self._write(against)
        path = self._write(candidate)
        self._tell(f"measuring against the {named}", None)
        found = ab(
            baseline,
            path,
            provider=self.config.target.provider,
            seconds=seconds,
            feeds=[self.feed()],
        )
        return replace(found, baseline=named, candidate=RESULT)

    def _tell(self, what: str, fraction: float | None) -> None:
        if self.progress is not None:
            self.progress(what, fraction)


def find_guilty(
    units: Sequence[str], dropped: frozenset[str], passes: Callable[[frozenset[str]], bool]
) -> str | None:
    """Return the unit whose addition to those before it makes a candidate fail, by halving.

    `passes` judges the candidate made without the units given. None when a candidate without any
    unit fails too.
    """
    everything = frozenset(units) | dropped
    if not passes(everything):
        return None
    good, bad = 0, len(units)  # units[:good] pass, units[:bad] fail
    while bad - good > 1:
        middle = (good + bad) // 2
        if passes(everything - frozenset(units[:middle])):
            good = middle
        else:
            bad = middle
    return units[bad - 1] if units else None
