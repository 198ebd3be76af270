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
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from onnxopt.arrays import Array
from onnxopt.errors import OnnxOptError, one_line
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.judging.samples import Samples
from onnxopt.pruning.learning.course import Course, course
from onnxopt.pruning.learning.lesson import Lesson, initial, prepare
from onnxopt.pruning.weights.solvers.solver import Adam
from onnxopt.report import Learned
from onnxopt.runtime.machine.isa import usable_cores
from onnxopt.sweep import matrix
from onnxopt.sweep.shelf import Shelf

SEEN = 1024
"""Samples that are learned from or put aside, at most."""
_BATCH = 4
"""Samples of a step: a few hundred samples make few steps otherwise."""
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
    most: int = SEEN,
    blocks: bool = True,
    seed: int = 0,
    room: int = 1 << 30,
    progress: Progress | None = None,
) -> Learned:
    """Let a model learn what another one makes, in place; weights of zero stay zero.

    Tensors are known by their names. `rate` is the first step as a share of a weight's usual size;
    `most` samples are learned from or put aside, `blocks` tells whether sums behind residual blocks
    are learned too. `room` is how many bytes of what is given and wanted stay in memory. Nodes of
    `protect` are left as they are. Where an operator cannot be computed the reason says so.
    """
    found = course(student, protect=protect)
    if not found.weights or not found.aims:
        return Learned(reason="no gradient is known from an output back to a weight")
    feeds = (feed for _, feed in samples.numbered(most))
    try:
        with Shelf(room) as shelf:
            aside = samples.aside(most)
            lesson = prepare(teacher, student, found, feeds, aside, shelf, blocks=blocks)
            learned, best = _taught(lesson, rate, passes, seed, progress)
    except OnnxOptError:
        raise
    except Exception as error:  # noqa: BLE001 - operators raise whatever numpy and onnx raise
        return Learned(reason=f"it could not be computed: {one_line(str(error))}")
    if learned.kept:
        _put(student, found, best)
    return learned


def _taught(
    lesson: Lesson, rate: float, passes: int, seed: int, progress: Progress | None
) -> tuple[Learned, dict[str, Array]]:
    """Learn; return what came of it, and the weights of the best pass."""
    if not lesson.tape.course.aims:
        return Learned(reason="it makes nothing that the model makes too"), {}
    if not lesson.fit or not lesson.kept:
        return Learned(reason="there are too few samples to put any aside"), {}
    pupil = _Pupil(lesson, rate)
    # Products of one sample are small: samples side by side take less than cores do on each.
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
        return pupil.take(passes, seed, pool, progress)


class _Pupil:
    """The weights on their way, each in units of its usual size."""

    def __init__(self, lesson: Lesson, rate: float) -> None:
        self.lesson = lesson
        self.weights = initial(lesson.tape.course)
        sizes = {n: math.sqrt(float(np.mean(w * w))) for n, w in self.weights.items()}
        usual = float(np.median([size for size in sizes.values() if size > 0] or [1.0]))
        self.units = {n: np.float32(max(size, _LEAST * usual)) for n, size in sizes.items()}
        # Zeros stay, but a bias of nothing else may begin to learn.
        self.free = {n: w != 0 if w.any() else np.True_ for n, w in self.weights.items()}
        self.solvers = {name: Adam(rate=rate) for name in self.weights}
        for name, solver in self.solvers.items():
            solver.start(self.weights[name].shape)

    def take(
        self, passes: int, seed: int, pool: Executor, progress: Progress | None
    ) -> tuple[Learned, dict[str, Array]]:
        """Learn; return what came of it, and the weights of the best pass."""
        order = np.random.default_rng(seed)
        steps = passes * math.ceil(len(self.lesson.fit) / _BATCH)
        done, best, before = 0, dict(self.weights), self.error(pool)
        errors: list[float] = []
        for _ in range(passes):
            for batch in _batches(order.permutation(self.lesson.fit)):
                self.step(self.slopes(batch, pool), (1 + math.cos(math.pi * done / steps)) / 2)
                done += 1
                if progress is not None:
                    progress("learning", done / steps)
            found = self.error(pool)
            if found < min([before, *errors]):
                best = dict(self.weights)
            errors.append(found)
        kept = int(np.argmin(errors)) + 1 if min(errors, default=before) < before else 0
        return Learned(before=before, passes=tuple(errors), kept=kept), best

    def step(self, slopes: Mapping[str, Array], share: float) -> None:
        """Move all weights by a share of what the solver says."""
        for name, gradient in slopes.items():
            unit, old = self.units[name], self.weights[name]
            new = self.solvers[name].step(old / unit, gradient * unit) * unit
            moved = old + np.float32(share) * (new - old)
            self.weights[name] = np.asarray(moved * self.free[name], np.float32)

    def slopes(self, batch: list[int], pool: Executor) -> dict[str, Array]:
        """Return the mean gradients of some samples."""
        total: dict[str, Array] = {}
        for found in pool.map(lambda sample: self.lesson.slopes(self.weights, sample), batch):
            for name, gradient in found.items():
                share = gradient / np.float32(len(batch))
                total[name] = total[name] + share if name in total else share
        return total

    def error(self, pool: Executor) -> float:
        """Return the mean error of the samples that were put aside."""
        kept = self.lesson.kept
        found = pool.map(lambda sample: self.lesson.error(self.weights, sample), kept)
        return float(sum(found) / len(kept))


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
