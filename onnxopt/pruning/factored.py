"""Splits layers in two through a factor of low rank, where that takes fewer multiplications."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.editor import Editor
from onnxopt.graph.profile import known_macs
from onnxopt.judging.samples import Samples
from onnxopt.pruning.weights import rank as ranks
from onnxopt.sweep import matrix, patches
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.together import Stop, moments, together

_RULE = "factor"
_FEWEST = 16
"""A side of a matrix below which two kernels never take less time than one."""
_STEP = 8
"""Ranks are multiples of it: what kernels like."""
_SPATIAL = ("kernel_shape", "strides", "pads", "dilations", "auto_pad")


@dataclass(frozen=True, kw_only=True)
class FactoredLayer:
    """A layer that was looked at: `rank` is None where it stayed whole.

    MACs are those of one run, as `profile.macs` counts them. `lost` is its error over the energy of
    its output where samples were held back, for the input that it gets by then.
    """

    node: str
    outputs: int
    columns: int
    rank: int | None
    macs_before: int
    macs_after: int
    lost: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Factored:
    """A model with factored layers; `share` is what is left of the MACs of the layers looked at."""

    model: ir.Model
    layers: tuple[FactoredLayer, ...]
    share: float


def factor_layer(editor: Editor, node: ir.Node, made: ranks.Factors) -> None:
    """Compute a Conv, Gemm or MatMul in two steps: `down` in a node in front of it, then `up`.

    The node keeps its name, its output and its bias, which `shift` is added to; a Conv becomes one
    with a kernel of 1 behind one with its own kernel, strides and pads.
    """
    opset = editor.opset(node.graph)
    edge = matrix.biased(editor, node)
    holder = node if edge.node == node.name else next(iter(facts.uses(node.outputs[0]))).node
    bias = facts.constant(holder.inputs[edge.place])
    kind, shape = facts.dtype(node.inputs[1]), facts.static_shape(node.inputs[1])
    assert bias is not None
    assert kind is not None
    assert shape is not None
    shifted = np.asarray(bias + made.shift, bias.dtype)
    matrix.set_constant(editor, holder, edge.place, shifted)
    attributes, down, up = _operands(node, made, shape, opset)
    with editor.on_behalf_of(_RULE):
        held = editor.constant(
            np.ascontiguousarray(down, kind.numpy()), f"{node.name}/down", before=node
        )
        first = ir.node(node.op_type, [node.inputs[0], held], attributes)
        first.outputs[0].type = node.outputs[0].type
        first.outputs[0].shape = _between(node, made.rank)
        editor.insert([first], node)
    for name in _SPATIAL if node.op_type == "Conv" else ():
        editor.set_attribute(node, name, None)
    editor.set_input(node, 0, first.outputs[0])
    matrix.set_constant(editor, node, 1, np.ascontiguousarray(up, kind.numpy()))


def _operands(
    node: ir.Node, made: ranks.Factors, shape: tuple[int, ...], opset: int
) -> tuple[dict[str, Any], Array, Array]:
    """Return the attributes of the first node, and both weights in the operator's own order."""
    if node.op_type == "Conv":
        ones = [1] * (len(shape) - 2)
        down = np.moveaxis(made.down.reshape(-1, *shape[2:], shape[1]), -1, 1)
        kept = {name: node.attributes[name] for name in _SPATIAL if name in node.attributes}
        values = {name: kept[name].value for name in kept}
        return values, down, made.up.reshape(*made.up.shape, *ones)
    turned = node.op_type == "Gemm" and facts.attribute(node, "transB", opset)
    return {}, made.down.T, made.up if turned else made.up.T


def _between(node: ir.Node, rank: int) -> ir.Shape | None:
    shape = node.outputs[0].shape
    if shape is None:
        return None
    axis = 1 if node.op_type == "Conv" else len(shape) - 1
    return ir.Shape([rank if place == axis else dim for place, dim in enumerate(shape)])


def factorable(model: ir.Model, protect: Collection[str] = ()) -> dict[str, ir.Node]:
    """Return the layers of the main graph that could be split in two, by name."""
    opset = model.opset_imports.get("", 0)
    found = {}
    for node in model.graph:
        if not node.name or node.name in protect or not matrix.is_layer(node, opset):
            continue
        groups = facts.attribute(node, "group", opset) if node.op_type == "Conv" else 1
        if groups == 1 and _has_constant_bias(node) and min(_sides(node, opset)) >= _FEWEST:
            found[node.name] = node
    return found


def _has_constant_bias(node: ir.Node) -> bool:
    value = node.inputs[2] if len(node.inputs) > 2 else None
    return value is None or facts.is_constant(value)


def _sides(node: ir.Node, opset: int) -> tuple[int, int]:
    """Return the outputs and columns of a layer's matrix."""
    shape = facts.static_shape(node.inputs[1])
    assert shape is not None
    if node.op_type == "Conv":
        return shape[0], math.prod(shape[1:])
    turned = node.op_type == "Gemm" and facts.attribute(node, "transB", opset)
    return shape if turned else shape[::-1]  # type: ignore[return-value]


