"""What a student is given of each sample, and what it is to make: computed once, on a shelf."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.learning.course import Course
from onnxopt.pruning.learning.tape import Tape
from onnxopt.runtime.sessions.session import open_session, run
from onnxopt.sweep.shelf import Shelf

Arrays = Mapping[str, Array]
Feeds = Iterable[Mapping[str, Array]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Samples to learn from (`fit`) and to be tried by (`kept`), and the model that learns.

    `scales` is by aim the variance of what is wanted.
    """

    tape: Tape
    shelf: Shelf
    scales: Mapping[str, float]
    fit: tuple[int, ...]
    kept: tuple[int, ...]

    def slopes(self, weights: Arrays, sample: int) -> dict[str, Array]:
        """Return the gradients of one sample by weight."""
        given, wanted = self.held(sample, "given"), self.held(sample, "wanted")
        return self.tape.learn(weights, given, wanted, self.scales)[1]

    def error(self, weights: Arrays, sample: int) -> float:
        """Return the error of one sample, as `Tape.learn` has it."""
        made = self.tape.run(weights, self.held(sample, "given"))
        wanted = self.held(sample, "wanted")
        return sum(
            float(np.square(made[name] - wanted[name]).mean()) / self.scales[name] for name in made
        )

    def held(self, sample: int, kind: Literal["given", "wanted"]) -> dict[str, Array]:
        """Return what is given of one sample, or what is wanted."""
        course = self.tape.course
        names = course.given if kind == "given" else course.aims
        return {name: self.shelf.get(sample, f"{kind}:{name}") for name in names}


def prepare(
    teacher: ir.Model,
    student: ir.Model,
    course: Course,
    feeds: Feeds,
    aside: Callable[[int], bool],
    shelf: Shelf,
    *,
    blocks: bool,
) -> Lesson:
    """Compute what does not change as the student learns.

    Aims are those of the course that the teacher makes too, of as many numbers; with `blocks` also
    the sums behind residual blocks. `aside` tells by its place whether a sample is to be tried by.
    """
    theirs = {value.name for value in _values(teacher)}
    sums = _sums(course) if blocks else []
    aims = [name for name in dict.fromkeys((*course.aims, *sums)) if name in theirs]
    given, wanted = _Reader(student, course.given), _Reader(teacher, aims)
    totals = {name: np.zeros(3) for name in aims}
    places: dict[bool, list[int]] = {False: [], True: []}
    for number, feed in enumerate(feeds):
        places[aside(number)].append(number)
        for name, array in given.read(feed).items():
            shelf.put(number, f"given:{name}", array)
        for name, array in wanted.read(feed).items():
            shelf.put(number, f"wanted:{name}", array)
            flat = array.astype(np.float64).reshape(-1)
            totals[name] += np.array([flat.size, flat.sum(), flat @ flat])
    lesson = Lesson(
        tape=Tape(replace(course, aims=tuple(aims)), student.opset_imports.get("", 0)),
        shelf=shelf,
        scales={
            name: max(square / count - (total / count) ** 2, 1e-12)
            for name, (count, total, square) in totals.items()
            if count
        },
        fit=tuple(places[False]),
        kept=tuple(places[True]),
    )
    return _fitting(lesson) if lesson.fit and aims else lesson


def initial(course: Course) -> dict[str, Array]:
    """Return the weights as they are, float32."""
    held = {
        value.name or "": facts.constant(value)
        for node in course.nodes
        for value in node.inputs
        if value is not None and value.name in course.weights
    }
    return {name: np.asarray(array, np.float32) for name, array in held.items()}


def _fitting(lesson: Lesson) -> Lesson:
    """Leave out aims of which the student makes other numbers than the teacher."""
    course, tape, first = lesson.tape.course, lesson.tape, lesson.fit[0]
    made = tape.run(initial(course), lesson.held(first, "given"))
    wanted = lesson.held(first, "wanted")
    aims = tuple(name for name in course.aims if made[name].shape == wanted[name].shape)
    return replace(lesson, tape=Tape(replace(course, aims=aims), tape.opset))


def _sums(course: Course) -> list[str]:
    """Return the sums of two tensors that both learn: ends of residual blocks."""
    made = {value for node in course.nodes for value in node.outputs}
    return [
        node.outputs[0].name or ""
        for node in course.nodes
        if node.op_type == "Add" and all(value in made for value in node.inputs)
    ]


def _values(model: ir.Model) -> Iterator[ir.Value]:
    for node in model.graph:
        yield from node.outputs


class _Reader:
    """Hands out tensors of a model, whatever they are: inputs, or what nodes compute."""

    def __init__(self, model: ir.Model, names: Collection[str]) -> None:
        inputs = [value.name or "" for value in model.graph.inputs]
        self.fed = [name for name in inputs if name in names]
        self.made = [name for name in names if name not in self.fed]
        if self.made:
            graph = ir.convenience.extract(model.graph, inputs, self.made)
            part = ir.Model(graph, ir_version=model.ir_version)
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
