"""Gives each weighted layer its integers in turn, given what the quantized layers before it do.

The float model and the quantized one are run side by side, segment by segment: every sample is
computed once in each, not once for each layer. What layers read meanwhile lies on a shelf.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.quantizing.insert.qdq import Insertion
from onnxopt.quantizing.placement.plan import Unit
from onnxopt.quantizing.solution import QuantizedWeight, Solution
from onnxopt.quantizing.spec import QParams, dequantize
from onnxopt.sweep import patches
from onnxopt.sweep.line import Feed, Line
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.segments import integers
from onnxopt.sweep.together import Held, Stop, moments, said, together


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A unit whose weight is to be found, and what was seen of its input.

    `fit` are moments to find integers with and `held` those of other samples, to choose by.
    `input_params` is what the integers that it reads mean.
    """

    unit: Unit
    node: ir.Node
    fit: Moments
    held: Moments
    input_params: QParams | None


_WALKED = ("Conv", "Gemm", "MatMul")

Solve = Callable[[Layer], tuple[QuantizedWeight | None, Array | None]]
"""Returns the integers of a layer's weight and its bias; None for what stays as it is."""


def walk(
    model: ir.Model,
    solution: Solution,
    feeds: Iterable[Feed],
    solve: Solve,
    *,
    held: Held = lambda _: False,
    seen: bool = True,
    second: bool = True,
    room: int = 1 << 30,
    progress: Callable[[str, float], None] | None = None,
) -> None:
    """Fill in the weights and biases of a solution whose activations are known.

    `model` is the float model, which stays as it is. `held` tells by its number whether a sample
    is held back; without `second` only means are taken, which is much quicker, and unless layers
    are to be `seen` nothing runs at all. `room` is how many bytes of activations stay in memory.
    """
    student = model.clone()
    insertion = Insertion(student, solution)
    insertion.activations()
    weighted = [unit for unit in solution.placement.units if unit.weight is not None]
    units = {
        unit.name: unit
        for unit in weighted
        if seen and unit.op in _WALKED and insertion.nodes[unit.name].graph is student.graph
    }
    for unit in weighted:
        if unit.name not in units:
            _settle(_unseen(unit, insertion), solution, insertion, solve)

    def visit(stop: Stop) -> None:
        layer = _see(units[stop.name], stop, held, second)
        _settle(layer, solution, insertion, solve)

    if units:
        progressed = said(progress, "rounding")
        together(model, student, units, feeds, visit, room=room, progress=progressed)


def _settle(layer: Layer, solution: Solution, insertion: Insertion, solve: Solve) -> None:
    """Find a layer's integers, and write them into the quantized model."""
    weight, bias = solve(layer)
    if weight is not None:
        assert layer.unit.weight is not None
        solution.weights[layer.unit.weight.edge] = weight
    if bias is not None:
        solution.biases[layer.unit.name] = bias
    insertion.constants(layer.unit)


def _unseen(unit: Unit, insertion: Insertion) -> Layer:
    """Return a layer of which no sample is seen: it lies in a body, or nobody asked for any."""
    return Layer(
        unit=unit,
        node=insertion.nodes[unit.name],
        fit=Moments.of(0, 0),
        held=Moments.of(0, 0),
        input_params=insertion.solution.activations.get(
            insertion.solution.placement.sources[unit.reads[0]]
        ),
    )


def _source(line: Line, unit: Unit) -> tuple[str, QParams | None]:
    """Return what a unit reads first: the name, and what its integers mean if it has any."""
    value = line.nodes[unit.name].inputs[0]
    assert value is not None
    held = integers(value)
    if held is value:
        return value.name or "", None
    maker = value.producer()
    assert maker is not None
    scale, zero = (facts.constant(maker.inputs[place]) for place in (1, 2))
    assert scale is not None
    assert zero is not None
    return held.name or "", QParams(scale=scale, zero_point=zero)


def _see(unit: Unit, stop: Stop, held: Held, second: bool) -> Layer:
    """Take the moments of what a unit reads, in both models."""
    float_name, _ = _source(stop.teacher, unit)
    name, params = _source(stop.student, unit)

    def pairs() -> Iterator[tuple[Array, Array]]:
        for sample in range(stop.samples):
            x, got = stop.teacher.get(sample, float_name), stop.student.get(sample, name)
            q = got if params is None else dequantize(got, params)
            yield (
                patches.read_by(x, stop.teacher.nodes[unit.name], stop.student.model),
                patches.read_by(q, stop.node, stop.student.model),
            )

    fit, other = moments(pairs(), held, second=second)
    return Layer(unit=unit, node=stop.node, fit=fit, held=other, input_params=params)
