"""Runs a model and a changed copy side by side, from front to back, while the copy is changed.

The copy stops in front of each of some layers: what the layer reads in both models is known then,
and its weight can be settled before anything behind it runs. Every sample is computed once in each
model, not once for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from onnxopt.arrays import Array
from onnxopt.graph._onnx_ir import ir
from onnxopt.sweep.line import Feed, Line
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.shelf import Shelf

Held = Callable[[int], bool]
"""Tells by its number whether a sample is held back."""


@dataclass(frozen=True, kw_only=True)
class Stop:
    """A layer that is about to run: its node in both models, and how many samples there are."""

    name: str
    teacher: Line
    student: Line
    samples: int

    @property
    def node(self) -> ir.Node:
        """The node of the changed copy."""
        return self.student.nodes[self.name]


def together(
    teacher: ir.Model,
    student: ir.Model | None,
    stops: Collection[str],
    feeds: Iterable[Feed],
    visit: Callable[[Stop], None],
    *,
    room: int = 1 << 30,
    progress: Callable[[float], None] | None = None,
) -> None:
    """Visit the named nodes of the graph in order; `visit` may change what `student` does there.

    Both models have these nodes, and the same ones in front of each; without `student` the first
    is looked at alone, as if it were both. `room` is how many bytes of activations stay in memory.
    """
    with Shelf(room) as shelf:
        first = second = Line(teacher, stops, shelf, "teacher")
        if student is not None:
            second = Line(student, stops, shelf, "student")
        lines = list(dict.fromkeys((first, second)))
        samples = 0
        for feed in feeds:
            for line in lines:
                line.take(samples, feed)
            samples += 1
        stages = len(first.cuts.segments)
        for stage in range(stages):
            for line in lines:
                line.advance(stage, samples)
            for name, place in first.cuts.before.items():
                if place == stage:
                    visit(Stop(name=name, teacher=first, student=second, samples=samples))
            for line in lines:
                line.forget(stage, samples)
            if progress is not None:
                progress((stage + 1) / stages)


def said(
    progress: Callable[[str, float], None] | None, text: str
) -> Callable[[float], None] | None:
    """Return what shows the part of something that is done."""
    return None if progress is None else lambda part: progress(text, part)


def moments(
    pairs: Iterable[tuple[Array, Array]], held: Held, *, second: bool = True
) -> tuple[Moments, Moments]:
    """Return the moments of samples to fit by and of those held back.

    A pair is what a layer reads of one sample as [groups, rows, columns], in both models; without
    `second` only means are taken.
    """
    sets: list[Moments | None] = [None, None]
    for sample, (x, q) in enumerate(pairs):
        part = int(held(sample))
        seen = sets[part]
        if seen is None:
            seen = sets[part] = Moments.of(x.shape[0], x.shape[2], second=second)
        seen.see(x, q)
    some = next(seen for seen in sets if seen is not None)
    for seen in sets:
        if seen is not None:
            seen.settle()
    empty = Moments.of(*some.mean.shape, second=second)
    fit, other = (empty if seen is None else seen for seen in sets)
    return fit, other
