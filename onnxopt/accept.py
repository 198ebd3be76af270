"""Keeps what pays: measures the result against the original, then what is in doubt by itself.

What is in doubt is asked of the clock in groups: the rules of one folder, a rule that is unsure of
the target, a pass. The result runs against the result without the group. Where the whole is no
slower than the original, only groups that put fused operators in the place of others are asked
about; where it is slower, all are. The cost model says in which order: it knows the seconds that a
group's own operators take (its stake) and those that the group saves (its promise). The less the
kernels need to be worse than predicted for the group to lose, the earlier it is asked about.

One comparison of equals in forty says 'slower' (one side of a 95 % interval). So nothing is left
out before a second comparison, twice as long, says so too: of n harmless groups that are asked
about one is lost in n/1600 cases.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from onnxopt import rules
from onnxopt.config import Target
from onnxopt.errors import ProviderError
from onnxopt.graph.cost import predict
from onnxopt.passes.concrete import Shape, concrete
from onnxopt.report import ORIGINAL, RESULT, Decision, Difference, Measurement

if TYPE_CHECKING:
    from onnxopt.prove import Candidate, Proof, Prover

_WORTH_ASKING = 0.01  # of the time: less than this cannot be told from noise
_LONGER_WHEN_SLOW = 6.0
_TRIALS = 4  # should fit into the time
_FEWEST_PROCESSES = 3  # of one comparison


@dataclass(frozen=True, kw_only=True)
class Group:
    """Rules or passes that are asked about together; `stake` and `promise` are shares of the time.

    `units` did something; of the `others` of their folder one might stand in for them. `stake` is
    what the operators that they made take, `promise` what the result would take more without them.
    """

    name: str
    units: tuple[str, ...]
    others: frozenset[str] = frozenset()
    stake: float = 0.0
    promise: float = 0.0

    @property
    def margin(self) -> float:
        """By how much its operators must be slower than predicted for the group to lose."""
        if self.stake:
            return self.promise / self.stake
        return -math.inf if self.promise < 0 else math.inf


def grouped(units: Sequence[str], target: Target) -> list[Group]:
    """Sort rules and passes into groups: by folder, but what is unsure of the target by itself."""
    unsure, rooms = doubtful(rules.names(), target), rules.rooms()
    found: dict[str, tuple[str, ...]] = {}
    for unit in units:
        name = unit if unit in unsure else rooms.get(unit, unit)
        found[name] = (*found.get(name, ()), unit)
    return [
        Group(
            name=name,
            units=fired,
            others=frozenset(rule for rule, room in rooms.items() if room == name) - unsure,
        )
        for name, fired in found.items()
    ]


def doubtful(units: Sequence[str], target: Target) -> set[str]:
    """Return the rules among `units` that pay on the target for some models only."""
    return {rule.name for rule in rules.load() if target.name in rule.unsure}.intersection(units)


def leave_out_doubtful(prover: Prover, proof: Proof) -> None:
    """Go by what is known to pay, because nothing can be measured."""
    doubts = doubtful(proof.candidate.transformation.units(), prover.config.target)
    if doubts := doubts.difference(prover.config.only):
        why = "pays for some models only, and it could not be measured"
        proof.dropped.update(dict.fromkeys(sorted(doubts), why))
        prover.config = replace(prover.config, measure=False)
        proof.candidate, proof.difference = prover.make(frozenset(proof.dropped)), None
        if prover.config.verify:
            proof.verification = prover.judge(proof.candidate)


class Acceptance:
    """Asks of one proof's candidate what pays, and leaves out what does not."""

    def __init__(self, prover: Prover, proof: Proof) -> None:
        self.prover = prover
        self.proof = proof
        self.asked: list[tuple[str, tuple[str, ...], Difference, float | None]] = []
        self.out = set(proof.dropped)
        self.pace = 0.0  # seconds that a process of the latest comparison took
        self.share = 0.0  # seconds for one trial
        self.deadline = 0.0

    def run(self) -> None:
        """Measure; leave out what costs time, or hand the original back."""
        slower = self.whole_is_slower()
        budget = max(self.prover.config.measure_seconds, self.pace * _FEWEST_PROCESSES)
        self.deadline = time.perf_counter() + budget * (_LONGER_WHEN_SLOW if slower else 1)
        groups = self.suspects(everything=slower)
        self.share = budget / min(max(1, len(groups)), _TRIALS)
        for group in groups:
            if self.leave_out_if_slower(group) and slower:
                slower = self.whole_is_slower()
                if not slower:
                    break
        if self.proof.difference is None and self.proof.candidate.transformation.steps:
            slower = self.whole_is_slower()
        if slower:
            self.hand_back()

    def whole_is_slower(self) -> bool:
        """Hold the result against the original; believe that it is slower the second time."""
        config, candidate = self.prover.config, self.proof.candidate
        units = tuple(candidate.transformation.units())
        for seconds in (config.measure_seconds, 2 * config.measure_seconds):
            self.proof.difference = self.measure(RESULT, units, None, seconds)
            if self.proof.difference.verdict != "slower":
                return False
        return True

    def suspects(self, *, everything: bool) -> list[Group]:
        """Return the groups to ask about, the most suspicious first."""
        target = self.prover.config.target
        units = self.proof.candidate.transformation.units()
        groups = grouped(units, target)
        if len(groups) == 1 and (len(units) == 1 or not everything):
            return []  # the result without it is the original
        if not everything:
            if "com.microsoft" not in target.domains:
                return []
            wanted = {*rules.FUSING, *doubtful(units, target)}
            groups = [group for group in groups if group.name in wanted]
        if not groups or not self.time_for(self.pace * _FEWEST_PROCESSES):
            return []
        found = self.predicted(groups, 0.0 if everything else _WORTH_ASKING)
        return sorted(found, key=lambda group: (group.margin, -group.stake))

    def predicted(self, groups: Sequence[Group], least: float) -> Iterator[Group]:
        """Predict what groups take and save; leave away those that take less than `least`."""
        feed = {name: _shape(array) for name, array in self.prover.feed().items()}
        known = {**concrete(self.prover.load().model, feed), **feed}
        provider = self.prover.config.target.provider

        def cost(candidate: Candidate) -> Mapping[str, float]:
            return predict(candidate.model, concrete(candidate.model, known), provider)

        present = cost(self.proof.candidate)
        total = sum(present.values()) or 1.0
        for group in groups:
            stake = sum(present.get(unit, 0.0) for unit in group.units) / total
            if stake < least:
                continue
            promise = 0.0
            if self.time_for(0.0):
                promise = sum(cost(self.without(group)).values()) / total - 1
            yield replace(group, stake=stake, promise=promise)

    def leave_out_if_slower(self, group: Group) -> bool:
        """Leave out what the result is faster without: units that can be told, or the group."""
        if not self.is_slower_with(group, 1 + group.promise):
            return False
        alone = [Group(name=unit, units=(unit,)) for unit in group.units if len(group.units) > 1]
        guilty = tuple(each.name for each in alone if self.is_slower_with(each))
        if guilty:
            group = Group(name=group.name, units=guilty)
        return self.leave_out(group, f"the model is slower with it: {self.latest(group.units)}")

    def is_slower_with(self, group: Group, predicted: float | None = None) -> bool:
        """Tell whether the result is faster without a group, in two comparisons."""
        if not self.time_for(self.pace * _FEWEST_PROCESSES):
            return False
        without = self.without(group)
        try:
            return all(
                self.measure(group.name, group.units, without, seconds, predicted).verdict
                == "slower"
                for seconds in (self.share, 2 * self.share)
            )
        except ProviderError:
            return False  # what cannot be run without it is not faster without it

    def leave_out(self, group: Group, why: str) -> bool:
        """Take a group out of the result, unless that is wrong without it."""
        proof = self.proof
        candidate = self.without(group)
        if self.prover.config.verify:
            verification = self.prover.judge(candidate)
            if not verification.passed:
                return False
            proof.verification = verification
        proof.candidate, proof.difference = candidate, None
        proof.dropped.update(dict.fromkeys(group.units, why))
        self.out.update(group.units, group.others)
        return True

    def hand_back(self) -> None:
        """Leave out everything: the original is faster."""
        units = tuple(self.proof.candidate.transformation.units())
        why = f"the model is slower with it: {self.latest(units)}"
        while units and self.leave_out(Group(name=RESULT, units=units), why):
            units = tuple(self.proof.candidate.transformation.units())

    def without(self, group: Group) -> Candidate:
        return self.prover.make(frozenset({*self.out, *group.units, *group.others}))

    def measure(
        self,
        what: str,
        units: tuple[str, ...],
        against: Candidate | None,
        seconds: float,
        predicted: float | None = None,
    ) -> Difference:
        """Measure the result against the original or a candidate, and keep what was found."""
        begun = time.perf_counter()
        candidate, name = self.proof.candidate, f"{RESULT} without {what}" if against else ORIGINAL
        found = self.prover.measure(candidate, against=against, named=name, seconds=seconds)
        self.pace = (time.perf_counter() - begun) / max(1, found.processes)
        self.asked.append((what, units, found, predicted))
        return found

    def latest(self, units: tuple[str, ...]) -> str:
        """Say what was last measured of these units, or of those that they are part of."""
        return next(d.sentence() for _, of, d, _ in reversed(self.asked) if {*units} <= {*of})

    def time_for(self, seconds: float) -> bool:
        """Tell whether something that takes so long may be begun: half of it may be too late."""
        return time.perf_counter() + seconds / 2 < self.deadline

    def measurements(self) -> tuple[Measurement, ...]:
        """Return what was asked, with what became of it."""
        return tuple(
            Measurement(
                what=what,
                units=units,
                difference=difference,
                decision=self.decision(units),
                predicted=predicted,
            )
            for what, units, difference, predicted in self.asked
        )

    def decision(self, units: tuple[str, ...]) -> Decision:
        gone = [unit for unit in units if unit in self.proof.dropped]
        if not gone:
            return "kept"
        return "left out" if len(gone) == len(units) else "left out in part"


def _shape(array: object) -> Shape:
    return tuple(getattr(array, "shape", ()))
