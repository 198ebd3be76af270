"""Picks a point of the front: builds the choices, sees how right they are, measures those that may.

What is asked for decides what counts as right: `min_sqnr`, a drop of the user's own metric at most,
or else `ENOUGH_DB`, an error of a hundredth of the output's energy. Of what is right, the fastest
is taken; of choices that are nearly as fast as that, the most accurate, unless only speed is asked
for. It has to be faster than float, or no slower than is allowed, as measured: prediction only says
what to measure first, and that everything in int8 is slower is not believed of it. Speed is told
against the model as it was given; the float model as it was rewritten for int8 is measured, too,
because what that gains is no merit of int8. Building and seeing is cheap, a metric and a
measurement are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from onnxopt.quantizing.regions.cut import Choice
from onnxopt.report import Difference, FrontPoint

ENOUGH_DB = 20.0
ENOUGH_SCORE = 0.01
"""Share of the float model's score that may be lost, where no drop was named."""
NEARLY_AS_FAST = 0.03
MOST_MEASURED = 4
CLOSER = 3
"""How often the gap between right and wrong is halved."""

Model = TypeVar("Model")
Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, kw_only=True)
class Wishes:
    """What a result has to hold; None where it was not asked for.

    `max_slowdown` is a share; None: it has to be faster. `float_score` is the metric of the float
    model, of which `max_drop` may be lost.
    """

    min_sqnr: float | None = None
    max_slowdown: float | None = None
    fastest: bool = False
    float_score: float | None = None
    max_drop: float | None = None

    @property
    def floor_db(self) -> float | None:
        """Return the least SQNR; None where something else says what is right."""
        if self.min_sqnr is not None:
            return self.min_sqnr
        return None if self.fastest or self.float_score is not None else ENOUGH_DB

    @property
    def least_score(self) -> float | None:
        """Return the least score."""
        if self.float_score is None:
            return None
        drop = abs(self.float_score) * ENOUGH_SCORE if self.max_drop is None else self.max_drop
        return self.float_score - drop

    def is_fast(self, difference: Difference) -> bool:
        """Tell whether a model is as fast as it has to be."""
        if self.max_slowdown is None:
            return difference.verdict == "faster"
        return difference.ratio * (1 + self.max_slowdown) >= 1


@dataclass(frozen=True, kw_only=True)
class Tools(Generic[Model]):
    """What is done with a choice; `measure` and `score` are None where they are not wanted.

    `predicted` is the ratio of float time to a choice's; None where no times are known: then what
    gains most counts as the fastest. `sqnr` is in dB on held-out samples.
    """

    build: Callable[[Choice], Model]
    sqnr: Callable[[Model], float]
    predicted: Callable[[Choice], float] | None = None
    measure: Callable[[Model], Difference] | None = None
    score: Callable[[Model], float] | None = None
    progress: Progress | None = None


@dataclass(frozen=True, kw_only=True)
class Decision(Generic[Model]):
    """The front from accurate to fast, and the choice that was made; else the reason for none."""

    points: tuple[FrontPoint, ...]
    choice: Choice | None = None
    model: Model | None = None
    reason: str = ""


@dataclass(kw_only=True)
class _Entry(Generic[Model]):
    choice: Choice
    model: Model | None
    point: FrontPoint
    failed: str = ""

    @property
    def speed(self) -> float:
        """The ratio of float time to this one's, else what grows with it."""
        return self.choice.gain if self.point.ratio is None else self.point.ratio


def decide(
    choices: Sequence[Choice],
    regions: int,
    wishes: Wishes,
    tools: Tools[Model],
    *,
    finer: Sequence[Choice] = (),
    optimized: FrontPoint | None = None,
) -> Decision[Model]:
    """Build every choice, and pick one as `wishes` ask; `regions` is how many there are.

    `finer` are more choices, from the fastest to the most accurate: a few of them are built where
    what is right begins. `optimized` is the float model as it was rewritten: no choice may be
    slower than that. Models of choices that are not right are let go at once. What a tool raises
    comes through.
    """
    return _Picking(regions, wishes, tools, optimized).run(choices, finer)


