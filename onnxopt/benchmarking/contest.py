"""Lets models take turns in fresh processes until it is known how fast they are.

A block is a setting with the models that are compared in it, the baseline first. Every process
measures all blocks that are still open; what has been measured decides how many sessions and runs
the next one has (`schedule`) and which blocks are closed, because their intervals are as narrow
as wanted or their time is up.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import mean
from typing import Any

from onnxopt.benchmarking.processes import Candidate, measure_turns
from onnxopt.benchmarking.statistics import schedule
from onnxopt.benchmarking.statistics.samples import Samples
from onnxopt.benchmarking.statistics.schedule import FEWEST_PROCESSES, Costs
from onnxopt.benchmarking.statistics.stats import (
    Components,
    Pairs,
    components,
    estimate,
    logs_of,
    pairs_of,
)
from onnxopt.benchmarking.statistics.stats import interval as interval_of

_START_SECONDS = 0.4  # to start Python and import what measures: a guess until it is measured
_RECENT = 50  # sessions by which costs are judged
_FEWEST_AT_ANY_COST = 2  # below two processes nothing is known of their spread
_FEW = 4  # up to here each halves the interval or nearly: it may end after the time


@dataclass(kw_only=True)
class Block:
    """The candidates of one setting, the baseline first, and what was measured of each.

    `samples` is by key of the candidate. `spent` are the seconds that its sessions took, `costs`
    those of each session: until it was steady, of its steady runs, and their number.
    """

    candidates: list[Candidate]
    samples: dict[str, Samples]
    spent: float = 0.0
    closed: bool = False
    costs: deque[tuple[float, float, int]] = field(default_factory=lambda: deque(maxlen=_RECENT))
    overloaded: dict[str, int] = field(default_factory=dict)
    wanted: int | None = None

    @property
    def alive(self) -> list[Candidate]:
        """The candidates that have not failed."""
        return [candidate for candidate in self.candidates if candidate.key in self.samples]

    @property
    def processes(self) -> int:
        """How many processes have measured it."""
        return max((len(each) for each in self.samples.values()), default=0)

    @property
    def least_measured(self) -> int:
        """In how many processes the candidate was measured that was in the fewest."""
        return min((sum(map(bool, each.levels)) for each in self.samples.values()), default=0)

    def questions(self) -> list[Pairs]:
        """Return the logarithms that each question is decided by: pairs, or of one model levels."""
        alive = self.alive
        if len(alive) < 2:
            return [logs_of(self.samples[each.key].levels) for each in alive]
        first = self.samples[alive[0].key].levels
        return [pairs_of(first, self.samples[each.key].levels) for each in alive[1:]]

    def half_width(self, comparisons: int) -> float:
        """Return half of the widest interval, as a share; infinite where nothing is known."""
        alive = self.alive
        if len(alive) == 1:
            low, high = interval_of(self.samples[alive[0].key].levels)
            return math.log(high / low) / 2 if low > 0 and math.isfinite(high) else math.inf
        if not alive:
            return math.inf
        first = self.samples[alive[0].key].levels
        found = [
            estimate(first, self.samples[each.key].levels, comparisons=comparisons)
            for each in alive[1:]
        ]
        return max(each.half_width if each else math.inf for each in found)

    def typical(self, start: float) -> Costs:
        """Return what its sessions took lately, on average; `start` is what a process takes."""
        recent = self.costs or [(0.0, 0.0, 0)]
        session, steady, runs = map(sum, zip(*recent, strict=True))
        return Costs(
            process=start,
            session=session / len(recent),
            run=steady / runs if runs else 0.0,
            runs=runs / len(recent),
        )

    def hardest(self) -> Components | None:
        """Return the components of variance of the question that is the hardest to decide."""
        found = [components(question) for question in self.questions()]
        known = [each for each in found if math.isfinite(each.process)]
        return max(known, key=lambda each: each.process + _or_zero(each.session), default=None)


@dataclass(kw_only=True)
class Contest:
    """The measurement of all blocks; `run` does it, `failed` is key to reason.

    `precision` is half the width of the interval that is wanted, as a share; `max_time` are the
    seconds for each block, `comparisons` how many verdicts share the level. `after` is called
    after each process with the share that is done, between 0 and 1.
    """

    blocks: Sequence[Block]
    precision: float
    max_time: float
    seed: int = 0
    timeout: float = 120.0
    comparisons: int = 1
    after: Callable[[float], None] = lambda _done: None
    failed: dict[str, str] = field(default_factory=dict)
    _start: float = _START_SECONDS

    def run(self) -> None:
        """Measure until every block is closed.

        Of the samples that a block begins with, those of a candidate that failed are fewer: it
        has had no session in the later processes.
        """
        for block in self.blocks:
            for each in block.samples.values():
                while len(each) < block.processes:
                    each.begin_process()
        number = max((block.processes for block in self.blocks), default=0)
        self._close()
        while any(not block.closed for block in self.blocks):
            self._process(number)
            number += 1
            self._close()
            self.after(self.done())

    def done(self) -> float:
        """Return the share that is done: of the time, or of the processes that are wanted."""
        shares = [1.0 if block.closed else self._share(block) for block in self.blocks]
        return sum(shares) / len(shares) if shares else 1.0

    def _share(self, block: Block) -> float:
        timed = block.spent / self.max_time if self.max_time > 0 else 1.0
        wanted = block.wanted or self._wanted(block)
        return min(1.0, max(timed, block.processes / wanted if wanted else 0.0))

    def _wanted(self, block: Block) -> int | None:
        found = block.hardest()
        if found is None or found.processes < FEWEST_PROCESSES - 2:
            return None
        return schedule.processes_wanted(found, self.precision, self.comparisons)

    def _close(self) -> None:
        """Close the blocks that are decided, or have no time for another process.

        How many processes are wanted is settled once, by the first `FEWEST_PROCESSES` (Stein
        1945): whoever looks after each process stops when the spread happens to look small.
        """
        for block in self.blocks:
            if block.wanted is None and block.processes >= FEWEST_PROCESSES:
                block.wanted = self._wanted(block)
            narrow = (
                block.wanted is not None
                and block.processes >= block.wanted
                and block.half_width(self.comparisons) <= math.log1p(self.precision)
            )
            few = block.least_measured < _FEW
            needed = 0.0 if few else self._least(block)
            late = block.least_measured >= _FEWEST_AT_ANY_COST and self._left(block) <= needed
            block.closed = block.closed or not block.alive or narrow or late

    def _process(self, number: int) -> None:
        """Run one process over all open blocks, and keep what it tells."""
        blocks = [block for block in self.blocks if not block.closed]
        owners = {each.key: block for block in blocks for each in block.alive}
        candidates = [each for block in blocks for each in self._prepared(block)]
        for block in blocks:
            for each in block.alive:
                block.samples[each.key].begin_process()
        begun, last = time.perf_counter(), time.perf_counter()
        for event in measure_turns(
            candidates,
            seconds=sum(map(self._left, blocks)),
            seed=self.seed + number,
            timeout=self.timeout,
        ):
            now = time.perf_counter()
            if event["event"] == "ready":
                self._start = now - begun
                for block in blocks:
                    block.spent += self._start / len(blocks)
            elif event["event"] == "session":
                owners[event["key"]].spent += now - last
                _keep(event, owners[event["key"]])
            else:
                self._fail(event, owners)
            last = now

    def _left(self, block: Block) -> float:
        return self.max_time - block.spent

    def _least(self, block: Block) -> float:
        """Return the seconds that another process takes this block at least."""
        costs = self._costs(block)
        return costs.process + costs.round_of(len(block.alive))

    def _costs(self, block: Block) -> Costs:
        return block.typical(self._start / max(1, sum(not each.closed for each in self.blocks)))

    def _prepared(self, block: Block) -> list[Candidate]:
        """Say how many rounds the candidates play, and how many runs their sessions have.

        Those of one block have equally many, for runs may drift while a session is young.
        """
        costs, alive = self._costs(block), block.alive
        rounds = schedule.rounds(
            block.hardest(), costs, len(alive), seconds=self.max_time, left=self._left(block)
        )
        runs = self._runs(block, costs)
        return [replace(each, rounds=rounds, runs=runs) for each in alive]

    def _runs(self, block: Block, costs: Costs) -> int | None:
        samples = [block.samples[each.key] for each in block.alive]
        if min(each.sessions for each in samples) < 2 * FEWEST_PROCESSES:
            return None
        within = mean(each.variance_within for each in samples)
        found = mean(components(logs_of(each.levels)).session for each in samples)
        return schedule.runs_of(within, found, costs)

    def _fail(self, event: Mapping[str, Any], owners: Mapping[str, Block]) -> None:
        blamed = [event["key"]] if event["key"] else list(owners)
        for key in blamed:
            self.failed[key] = event["message"]
            owners[key].samples.pop(key, None)


def _keep(event: Mapping[str, Any], block: Block) -> None:
    key, times, wall_ns = event["key"], event["times_ns"], event.get("wall_ns")
    block.samples[key].add(times, wall_ns)
    before = (event["load_ns"] + event["warm_ns"]) / 1e9
    block.costs.append(
        (before + wall_ns / 1e9, 0.0, 0) if wall_ns else (before, sum(times) / 1e9, len(times))
    )
    block.overloaded[key] = block.overloaded.get(key, 0) + bool(event.get("overloaded"))


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0
