"""The ordered list of steps, run in rounds until nothing changes.

A pass is a module with `NAME`, `SUMMARY` and `run(editor, config) -> Counter`: what was done, how
often. The model is valid before and after each. `fuse` is the pass that applies the rewrite rules.
"""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from types import ModuleType

import onnx

from onnxopt import rules
from onnxopt.config import OptimizeConfig
from onnxopt.errors import OnnxOptError
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import (
    arithmetic,
    constants,
    dead,
    fold,
    inline,
    opset,
    shapes,
    share,
    unroll,
)
from onnxopt.report import Step
from onnxopt.rewrite.engine import Outcome, fitting, rewrite
from onnxopt.rewrite.rule import Rule
from onnxopt.text import near_matches

FUSE = "fuse"
FUSE_SUMMARY = "Applies the rewrite rules, until none fires"

OPENING: tuple[ModuleType, ...] = (inline, constants, dead, unroll, shapes, opset)
ROUND: tuple[ModuleType | None, ...] = (arithmetic, fold, unroll, None, share, dead)
"""What a round consists of; None stands for the rules."""

_TELLING = {inline.NAME, arithmetic.NAME, fold.NAME, opset.NAME, unroll.NAME}
_TELLING |= {"take_constant_branch", "take_possible_branch", "merge_equal_branches"}
"""Passes, and what passes do, after which more can be inferred than before."""

_ROUNDS = 10
Progress = Callable[[str, float | None], None]


class PassCrashedError(Exception):
    """A pass raised: a fault of ours, after which the model cannot be trusted."""

    def __init__(self, name: str, error: Exception) -> None:
        super().__init__(f"{name} crashed with {type(error).__name__}: {error}")
        self.name = name


@dataclass(kw_only=True)
class Transformation:
    """What the steps did to a model, in order, and what the rules refused.

    `raised_for` names the rules for which the operator set was raised without being asked for.
    """

    steps: list[Step] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    raised_for: set[str] = field(default_factory=set)

    @property
    def raised_in_vain(self) -> bool:
        """Whether the operator set was raised, and then every rule that wanted it refused."""
        return bool(self.raised_for) and not self.raised_for & self.outcome.done.keys()

    def units(self) -> list[str]:
        """Return what can be left out one by one: the rules and passes that did something."""
        found: dict[str, None] = {}
        for step in self.steps:
            found.update(dict.fromkeys(step.done if step.name == FUSE else (step.name,)))
        return list(found)


def pass_names() -> dict[str, str]:
    """Return the passes in their order: name to summary."""
    found: dict[str, str] = {}
    for module in (*OPENING, *ROUND):
        if module is None:
            found[FUSE] = FUSE_SUMMARY
        else:
            found[module.NAME] = module.SUMMARY
    return found


def check_names(names: Iterable[str]) -> None:
    """Raise `OnnxOptError` for a name that no pass and no rule bears."""
    known = {*pass_names(), *rules.names()}
    for name in names:
        if name not in known:
            raise OnnxOptError(
                f"no pass or rule is called {name!r}",
                near_matches(name, known, otherwise="onnxopt rules lists them"),
            )


def transform(
    model: ir.Model,
    config: OptimizeConfig,
    *,
    without: frozenset[str] = frozenset(),
    progress: Progress | None = None,
) -> Transformation:
    """Run all steps on a model, in place; `without` names rules and passes to leave out."""
    run = _Run(model, config, without, progress)
    for module in OPENING:
        if module is not shapes:
            run.step(module.NAME, module.run)
        elif run.may_know_more(0):
            run.infer_shapes()
        if run.result.steps and run.result.steps[-1].name == inline.NAME:
            run.editor = Editor(model)
    for number in range(_ROUNDS):
        before = len(run.result.steps)
        if not run.round(number) and not run.step(opset.NAME, run.raise_opset):
            break
        if run.may_know_more(before):
            run.infer_shapes()
    return run.result