def factored(
    model: ir.Model,
    samples: Samples,
    share: float,
    *,
    protect: Collection[str] = (),
    ridge: float = 0.01,
    pull: float = 1.0,
    room: int = 1 << 30,
    progress: Callable[[str, float | None], None] | None = None,
) -> Factored:
    """Return a copy whose layers keep a share of their MACs, split where that loses least.

    Ranks are given out by error over the energy of a layer's output per MAC, from a first look at
    all layers. Then each is split in turn, from front to back, to come near to what it made in
    `model` with the input that it gets by now. `ridge` and `pull` are those of `rank.spectrum`.
    """
    student = model.clone()
    editor = Editor(student)
    nodes = factorable(student, protect)
    for node in nodes.values():
        matrix.biased(editor, node)
    opset = student.opset_imports.get("", 0)
    sides = {name: _sides(node, opset) for name, node in nodes.items()}
    macs = {name: known_macs(node) or math.prod(sides[name]) for name, node in nodes.items()}
    curves: dict[str, Array] = {}

    def look(stop: Stop) -> None:
        rows = matrix.rows_of(stop.node, opset)
        fit, held = _moments(stop, samples)
        seen = ranks.spectrum(rows, fit.merged(held), ridge, math.inf)
        curves[stop.name] = seen.lost / max(seen.energy, np.finfo(np.float32).tiny)

    def told(text: str) -> Callable[[float], None] | None:
        return None if progress is None else lambda done: progress(text, done)

    together(
        model,
        student,
        list(nodes),
        samples.all(),
        look,
        room=room,
        progress=told("looking at layers"),
    )
    chosen = allocate(curves, sides, macs, share)
    layers: list[FactoredLayer] = []

    def split(stop: Stop) -> None:
        rows, rank = matrix.rows_of(stop.node, opset), chosen[stop.name]
        loss = 0.0
        if rank is not None:
            fit, held = _moments(stop, samples)
            if held.samples:
                trial = ranks.factor(rows, fit, rank, ridge, pull)
                loss = ranks.lost(rows, held, trial)
            made = ranks.factor(rows, fit.merged(held), rank, ridge, pull)
            factor_layer(editor, stop.node, made)
        layers.append(_told(stop.name, sides[stop.name], rank, macs[stop.name], loss))

    together(
        model,
        student,
        list(nodes),
        samples.all(),
        split,
        room=room,
        progress=told("splitting layers"),
    )
    left = sum(layer.macs_after for layer in layers) / max(sum(macs.values()), 1)
    return Factored(model=student, layers=tuple(layers), share=left)


def _moments(stop: Stop, samples: Samples) -> tuple[Moments, Moments]:
    node, student = stop.node, stop.student
    other = stop.teacher.nodes[stop.name]
    read, wanted = _read(node), _read(other)
    return moments(
        (
            (
                patches.read_by(stop.teacher.get(sample, wanted), other, student.model),
                patches.read_by(student.get(sample, read), node, student.model),
            )
            for sample in range(stop.samples)
        ),
        samples.is_held,
    )


def _read(node: ir.Node) -> str:
    value = node.inputs[0]
    assert value is not None
    return value.name or ""


def _told(
    name: str, sides: tuple[int, int], rank: int | None, macs: int, loss: float
) -> FactoredLayer:
    return FactoredLayer(
        node=name,
        outputs=sides[0],
        columns=sides[1],
        rank=rank,
        macs_before=macs,
        macs_after=macs if rank is None else round(macs * _share(sides, rank)),
        lost=loss,
    )


def _share(sides: tuple[int, int], rank: int) -> float:
    return rank * sum(sides) / math.prod(sides)


def allocate(
    curves: Mapping[str, Array],
    sides: Mapping[str, tuple[int, int]],
    macs: Mapping[str, int],
    share: float,
) -> dict[str, int | None]:
    """Return the rank of each layer, None where it stays whole, for a share of all MACs.

    At a price of MACs each layer takes the rank, or stays whole, that comes cheapest with its
    error; the price is the least at which the share is kept.
    """
    names = list(curves)
    options = {name: _options(curves[name], sides[name], macs[name]) for name in names}
    allowed = share * sum(macs.values())

    def at(price: float) -> dict[str, tuple[int | None, float, float]]:
        return {
            name: min(options[name], key=lambda one: (one[2] + price * one[1], one[1]))
            for name in names
        }

    low, high = 0.0, 1.0
    total = max(sum(macs.values()), 1)
    for _ in range(60):
        middle = (low + high) / 2
        # Prices are spread over all magnitudes: 1e-12 … 1e12 for all MACs together.
        price = 10 ** (24 * middle - 12) / total
        if sum(one[1] for one in at(price).values()) > allowed:
            low = middle
        else:
            high = middle
    found = at(10 ** (24 * high - 12) / total)
    return {name: one[0] for name, one in found.items()}


def _options(
    curve: Array, sides: tuple[int, int], macs: int
) -> Sequence[tuple[int | None, float, float]]:
    """Return rank, MACs and error of each way to compute a layer."""
    most = min(ranks.break_even(*sides), len(curve) - 1)
    cuts = range(_STEP, most + 1, _STEP) if most >= _STEP else range(0)
    split = [(rank, macs * _share(sides, rank), float(curve[rank])) for rank in cuts]
    return [(None, float(macs), 0.0), *split]
