"""Keeps only what is proven and what pays: verify, measure, find the guilty step, leave it out.

The file on disk is the reference and is never changed. A candidate is made from it by running the
steps; leaving out a rule means loading the file again and running the rest, so that no copy of the
model has to be kept. Where a candidate is wrong, the guilty unit (a rule or a pass) is found by
halving: the units are enabled in their order up to the first prefix that fails.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnxopt.config import OptimizeConfig
from onnxopt.errors import DataError, ProviderError
from onnxopt.graph import io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.profile import profile
from onnxopt.graph.signature import Declared, Signature, signature_of
from onnxopt.passes import dims, shapes
from onnxopt.pipeline import PassCrashedError, Progress, Transformation, transform
from onnxopt.report import Comparison, Difference, Profile, Step

_MOST_CULPRITS = 12
_MOST_SLOW = 2


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
    """A model made from the file by some of the steps; `path` once it was written for a check."""

    model: ir.Model
    transformation: Transformation
    profile: Profile
    path: Path | None = None


@dataclass(kw_only=True)
class Proof:
    """The candidate that was kept, and what was found on the way."""

    candidate: Candidate
    verification: Comparison | None = None
    difference: Difference | None = None
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
    ) -> None:
        self.source = source
        self.config = config
        self.data = data
        self.feeds = feeds
        self.progress = progress
        self.crashed: dict[str, str] = {}
        self._original: Original | None = None
        self._reference: Any = None

    def original(self) -> Original:
        """Return the model as it is; the first candidate is made from the same object."""
        if self._original is None:
            self._original = self._load()
        return self._original

    def _load(self) -> Original:
        """Load the file, fix the dimensions that were asked for, infer shapes."""
        if self._original is not None:
            loaded, self._original = self._original, None
            return loaded
        model = io.load(self.source)
        if self.config.fix:
            dims.fix(model, self.config.fix)
        declared, signature = Declared.of(model), signature_of(model)
        shaped = shapes.declares_shapes(model)
        shapes.infer(model)
        return Original(model=model, declared=declared, signature=signature, shaped=shaped)

    def make(self, without: frozenset[str] = frozenset()) -> Candidate:
        """Load the file and run the steps but some; a pass or rule that crashes is left out too."""
        while True:
            loaded = self._load()
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
            loaded.declared.restore(model)
            changed = loaded.signature.differences(signature_of(model))
            assert not changed, f"the signature changed: {changed}"
            after = profile(model)
            shapes.forget(model, everything=not loaded.shaped)
            return Candidate(model=model, transformation=made, profile=after)

    def prove(self) -> Proof:
        """Make the best candidate that is right and, where it can be measured, not slower."""
        proof = Proof(candidate=self.make())
        with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
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
            from onnxopt.runtime.compare import Reference
            from onnxopt.runtime.crash import crash_on_loading
            from onnxopt.runtime.feeds import checked

            self._tell("running the original", None)
            if crash := crash_on_loading(self.source):
                raise DataError(crash, "another version of onnxruntime may do better")
            if self.feeds is not None:
                fitting = checked(self.feeds, self._load().model)
                self._reference = Reference.of(self.source, fitting)
            else:
                self._reference = Reference.invent(
                    self.source,
                    self._load().model,
                    seed=self.config.seed,
                    fix=self.config.fix,
                    data=self.data,
                )
        return self._reference

    def judge(self, candidate: Candidate) -> Comparison:
        """Hold a candidate against the original on the same feeds."""
        from onnxopt.runtime.crash import crash_on_loading

        self._write(candidate)
        assert candidate.path is not None
        reference = self.reference()
        self._tell("verifying", None)
        if not reference.unverified and (crash := crash_on_loading(candidate.path)):
            return Comparison(
                passed=False,
                verified=True,
                noise_floor=reference.noise_floor,
                outputs=(),
                feeds=len(reference.feeds),
                reason=crash,
            )
        found: Comparison = reference.judge(candidate.path)
        return found

    def _write(self, candidate: Candidate) -> None:
        if candidate.path is None:
            shutil.rmtree(self.folder / "candidate", ignore_errors=True)
            (self.folder / "candidate").mkdir()
            candidate.path = self.folder / "candidate" / "model.onnx"
            io.save(candidate.model, candidate.path)

    def _verify(self, proof: Proof) -> None:
        try:
            proof.verification = self.judge(proof.candidate)
        except (DataError, ProviderError) as error:
            if self.data is not None or self.feeds is not None:
                raise
            proof.verification = Comparison.unverified(str(error))
        if not proof.verification.verified:
            proof.warnings.append(proof.verification.reason)
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

    def _measure(self, proof: Proof) -> None:
        changed = bool(proof.candidate.transformation.steps)
        wrong = proof.verification is not None and not proof.verification.passed
        unknown = proof.verification is not None and not proof.verification.verified
        if not changed or wrong or unknown:
            return
        try:
            proof.difference = self.measure(proof.candidate)
            if proof.difference.verdict == "slower":
                # One in twenty comparisons of equals says so: ask again before acting on it.
                proof.difference = self.measure(proof.candidate, patience=2.0)
            self._keep_what_pays(proof)
        except ProviderError as error:
            proof.warnings.append(f"not measured: {error}")

    def _keep_what_pays(self, proof: Proof) -> None:
        """Take back the unit that costs time, twice at most; then everything."""
        slow: dict[str, str] = {}
        while proof.difference is not None and proof.difference.verdict == "slower":
            units = [u for u in proof.candidate.transformation.units() if u not in proof.dropped]
            why = f"the model is slower with it: {proof.difference.sentence()}"
            if len(slow) < _MOST_SLOW and len(units) > 1:
                guilty = find_guilty(units, frozenset(proof.dropped), self._pays)
                slow[guilty or units[-1]] = why
            else:
                slow.update(dict.fromkeys(units, why))
            proof.dropped.update(slow)
            proof.candidate = self.make(frozenset(proof.dropped))
            if self.config.verify:
                proof.verification = self.judge(proof.candidate)
            if not proof.candidate.transformation.steps:
                proof.difference = None
                return
            proof.difference = self.measure(proof.candidate)

    def _pays(self, without: frozenset[str]) -> bool:
        return self.measure(self.make(without)).verdict != "slower"

    def measure(self, candidate: Candidate, *, patience: float = 1.0) -> Difference:
        """Compare a candidate's speed with the original's on the target's provider."""
        from onnxopt.benchmarking.measure import ab

        self._write(candidate)
        assert candidate.path is not None
        self._tell("measuring", None)
        return ab(
            self.source,
            candidate.path,
            provider=self.config.target.provider,
            seconds=self.config.measure_seconds * patience,
            feeds=self.feeds,
            fix=self.config.fix,
            data=self.data,
        )

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