class _Run:
    """One run over one model."""

    def __init__(
        self,
        model: ir.Model,
        config: OptimizeConfig,
        without: frozenset[str],
        progress: Progress | None,
    ) -> None:
        self.model = model
        self.config = config
        self.without = without
        self.progress = progress
        self.editor = Editor(model)
        self.nodes = facts.count_nodes(model)
        self.shapeless = shapes.count_shapeless(model)
        self.clock = 0
        self.ran: dict[str, int] = {}
        self.changed: dict[str, int] = {}
        self.result = Transformation()

    def round(self, number: int) -> bool:
        """Run every pass once; tell whether another round may find more."""
        found = False
        for module in ROUND:
            name = FUSE if module is None else module.NAME
            if self.may_find_more(name):
                found |= self.step(name, self.fuse if module is None else module.run)
            if self.progress is not None:
                self.progress(f"round {number + 1}: {name}", None)
        return found

    def may_find_more(self, name: str) -> bool:
        """Tell whether anything else has changed the model since a pass last ran.

        Each pass goes on until it finds nothing: its own changes are no reason to run it again.
        """
        if name not in self.ran:
            return True
        return any(when > self.ran[name] for who, when in self.changed.items() if who != name)

    def step(self, name: str, run: Callable[[Editor, OptimizeConfig], Counter[str]]) -> bool:
        """Run one pass as a step of the report; tell whether it did anything."""
        if name in self.without or not self.wanted(name):
            return False
        start = time.perf_counter()
        try:
            done = run(self.editor, self.config)
        except OnnxOptError:
            raise
        except Exception as error:
            raise PassCrashedError(name, error) from error
        seconds = time.perf_counter() - start
        self.clock += 1
        self.ran[name] = self.clock
        if done:
            self.changed[name] = self.clock
            before, self.nodes = self.nodes, facts.count_nodes(self.model)
            self.result.steps.append(
                Step(
                    name=name,
                    done=dict(done.most_common()),
                    nodes_before=before,
                    nodes_after=self.nodes,
                    seconds=seconds,
                )
            )
            if self.config.check:
                self.check(name)
        return bool(done)

    def infer_shapes(self) -> None:
        """Infer shapes once more; what is learnt may let every pass find more."""
        if shapes.NAME not in self.without and self.wanted(shapes.NAME):
            self.clock += 1
            if shapes.infer(self.model):
                self.changed[shapes.NAME] = self.clock
            self.shapeless = shapes.count_shapeless(self.model)

    def may_know_more(self, before: int) -> bool:
        """Tell whether inferring shapes again may find something, after the steps from `before`."""
        steps = {name for step in self.result.steps[before:] for name in (step.name, *step.done)}
        if not shapes.was_inferred(self.model) or steps & _TELLING:
            return True
        return bool(steps) and shapes.count_shapeless(self.model) > self.shapeless

    def wanted(self, name: str) -> bool:
        config = self.config
        if name == shapes.NAME or (name == opset.NAME and config.opset is not None):
            return name not in config.skip
        if name == FUSE and name not in config.skip and config.only:
            return name in config.only or any(rule in config.only for rule in rules.names())
        return config.allows(name)

    def fuse(self, editor: Editor, config: OptimizeConfig) -> Counter[str]:
        outcome = rewrite(editor, self.rules, config.target, tracing=config.trace)
        self.result.outcome.done += outcome.done
        self.result.outcome.crashed.update(outcome.crashed)
        for name, reasons in outcome.refused.items():
            kept = self.result.outcome.refused.setdefault(name, [])
            kept.extend(reason for reason in reasons if reason not in kept)
        return outcome.done

    @functools.cached_property
    def rules(self) -> list[Rule]:
        config = self.config
        only = {name for name in config.only if name in rules.names()}
        return [
            rule
            for rule in rules.load()
            if rule.name not in self.without
            and rule.name not in config.skip
            and (not config.only or FUSE in config.only or rule.name in only)
            and (config.measure or config.target.name not in rule.unsure or rule.name in only)
        ]

    def raise_opset(self, editor: Editor, config: OptimizeConfig) -> Counter[str]:
        """Raise the operator set where rules would fire that the present one does not have."""
        now = editor.opset(None)
        newer = [rule for rule in self.rules if now < rule.since <= config.target.opset]
        if config.opset is not None or not newer:
            return Counter()
        wanted = fitting(editor, newer, config.target)
        goal = max((rule.since for rule in newer if rule.name in wanted), default=now)
        if goal == now or opset.obstacle_to(editor, goal):
            return Counter()
        self.result.raised_for.update(rule.name for rule in newer if rule.since <= goal)
        return opset.raise_to(editor, goal)

    def check(self, name: str) -> None:
        """Hold the model against onnx's checker, as `--check` asks after each step."""
        try:
            onnx.checker.check_model(io.to_proto(self.model))
        except onnx.checker.ValidationError as error:
            first = str(error).strip().splitlines()[0]
            raise PassCrashedError(
                name, ValueError(f"the model is no longer valid: {first}")
            ) from error
