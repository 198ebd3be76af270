"""Computes the part of a model that learns, and the gradients of an error with respect to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.pruning.learning.course import Course
from onnxopt.pruning.learning.operators import Call, Pull, compute

Arrays = Mapping[str, Array]


@dataclass(frozen=True, kw_only=True)
class _Step:
    call: Call
    reads: tuple[str, ...]
    makes: tuple[str, ...]


class Tape:
    """A course that can be run: forwards for what it makes, backwards for gradients."""

    def __init__(self, course: Course, opset: int) -> None:
        self.course, self.opset = course, opset
        self.steps = [
            _Step(
                call=Call(node=node, opset=opset),
                reads=tuple("" if value is None else value.name or "" for value in node.inputs),
                makes=tuple(value.name or "" for value in node.outputs),
            )
            for node in course.nodes
        ]
        self.constants = {
            value.name or "": _constant(value)
            for node in course.nodes
            for value in node.inputs
            if facts.is_constant(value) and value is not None and value.name not in course.weights
        }
        self.last = self._last_read()

    def run(self, weights: Arrays, given: Arrays) -> dict[str, Array]:
        """Return the aims of one sample."""
        values = {**self.constants, **weights, **given}
        for number, step in enumerate(self.steps):
            made, _ = compute(step.call, [values.get(name) for name in step.reads])
            values.update(zip(step.makes, made, strict=True))
            for name in self.last[number]:
                del values[name]
        return {name: values[name] for name in self.course.aims}

    def learn(
        self, weights: Arrays, given: Arrays, wanted: Arrays, scales: Mapping[str, float]
    ) -> tuple[float, dict[str, Array]]:
        """Return the error of one sample and its gradients by weight.

        The error is the sum over aims of the mean square of what is off, over the aim's scale.
        """
        values = {**self.constants, **weights, **given}
        pulls: list[Pull] = []
        for step in self.steps:
            made, pull = compute(step.call, [values.get(name) for name in step.reads])
            values.update(zip(step.makes, made, strict=True))
            pulls.append(pull)
        error, slopes = 0.0, {}
        for name in self.course.aims:
            off = values[name] - wanted[name]
            share = scales[name] * off.size
            error += float(np.vdot(off, off)) / share
            slopes[name] = off * np.float32(2 / share)
        values.clear()
        return error, self._back(pulls, slopes)

    def _back(self, pulls: list[Pull], slopes: dict[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}
        wanted, made = set(self.course.weights), {n for step in self.steps for n in step.makes}
        while pulls:
            step, pull = self.steps[len(pulls) - 1], pulls.pop()
            gradients = [slopes.pop(name, None) for name in step.makes]
            if all(gradient is None for gradient in gradients):
                continue
            for name, gradient in zip(step.reads, pull(gradients), strict=True):
                if gradient is None or (name not in wanted and name not in made):
                    continue
                into = found if name in wanted else slopes
                into[name] = into[name] + gradient if name in into else gradient
        return found

    def _last_read(self) -> list[list[str]]:
        """Return by step what nobody reads after it."""
        last: dict[str, int] = {}
        for number, step in enumerate(self.steps):
            last |= dict.fromkeys((*step.reads, *step.makes), number)
        own = {name for step in self.steps for name in step.makes if name} - set(self.course.aims)
        found: list[list[str]] = [[] for _ in self.steps]
        for name in own:
            found[last[name]].append(name)
        return found


def _constant(value: ir.Value) -> Array:
    found = facts.constant(value)
    assert found is not None
    return np.asarray(found)