class _Picking(Generic[Model]):
    def __init__(
        self, regions: int, wishes: Wishes, tools: Tools[Model], optimized: FrontPoint | None
    ) -> None:
        self.regions = regions
        self.wishes = wishes
        self.tools = tools
        self.optimized = optimized
        self.entries: list[_Entry[Model]] = []
        self.measured = 0

    def run(self, choices: Sequence[Choice], finer: Sequence[Choice]) -> Decision[Model]:
        for number, choice in enumerate(choices):
            self.entries.append(self.see(choice))
            if self.tools.progress is not None:
                self.tools.progress("front", (number + 1) / len(choices))
        self.look_closer(finer)
        winner = self.not_all(self.first_that_holds())
        if winner is not None and not self.wishes.fastest and self.tools.predicted is not None:
            winner = self.more_accurate(winner)
        if winner is not None:
            winner.point = replace(winner.point, chosen=True)
        ordered = sorted(self.entries, key=lambda entry: (-entry.point.sqnr_db, entry.speed))
        first = () if self.optimized is None else (self.optimized,)
        return Decision(
            points=(*first, *(entry.point for entry in ordered)),
            choice=None if winner is None else winner.choice,
            model=None if winner is None else winner.model,
            reason="" if winner is not None else self.refusal(),
        )

    def see(self, choice: Choice) -> _Entry[Model]:
        """Build a choice, and see how near it comes to float."""
        model: Model | None = self.tools.build(choice)
        assert model is not None
        found = self.tools.sqnr(model)
        floor = self.wishes.floor_db
        failed = ""
        if floor is not None and not found >= floor:
            failed, model = f"{found:.1f} dB", None
        point = FrontPoint(
            name=self.name(choice),
            int8_regions=len(choice.int8),
            sqnr_db=found,
            predicted=None if self.tools.predicted is None else self.tools.predicted(choice),
            trade=choice.trade,
        )
        return _Entry(choice=choice, model=model, point=point, failed=failed)

    def look_closer(self, finer: Sequence[Choice]) -> None:
        """Halve the gap between the fastest choice that is right and the next that is not."""
        right = {entry.choice.int8 for entry in self.entries if not entry.failed}
        wrong = {entry.choice.int8 for entry in self.entries if entry.failed}
        low = min((n for n, choice in enumerate(finer) if choice.int8 in right), default=0)
        high = max((n for n, choice in enumerate(finer[:low]) if choice.int8 in wrong), default=-1)
        for _ in range(CLOSER if high >= 0 else 0):
            middle = (low + high) // 2
            if middle == high:
                return
            self.entries.append(self.see(finer[middle]))
            if self.entries[-1].failed:
                high = middle
            else:
                low = middle

    def name(self, choice: Choice) -> str:
        if len(choice.int8) == self.regions:
            return "all int8"
        return "fastest" if choice.trade == 0 else f"{len(choice.int8)} of {self.regions} in int8"

    def by_speed(self) -> Iterator[_Entry[Model]]:
        """Yield what is right so far, from the fastest by prediction on."""
        left = [entry for entry in self.entries if not entry.failed]
        yield from sorted(left, key=lambda entry: (-entry.speed, -entry.point.sqnr_db))

    def first_that_holds(self) -> _Entry[Model] | None:
        for entry in self.by_speed():
            if self.measured >= MOST_MEASURED:
                return None
            if self.holds(entry):
                return entry
        return None

    def not_all(self, fast: _Entry[Model] | None) -> _Entry[Model] | None:
        """Return everything in int8 instead, where that is right and proves faster."""
        for entry in self.by_speed():
            untried = entry is not fast and entry.point.difference is None
            if (
                untried
                and len(entry.choice.int8) == self.regions
                and self.tools.measure is not None
            ):
                better = self.holds(entry) and (fast is None or self.is_faster(entry, fast))
                return entry if better else fast
        return fast

    def is_faster(self, entry: _Entry[Model], other: _Entry[Model]) -> bool:
        """Tell whether a choice proved faster: for sure, where it is the less accurate one."""
        found = entry.point.difference
        if found is None or entry.speed <= other.speed:
            return False
        surely = found.low > (1 - NEARLY_AS_FAST) * other.speed
        return surely or entry.point.sqnr_db >= other.point.sqnr_db

    def more_accurate(self, fast: _Entry[Model]) -> _Entry[Model]:
        """Return the most accurate choice that is nearly as fast, by prediction and as measured."""
        predicted = fast.point.predicted or 0.0
        near = [
            entry
            for entry in self.by_speed()
            if entry.point.sqnr_db > fast.point.sqnr_db
            and (entry.point.predicted or 0.0) >= (1 - NEARLY_AS_FAST) * predicted
        ]
        for entry in sorted(near, key=lambda entry: -entry.point.sqnr_db)[:1]:
            if self.holds(entry) and entry.speed >= (1 - NEARLY_AS_FAST) * fast.speed:
                return entry
        return fast

    def holds(self, entry: _Entry[Model]) -> bool:
        """Ask the metric, then the clock."""
        assert entry.model is not None
        least = self.wishes.least_score
        if self.tools.score is not None:
            score = self.tools.score(entry.model)
            entry.point = replace(entry.point, metric=score)
            if least is not None and not score >= least:
                entry.failed = f"scores {score:.4g}"
                entry.model = None
                return False
        if self.tools.measure is None:
            return True
        self.measured += 1
        difference = self.tools.measure(entry.model)
        entry.point = replace(entry.point, difference=difference)
        if not self.is_fast(difference):
            entry.failed = difference.times()
            entry.model = None
            return False
        return True

    def is_fast(self, difference: Difference) -> bool:
        """Tell whether int8 is fast enough, and for its own part."""
        if self.wishes.max_slowdown is None and not self.beats_float(difference):
            return False
        return self.wishes.is_fast(difference)

    def beats_float(self, difference: Difference) -> bool:
        """Tell whether a model may be as fast as the float one that was rewritten."""
        alone = None if self.optimized is None else self.optimized.difference
        return alone is None or difference.high >= alone.low

    def refusal(self) -> str:
        """Say why there is no choice."""
        if not self.entries:
            return "no part of the model would gain by int8"
        timed = [entry for entry in self.entries if entry.point.difference is not None]
        if timed:
            best = max(timed, key=lambda entry: entry.speed)
            told = f"{best.point.name}, {best.failed}"
            found = best.point.difference
            alone = None if self.optimized is None else self.optimized.difference
            if alone is not None and found is not None and self.wishes.is_fast(found):
                return f"int8 is slower than float, which by itself is {alone.times()}: {told}"
            wanted = "faster" if self.wishes.max_slowdown is None else "fast enough"
            return f"none that is right is {wanted}: {told}"
        scored = [entry for entry in self.entries if entry.point.metric is not None]
        if scored:
            best = max(scored, key=lambda entry: entry.point.metric or 0.0)
            least = self.wishes.least_score
            return f"none keeps a score of {least:.4g}: {best.point.name} {best.failed}"
        best = max(self.entries, key=lambda entry: entry.point.sqnr_db)
        floor = self.wishes.floor_db
        return f"none reaches {floor:g} dB: {best.point.name} has {best.point.sqnr_db:.1f} dB"
