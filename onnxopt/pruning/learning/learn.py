"""Lets a pruned model learn what the original makes, by gradient steps through all its layers.

Hinton, Vinyals, Dean, "Distilling the knowledge in a neural network" (2015), with numbers in place
of labels: the original's outputs, and the sums behind its residual blocks where both models have
them (Romero et al., "FitNets", ICLR 2015), are what the student is to make, of samples alone. Steps
are Adam's on weights in units of their own size, shortened along a cosine (Loshchilov and Hutter,
2017). After each pass the error on samples that were put aside tells whether the weights are kept:
those that it was least with win, and they may be the first ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from onnxopt.arrays import Array
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.judging.samples import Samples
from onnxopt.pruning.learning.course import Course, course
from onnxopt.pruning.learning.tape import Tape
from onnxopt.pruning.weights.solvers.solver import Adam
from onnxopt.report import Learned
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.runtime.sessions.session import open_session, run
from onnxopt.sweep import matrix
from onnxopt.sweep.shelf import Shelf

_SEEN = 1024
"""Samples that are learned from, and put aside."""
_BATCH = 16
_LEAST = 1e-2
"""Of the usual size of weights: a bias of zeros learns in steps of that."""
Progress = Callable[[str, float | None], None]


def learn(
    teacher: ir.Model,
    student: ir.Model,
    samples: Samples,
    *,
    protect: Collection[str] = (),
    passes: int = 8,
    rate: float = 1e-3,
    blocks: bool = True,
    seed: int = 0,
    room: int = 1 << 30,
    progress: Progress | None = None,
) -> Learned | None:
    """Let a model learn what another one makes, in place; weights of zero stay zero.

    Tensors are known by their names. `rate` is the first step as a share of a weight's usual size;
    `blocks` tells whether sums behind residual blocks are learned too. Returns None where there is
    nothing that could learn, or no sample that could be put aside.
    """
    found = course(student, protect=protect)
    with Shelf(room) as shelf:
        lesson = _Lesson(student, found, shelf, samples.aside(_SEEN), blocks=blocks)
        lesson.look(teacher, student, (feed for _, feed in samples.numbered(_SEEN)))
        if not lesson.ready:
            return None
        learned, best = lesson.take(passes, rate, seed, progress)
    if learned.kept:
        _put(student, found, best)
    return learned


class _Lesson:
    """One student, its weights in units of their size, and the samples it learns from."""

    def __init__(
        self,
        student: ir.Model,
        found: Course,
        shelf: Shelf,
        aside: Callable[[int], bool],
        *,
        blocks: bool,
    ) -> None:
        self.shelf, self.aside, self.blocks = shelf, aside, blocks
        self.opset = student.opset_imports.get("", 0)
        self.course = found
        self.fit: list[int] = []
        self.kept: list[int] = []
        self.scales: dict[str, float] = {}

    @property
    def ready(self) -> bool:
        """Whether there is anything to learn, and samples that tell how well it was."""
        return bool(self.course.weights and self.course.aims and self.fit and self.kept)

    def look(
        self, teacher: ir.Model, student: ir.Model, feeds: Iterator[Mapping[str, Array]]
    ) -> None:
        """Compute what does not change: what nodes read from outside, and what is wanted."""
        theirs = {value.name for value in _values(teacher)}
        aims = [name for name in (*self.course.aims, *self._sums()) if name in theirs]
        aims = list(dict.fromkeys(aims))
        given, wanted = _Reader(student, self.course.given), _Reader(teacher, aims)
        totals = {name: np.zeros(3) for name in aims}
        for number, feed in enumerate(feeds):
            (self.kept if self.aside(number) else self.fit).append(number)
            for kind, reader in (("given", given), ("wanted", wanted)):
                for name, array in reader.read(feed).items():
                    self.shelf.put(number, f"{kind}:{name}", array)
                    if kind == "wanted":
                        flat = array.astype(np.float64).reshape(-1)
                        totals[name] += np.array([flat.size, flat.sum(), flat @ flat])
        for name, (count, total, square) in totals.items():
            self.scales[name] = max(square / count - (total / count) ** 2, 1e-12)
        made = self._fitting(aims)
        self.course = Course(
            nodes=self.course.nodes,
            weights=self.course.weights,
            given=self.course.given,
            aims=tuple(made),
        )

    def _sums(self) -> list[str]:
        """Return the sums of two tensors that both learn: ends of residual blocks."""
        made = {value for node in self.course.nodes for value in node.outputs}
        return [
            node.outputs[0].name or ""
            for node in self.course.nodes
            if self.blocks and node.op_type == "Add" and all(v in made for v in node.inputs)
        ]

    def _fitting(self, aims: list[str]) -> list[str]:
        """Return the aims of which the student makes as many numbers as the teacher."""
        if not self.fit:
            return []
        self.tape = Tape(_with(self.course, aims), self.opset)
        self.weights = {
            name: _initial(self.course, name).astype(np.float32) for name in self.course.weights
        }
        found = self.tape.run(self.weights, self._held(self.fit[0], "given", self.course.given))
        wanted = self._held(self.fit[0], "wanted", aims)
        fitting = [name for name in aims if found[name].shape == wanted[name].shape]
        self.tape = Tape(_with(self.course, fitting), self.opset)
        return fitting

    def _held(self, sample: int, kind: str, names: Collection[str]) -> dict[str, Array]:
        return {name: self.shelf.get(sample, f"{kind}:{name}") for name in names}

    def take(
        self, passes: int, rate: float, seed: int, progress: Progress | None
    ) -> tuple[Learned, dict[str, Array]]:
        """Learn; return what came of it, and the best weights."""
        sizes = {n: math.sqrt(float(np.mean(w * w))) for n, w in self.weights.items()}
        usual = float(np.median([size for size in sizes.values() if size > 0] or [1.0]))
        units = {name: max(size, _LEAST * usual) for name, size in sizes.items()}
        steady = {name: w != 0 if w.any() else None for name, w in self.weights.items()}
        solvers = {name: Adam(rate=rate) for name in self.weights}
        for name, solver in solvers.items():
            solver.start(self.weights[name].shape)
        order = np.random.default_rng(seed)
        steps = passes * math.ceil(len(self.fit) / _BATCH)
        done, errors, best = 0, [], dict(self.weights)
        # Products of one sample are small: samples side by side take less than cores do on each.
        with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
            before = self.error(pool)
            for _ in range(passes):
                for batch in _batches(order.permutation(self.fit)):
                    share = (1 + math.cos(math.pi * done / steps)) / 2
                    for name, gradient in self.slopes(batch, pool).items():
                        unit, old = np.float32(units[name]), self.weights[name]
                        new = solvers[name].step(old / unit, gradient * unit) * unit
                        moved = np.asarray(old + np.float32(share) * (new - old), np.float32)
                        mask = steady[name]
                        self.weights[name] = moved if mask is None else moved * mask
                    done += 1
                    if progress is not None:
                        progress("learning", done / steps)
                errors.append(self.error(pool))
                if errors[-1] <= min([before, *errors]):
                    best = dict(self.weights)
        kept = 0 if min(errors) >= before else int(np.argmin(errors)) + 1
        return Learned(before=before, passes=tuple(errors), kept=kept), best

    def slopes(self, batch: list[int], pool: ThreadPoolExecutor) -> dict[str, Array]:
        """Return the mean gradients of some samples."""
        total: dict[str, Array] = {}

        def of(sample: int) -> dict[str, Array]:
            given = self._held(sample, "given", self.course.given)
            wanted = self._held(sample, "wanted", self.tape.course.aims)
            return self.tape.learn(self.weights, given, wanted, self.scales)[1]

        for found in pool.map(of, batch):
            for name, gradient in found.items():
                share = gradient / np.float32(len(batch))
                total[name] = total[name] + share if name in total else share
        return total

    def error(self, pool: ThreadPoolExecutor) -> float:
        """Return the mean error of the samples that were put aside."""

        def of(sample: int) -> float:
            found = self.tape.run(self.weights, self._held(sample, "given", self.course.given))
            wanted = self._held(sample, "wanted", found)
            return sum(
                float(np.square(found[n] - wanted[n]).mean()) / self.scales[n] for n in found
            )

        return float(sum(pool.map(of, self.kept)) / len(self.kept))


class _Reader:
    """Hands out tensors of a model, whatever they are: inputs, or what nodes compute."""

    def __init__(self, model: ir.Model, names: Collection[str]) -> None:
        self.fed = [value.name or "" for value in model.graph.inputs if value.name in names]
        self.made = [name for name in names if name not in self.fed]
        if self.made:
            inputs = [value.name or "" for value in model.graph.inputs]
            part = ir.Model(
                ir.convenience.extract(model.graph, inputs, self.made), ir_version=model.ir_version
            )
            part.opset_imports.update(model.opset_imports)
            self.session = open_session(io.to_proto(part).SerializeToString())

    def read(self, feed: Mapping[str, Array]) -> dict[str, Array]:
        """Return them for one sample."""
        found = {name: np.asarray(feed[name]) for name in self.fed}
        if self.made:
            wanted = {put.name for put in self.session.get_inputs()}
            own = {name: array for name, array in feed.items() if name in wanted}
            found |= dict(zip(self.made, run(self.session, own, self.made), strict=True))
        return found


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for node in model.graph:
        yield from node.outputs


def _with(found: Course, aims: Collection[str]) -> Course:
    return Course(nodes=found.nodes, weights=found.weights, given=found.given, aims=tuple(aims))


def _initial(found: Course, name: str) -> Array:
    for node in found.nodes:
        for value in node.inputs:
            if value is not None and value.name == name:
                held = facts.constant(value)
                assert held is not None
                return np.asarray(held)
    raise KeyError(name)


def _batches(order: Array) -> Iterator[list[int]]:
    for start in range(0, len(order), _BATCH):
        yield [int(number) for number in order[start : start + _BATCH]]


def _put(student: ir.Model, found: Course, weights: Mapping[str, Array]) -> None:
    """Let nodes read what was learned."""
    editor = Editor(student)
    for node in found.nodes:
        for place, value in enumerate(list(node.inputs)):
            if value is not None and value.name in found.weights:
                matrix.set_constant(editor, node, place, weights[value.name])
