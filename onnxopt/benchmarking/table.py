"""Measures all models in all settings, and says at any time what is known so far."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from onnxopt.benchmarking.alone import TIMES, Alone, observe, without_traffic
from onnxopt.benchmarking.child.feeding import Fed, feeds_for
from onnxopt.benchmarking.contest import Block, Contest
from onnxopt.benchmarking.plan import Plan
from onnxopt.benchmarking.processes import Candidate
from onnxopt.benchmarking.resume import Key
from onnxopt.benchmarking.rows import Row, Subject, best_of, not_compared
from onnxopt.benchmarking.statistics.samples import Samples, Store
from onnxopt.benchmarking.statistics.stats import estimate
from onnxopt.benchmarking.surroundings import environment
from onnxopt.errors import ProviderError
from onnxopt.report import BenchmarkReport, Caution, Ceiling, Difference, Hotspots, Setting
from onnxopt.runtime.execution.presets import options_for
from onnxopt.runtime.execution.providers import check_usable, find_provider

Progress = Callable[[str, float | None], None]
Watch = Callable[[BenchmarkReport], None]

_SHORT = 0.5  # seconds that a process takes which makes inputs, or loads a model: a guess


class Table:
    """The measurement of `subjects` in the settings of `plan`.

    `measure` does it and `report` tells what is known. `earlier` are samples by (sha256, control,
    setting) with which it goes on. `loaded` gets a report when models have been loaded and none
    has been measured: it may raise; `watch` gets one after each process.
    """

    def __init__(
        self,
        subjects: Sequence[Subject],
        plan: Plan,
        *,
        progress: Progress | None = None,
        watch: Watch | None = None,
        loaded: Watch | None = None,
        earlier: Mapping[Key, list[Samples]] | None = None,
    ) -> None:
        self.plan = plan
        self.begun = time.perf_counter()
        self.before = environment.snapshot(plan.providers)
        self.rows = [
            Row(subject=subject, setting=setting)
            for setting in plan.settings()
            for subject in subjects
        ]
        self.subjects = subjects
        self.hotspots: list[Hotspots] = []
        self._progress = progress
        self._watch = watch
        self._loaded = loaded
        self._earlier = {key: iter(samples) for key, samples in (earlier or {}).items()}
        self._blocks: list[Block] = []
        self._failed: Mapping[str, str] = {}
        self._warnings: tuple[Caution, ...] = ()

    def measure(self, folder: Path) -> None:
        """Run everything; `folder` is for the feeds, for as long as this takes."""
        self._check_providers()
        self._feed(folder)
        self._observe()
        if self._loaded is not None:
            self._loaded(self.report(final=False))
        self._blocks = self._make_blocks()
        contest = Contest(
            blocks=self._blocks,
            precision=self.plan.precision,
            max_time=self.plan.max_time,
            seed=self.plan.seed,
            timeout=self.plan.timeout,
            comparisons=self._comparisons(),
            after=self._after,
        )
        self._failed = contest.failed
        try:
            contest.run()
        except (KeyboardInterrupt, SystemExit):  # what the last process has told counts, too
            self._after(contest.done())
            raise
        self._update()
        if self.plan.profile:
            self._profile()
        self._warnings = tuple(self._judge())
        self._tell("measured", 1.0)

    def report(self, *, final: bool = True) -> BenchmarkReport:
        """Return what is known; only the `final` one has cautions and the best of settings."""
        self._update()
        results = tuple(row.result(self.plan, final=final) for row in self.rows)
        differences = self._differences()
        return BenchmarkReport(
            environment=dict(self.before.described),
            results=results,
            differences=differences,
            best=best_of(results) if final else (),
            hotspots=tuple(self.hotspots),
            warnings=(*self._warnings, *_controls(differences)),
            plan=self.plan.to_dict(),
            seconds=time.perf_counter() - self.begun,
            complete=final,
        )

    def _check_providers(self) -> None:
        for name in dict.fromkeys(self.plan.providers):
            try:
                check_usable(name)
            except ProviderError as error:
                for row in self.rows:
                    if row.setting.provider == name:
                        row.error = str(error)

    def _feed(self, folder: Path) -> None:
        batches = list(dict.fromkeys(self.plan.batches))
        feeds, _ = self._shares()
        first: Mapping[int | None, Fed] = {}
        for number, subject in enumerate(self.subjects):
            self._tell("making inputs", feeds * number / len(self.subjects))
            if all(row.failure for row in self._rows_of(subject)):
                continue
            fed = feeds_for(
                subject.path,
                batches,
                folder,
                number=number,
                first=first,
                data=self.plan.data,
                fix=self.plan.fix,
                seed=self.plan.seed,
                timeout=self.plan.timeout,
            )
            for row in self._rows_of(subject):
                row.fed = fed[row.setting.batch]
                if row.setting.batch in first and not row.fed.shared and not row.fed.error:
                    row.notes.append(not_compared(self.subjects[0].path))
            if number == 0:
                first = {batch: each for batch, each in fed.items() if not each.error}

    def _observe(self) -> None:
        """Run each model alone once for all traffic that it gets later."""
        known: dict[tuple[str, Setting], Alone] = {}
        feeds, alone = self._shares()
        for number, row in enumerate(self.rows):
            self._tell("loading", feeds + alone * number / len(self.rows))
            if row.failure:
                continue
            provider = find_provider(row.setting.provider)
            row.options = options_for(
                row.setting.provider,
                model_sha256=row.subject.sha256,
                shapes=row.fed.described,
                given=self.plan.provider_options.get(row.setting.provider, {}),
                files=row.subject.files,
            )
            alike = (row.subject.path, without_traffic(row.setting))
            if alike not in known:
                known[alike] = observe(
                    self._candidate(row),
                    times=self._times(),
                    builds=provider.builds,
                    timeout=self.plan.timeout,
                )
            row.alone = known[alike]
            if self.plan.strict and row.alone.fallback:
                row.error = f"--strict: {row.alone.fallback}"

    def _candidate(self, row: Row, block: str = "") -> Candidate:
        return Candidate(
            key=row.key,
            path=row.subject.path,
            feed=row.fed.file,
            setting=row.setting,
            options=row.options,
            block=block,
        )

    def _make_blocks(self) -> list[Block]:
        """Put the models of a setting that share a feed into one block, each other into its own."""
        made: dict[str, Block] = {}
        store = Store()
        for row in self._measurable():
            shared = row.subject.index == 0 or row.fed.shared
            name = f"{row.setting} {'' if shared else row.subject.index}"
            block = made.setdefault(name, Block(candidates=[], samples={}))
            block.candidates.append(self._candidate(row, name))
            alike = (row.subject.sha256, row.subject.control, row.setting)
            row.samples = next(self._earlier.get(alike, iter(())), None)
            if row.samples is None:
                throughput = row.setting.metric == "throughput"
                row.samples = Samples(per_request=throughput, store=store)
            block.samples[row.key] = row.samples
        return list(made.values())

    def _measurable(self) -> list[Row]:
        return [row for row in self.rows if not row.failure]

    def _rows_of(self, subject: Subject) -> list[Row]:
        return [row for row in self.rows if row.subject is subject]

    def _times(self) -> int:
        """Return in how many processes each model is loaded alone."""
        return TIMES if len(self.rows) <= 8 else max(1, TIMES - 1)

    def _shares(self) -> tuple[float, float]:
        """Guess which shares of the whole making inputs and loading models alone are."""
        settings = self.plan.settings()
        loaded = len({without_traffic(setting) for setting in settings}) * self._times()
        each = _SHORT * len(self.subjects)
        whole = each * (1 + loaded) + max(self.plan.max_time, 1.0) * len(settings)
        return each / whole, each * loaded / whole

    def _comparisons(self) -> int:
        return max(1, sum(max(0, len(block.candidates) - 1) for block in self._blocks))

    def _after(self, done: float) -> None:
        before = sum(self._shares())
        self._tell("measuring", before + (1 - before) * min(done, 0.999))
        if self._watch is not None:
            self._watch(self.report(final=False))

    def _update(self) -> None:
        rows = {row.key: row for row in self.rows}
        for row in self.rows:
            row.error = row.error or self._failed.get(row.key, "")
        for block in self._blocks:
            half_width = math.expm1(block.half_width(self._comparisons()))
            for candidate in block.candidates:
                row = rows[candidate.key]
                row.overloaded = block.overloaded.get(row.key, 0)
                row.half_width = half_width

    def _differences(self) -> tuple[Difference, ...]:
        """Compare the models of each block with its first, where that could be measured."""
        rows, found = {row.key: row for row in self.rows}, []
        for block in self._blocks:
            baseline = rows[block.candidates[0].key]
            for candidate in block.candidates[1:]:
                row = rows[candidate.key]
                if baseline.subject.index or not {baseline.key, row.key} <= set(block.samples):
                    continue
                one, two = (block.samples[each.key].levels for each in (baseline, row))
                result = estimate(one, two, comparisons=self._comparisons())
                if result is not None:
                    names = (baseline.subject.path, row.subject.path)
                    found.append(
                        result.difference(*names, row.setting, control=row.subject.control)
                    )
        return tuple(found)

    def _profile(self) -> None:
        """Look where the time of each model goes, once for all traffic that it got."""
        from onnxopt.profiling import ceiling, profile

        ceilings: dict[Setting, Ceiling] = {}
        seen: set[tuple[str, Setting]] = set()
        for row in self._measurable():
            setting = without_traffic(row.setting)
            if row.subject.control or (row.subject.path, setting) in seen:
                continue
            seen.add((row.subject.path, setting))
            self._tell("profiling", None)
            hardware = Setting(provider=setting.provider, threads=setting.threads)
            timeout = self.plan.timeout
            if hardware not in ceilings:
                given = self.plan.provider_options.get(setting.provider, {})
                ceilings[hardware] = ceiling(hardware, options=given, timeout=timeout)
            found = profile(
                row.subject.path,
                row.fed.file,
                setting,
                options=row.options,
                timeout=timeout,
                ceiling=ceilings[hardware],
            )
            self.hotspots.append(found)

    def _judge(self) -> list[Caution]:
        """Say what the machine did meanwhile that speaks against the numbers, if there are any."""
        if not any(row.samples and row.samples.runs for row in self.rows):
            return []
        busiest = max(row.setting.threads * row.setting.callers for row in self.rows)
        narrow = math.log1p(self.plan.precision)
        return environment.judge(
            self.before,
            environment.snapshot(self.plan.providers),
            threads=None if self.plan.threads == (None,) else busiest,
            precise=all(block.half_width(self._comparisons()) <= narrow for block in self._blocks),
        )

    def _tell(self, what: str, fraction: float | None) -> None:
        if self._progress is not None:
            self._progress(what, fraction)


def _controls(differences: Sequence[Difference]) -> tuple[Caution, ...]:
    """Warn where a model differs from itself: the other verdicts are then in doubt too."""
    return tuple(
        Caution(
            kind="control",
            message=f"{Path(each.baseline).name} against itself: {each.sentence()}",
            advice="something steady disturbs the measurement: do not trust verdicts of this size",
        )
        for each in differences
        if each.control and each.verdict != "no difference"
    )
