"""Chains of Reshape, Flatten, Squeeze and Unsqueeze: one of them does, or none.

They keep the order of the elements, so only the last shape matters. The shape input of Reshape
speaks of the input it stands beside: 0 copies its dimension (unless allowzero is set), so a shape
may move to another input only where its zeros still mean the same.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.elementwise import carrier, remade

x = var("x")

_CHAIN_LIMIT = 8
"""Elementwise operators between two reshapes that may be rebuilt at once."""


def reshaped(new: Builder, x: ir.Value, node: ir.Node) -> ir.Value | None:
    """Return x in the shape of what a Reshape or its like makes; None where that is not known."""
    source, wanted = dims.shape(x), dims.shape(node.outputs[0])
    if source is not None and wanted is not None:
        if dims.same_by_count(source, wanted):
            return x
        target = dims.reshape_target(source, wanted)
        if target is not None:
            return _reshape(new, x, np.array(target, np.int64))
    if node.op_type == "Reshape" and len(node.inputs) == 2:
        sizes = facts.integers(node.inputs[1])
        if sizes is not None and 0 not in sizes:
            return _reshape(new, x, node.inputs[1])
    return None


def _reshape(new: Builder, x: ir.Value, shape: Any) -> ir.Value:
    made: ir.Value = new.Reshape(x, shape)
    return made


def _like_reshape(x: Any, bind: str) -> Any:
    return (
        op.Reshape(x, ..., bind=bind)
        | op.Flatten(x, bind=bind)
        | op.Squeeze(x, ..., bind=bind)
        | op.Unsqueeze(x, ..., bind=bind)
    )


@rule(_like_reshape(_like_reshape(x, "inner"), "outer"), since=5)
def merge_reshapes(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Two in a row of Reshape, Flatten, Squeeze, Unsqueeze become one Reshape, or their input."""
    made = reshaped(new, x, outer)
    if made is None:
        new.refuse(f"the shape that '{inner.name}' is given is not known well enough")
    return made


@rule(op.Unsqueeze(op.Unsqueeze(x, ..., bind="inner"), ..., bind="outer"))
def merge_unsqueezes(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Unsqueeze(Unsqueeze(x)) becomes one Unsqueeze."""
    added = _axes(new, inner, added=True)
    later = _axes(new, outer, added=True)
    if not added or not later:
        return None
    return new.with_axes("Unsqueeze", x, sorted({*later, *_past(later, added)}))


@rule(op.Squeeze(op.Squeeze(x, ..., bind="inner"), ..., bind="outer"))
def merge_squeezes(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Squeeze(Squeeze(x)) becomes one Squeeze."""
    removed, later = _axes(new, inner), _axes(new, outer)
    if not removed or not later:
        return None
    return new.with_axes("Squeeze", x, sorted({*removed, *_past(removed, later)}))


@rule(op.Squeeze(op.Unsqueeze(x, ..., bind="inner", shared=True), ..., bind="outer"))
def cancel_squeeze_of_unsqueeze(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Squeeze(Unsqueeze(x)) becomes x, or the one of the two that has axes left."""
    added, removed = _axes(new, inner, added=True), _axes(new, outer)
    if not added or not removed:
        return None
    if added == removed:
        return x
    if not facts.is_private(inner.outputs[0]):
        new.refuse(f"'{inner.outputs[0].name}' is read by others too")
    if set(removed) < set(added):
        kept = [axis for axis in added if axis not in removed]
        return new.with_axes("Unsqueeze", x, [axis - _count(removed, axis) for axis in kept])
    if set(added) < set(removed):
        gone = [axis for axis in removed if axis not in added]
        return new.with_axes("Squeeze", x, [axis - _count(added, axis) for axis in gone])
    return None


@rule(op.Unsqueeze(op.Squeeze(x, ..., bind="inner", shared=True), ..., bind="outer"))
def cancel_unsqueeze_of_squeeze(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Unsqueeze(Squeeze(x)) over the same axes becomes x."""
    removed, added = _axes(new, inner), _axes(new, outer, added=True)
    return x if removed and removed == added else None


@rule(_like_reshape(var("y"), "outer"), since=7)
def move_reshape_over_elementwise(new: Builder, outer: ir.Node, y: ir.Value) -> Any:
    """Elementwise operators between two reshapes work on the first one's input."""
    least = min(facts.rank(y) or 0, facts.rank(outer.outputs[0]) or 0)
    chain: list[tuple[ir.Node, int]] = []
    while (node := _private_maker(y, outer)) is not None and len(chain) <= _CHAIN_LIMIT:
        index = carrier(node, least)
        if index is None:
            break
        chain.append((node, index))
        below = node.inputs[index]
        if below is None:
            return None
        y = below
    if not chain or node is None or node.op_type not in _MOVERS or node.domain:
        return None
    x = node.inputs[0]
    rank = facts.rank(x)
    if x is None or rank is None or any(carrier(link, rank) is None for link, _ in chain):
        return None
    shape = x.shape
    for link, index in reversed(chain):
        inputs = list(link.inputs)
        inputs[index] = x
        x = remade(new, link, inputs, shape)
    made = reshaped(new, x, outer)
    if made is None:
        new.refuse(f"the shape that '{node.name}' is given is not known well enough")
    return made


def _private_maker(value: ir.Value, reader: ir.Node) -> ir.Node | None:
    """Return the node that makes a value, if nobody but one node of the same graph reads it."""
    node = value.producer()
    if node is None or node.graph is not reader.graph or not facts.is_private(value):
        return None
    return node


_MOVERS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def _axes(new: Builder, node: ir.Node, *, added: bool = False) -> tuple[int, ...] | None:
    """Return the axes of a Squeeze or Unsqueeze, from the front and ascending; None if unknown."""
    axes = facts.axes(node, new.opset)
    if not axes:
        return None
    rank = facts.rank(node.inputs[0])
    if rank is not None and added:
        rank += len(axes)
    return dims.normalized_axes(axes, rank)


def _past(taken: tuple[int, ...], axes: tuple[int, ...]) -> list[int]:
    """Return where axes stand once the places `taken` are counted too."""
    places = []
    for axis in axes:
        place = axis
        for other in taken:
            place += other <= place
        places.append(place)
    return places


def _count(axes: tuple[int, ...], below: int) -> int:
    return sum(axis < below for axis in axes)
