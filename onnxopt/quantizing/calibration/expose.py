"""Makes models that hand out what is wanted of a model's tensors, and compute nothing else.

The original stays as it is. In a copy the wanted tensors become the graph's outputs under the names
that they have, or one output that holds what was reduced; whatever is then read by nobody is
removed, so that a pass for the first tensors of a model ends behind the last of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from onnxopt.arrays import Array
from onnxopt.config import OptimizeConfig
from onnxopt.errors import ModelError
from onnxopt.graph import facts, garbage
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.passes import dead, shapes
from onnxopt.quantizing.calibration import reduce
from onnxopt.quantizing.calibration.bodies import Bodies

Source = Literal["constant", "input", "range", "values"]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What is to be known of a tensor: its range, its histogram, its channels along an axis.

    Of a sample's tensor with more than `most` numbers, evenly spaced ones are counted, at most so
    many; the range stays that of all. None counts all. Without effect where channels are wanted.
    """

    histogram: bool = False
    axis: int | None = None
    most: int | None = None


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A model and the outputs that were asked for, in their order."""

    model: ir.Model
    outputs: tuple[str, ...]


def find(model: ir.Model) -> dict[str, ir.Value]:
    """Return all values of the main graph and its nested graphs by name, in topological order.

    Parameters of a body come before what is computed in it; a body before what reads its node.
    """
    return {value.name: value for value in _values(model.graph) if value.name}


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        for nested in facts.nested_graphs(node):
            yield from _values(nested)
        yield from node.outputs


def sources(model: ir.Model, wanted: Mapping[str, Wanted]) -> dict[str, Source]:
    """Tell for each wanted tensor where it is found, in topological order.

    Constants are known, inputs are fed, ranges are reduced in the graph, values leave it. Raises
    `ModelError` for what is no tensor of the model.
    """
    known = find(model)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ModelError(f"the model has no tensor '{missing[0]}'", "take the statistics again")
    return {
        name: _source(value, wanted[name], model.graph)
        for name, value in known.items()
        if name in wanted
    }


def _source(value: ir.Value, wanted: Wanted, main: ir.Graph) -> Source:
    if type(value.type) in facts.NO_TENSORS or facts.dtype(value) == ir.DataType.STRING:
        raise ModelError(f"'{value.name}' is no tensor of numbers", "leave it as it is")
    if facts.is_constant(value):
        return "constant"
    # The inputs of a body are made by the node around it.
    if value.is_graph_input() and value.graph is main:
        return "input"
    plain = not wanted.histogram and wanted.axis is None
    return "range" if plain and reduce.reducible(value) else "values"


def constant(model: ir.Model, name: str) -> Array:
    """Return the content of a constant, or of what a graph input is where the caller gives none."""
    value = find(model)[name]
    tensor = value.const_value if value.is_initializer() else facts.tensor(value)
    assert tensor is not None
    array: Array = tensor.numpy()
    return array


def expose_values(model: ir.Model, wanted: Mapping[str, Wanted]) -> Exposed:
    """Return a model whose outputs are tensors: those of the main graph as they are.

    A tensor of a body comes as [n], or [n, channels] where an axis is wanted.
    """
    bodies, values = _copy(model, wanted)
    outputs = [bodies.values(value, wanted[name].axis) for name, value in values.items()]
    names = {name: bodies.current(value) for name, value in zip(values, outputs, strict=True)}
    return _ending(bodies, [names[name] for name in wanted])


def expose_ranges(model: ir.Model, names: Sequence[str]) -> Exposed:
    """Return a model with one output, float32 [4 * len(names)]: see `reduce.stack_ranges`.

    The tensors are given in topological order.
    """
    bodies, values = _copy(model, names)
    return _ending(bodies, [reduce.stack_ranges(bodies, [values[name] for name in names])])


def expose_sizes(model: ir.Model, names: Sequence[str]) -> Exposed:
    """Return a model with one output, int64 [len(names)]: how many numbers each tensor has.

    The tensors are given in topological order.
    """
    bodies, values = _copy(model, names)
    flat = [bodies.values(values[name]) for name in names]
    return _ending(bodies, [reduce.stack_sizes(bodies, flat)])


@garbage.paused()
def _copy(
    model: ir.Model, names: Sequence[str] | Mapping[str, Wanted]
) -> tuple[Bodies, dict[str, ir.Value]]:
    copy = model.clone()
    found = find(copy)
    if any(facts.dtype(found[name]) is None for name in names):
        shapes.infer(copy)
    bodies = Bodies(Editor(copy))
    for name in names:
        # Without any word of it, a tensor that is to be quantized holds float32.
        if facts.dtype(found[name]) is None:
            found[name].type = ir.TensorType(ir.DataType.FLOAT)
    return bodies, {name: value for name, value in found.items() if name in set(names)}


@garbage.paused()
def _ending(bodies: Bodies, outputs: Sequence[ir.Value]) -> Exposed:
    """Let a graph end in other outputs, and drop what they do not need."""
    graph = bodies.main
    graph.outputs.clear()
    graph.outputs.extend(dict.fromkeys(outputs))
    names = tuple(value.name or "" for value in outputs)
    dead.run(bodies.editor, OptimizeConfig())
    return Exposed(model=bodies.editor.model, outputs=names)
