"""Transposes of transposes, and transposes that undo each other around elementwise operators.

perm says which axis of the input comes to each place: Transpose(Transpose(x, p), q) has at place i
axis q[i] of the inner result, which is axis p[q[i]] of x.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from onnxopt.graph import dims, facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.rewrite.pattern import op, var
from onnxopt.rewrite.rule import Builder, rule
from onnxopt.rules.elementwise import BINARY, is_unary, remade

x = var("x")

_REGION_LIMIT = 24
"""Nodes between two transposes that may be rebuilt at once."""

_SMALL = 1 << 16
"""Elements: a constant up to this size may be transposed and stored beside the original."""


def permutation(node: ir.Node, opset: int) -> tuple[int, ...] | None:
    """Return the permutation of a Transpose; reversed axes where none is given."""
    given = facts.attribute(node, "perm", opset)
    if given is not None:
        return tuple(given)
    rank = facts.rank(node.inputs[0])
    return None if rank is None else tuple(reversed(range(rank)))


def moves_nothing(perm: tuple[int, ...], shape: tuple[facts.Dim, ...] | None) -> bool:
    """Tell whether a transposition keeps every axis longer than one in its order."""
    long = [axis for axis in perm if shape is None or shape[axis] != 1]
    return long == sorted(long)


@rule(op.Transpose(bind="node"))
def drop_idle_transpose(new: Builder, node: ir.Node) -> Any:
    """Transpose that moves only axes of size one becomes Reshape, or x where it moves none."""
    x = node.inputs[0]
    perm, shape = permutation(node, new.opset), dims.shape(x)
    if perm is None or x is None or not moves_nothing(perm, shape):
        return None
    if shape is None or perm == tuple(sorted(perm)):
        return x
    wanted = tuple(shape[axis] for axis in perm)
    if wanted == shape:
        return x
    target = dims.reshape_target(shape, wanted)
    if target is None:
        new.refuse("more than one dimension is not known")
    return new.Reshape(x, np.array(target, np.int64))


@rule(op.Transpose(op.Transpose(x, bind="inner", shared=True), bind="outer"))
def merge_transposes(new: Builder, outer: ir.Node, inner: ir.Node, x: ir.Value) -> Any:
    """Transpose(Transpose(x)) becomes one Transpose, or x where the two cancel."""
    first, second = permutation(inner, new.opset), permutation(outer, new.opset)
    if first is None or second is None:
        return None
    perm = [first[axis] for axis in second]
    if perm == sorted(perm):
        return x
    if not facts.is_private(inner.outputs[0]):
        new.refuse(f"'{inner.outputs[0].name}' is read by others too")
    return new.Transpose(x, perm=perm)


@rule(op.Transpose(op.Reshape(op.Transpose(x, bind="first"), ..., bind="reshape"), bind="last"))
def merge_transposes_around_reshape(
    new: Builder, last: ir.Node, reshape: ir.Node, first: ir.Node, x: ir.Value
) -> Any:
    """Two Transposes around a Reshape that joins neighbouring axes become one in front of it."""
    before, after = permutation(first, new.opset), permutation(last, new.opset)
    shape = dims.shape(x)
    if before is None or after is None or shape is None:
        return None
    laid_out = [shape[axis] for axis in before]
    groups = joined_axes(laid_out, dims.shape(reshape.outputs[0]))
    if groups is None:
        new.refuse(f"'{reshape.name}' is not known to join neighbouring axes only")
    order = [before[axis] for place in after for axis in groups[place]]
    joined = [_extent_of([laid_out[axis] for axis in groups[place]]) for place in after]
    target = dims.reshape_target([shape[axis] for axis in order], joined)
    if target is None:
        new.refuse("more than one dimension is not known")
    return new.Reshape(new.Transpose(x, perm=order), np.array(target, np.int64))


def joined_axes(
    shape: Sequence[facts.Dim], joined: Sequence[facts.Dim] | None
) -> list[list[int]] | None:
    """Return which axes of a shape each axis of another one joins, or None if it is not so."""
    groups: list[list[int]] = []
    axis = 0
    for wanted in joined or ():
        group = [axis]
        axis += 1
        while axis < len(shape) and not _is_extent(wanted, [shape[place] for place in group]):
            group.append(axis)
            axis += 1
        groups.append(group)
    whole = axis == len(shape) and joined is not None
    sizes = [[shape[place] for place in group] for group in groups if group[-1] < len(shape)]
    fits = len(sizes) == len(groups) and all(map(_is_extent, joined or (), sizes))
    return groups if whole and fits else None


def _extent_of(sizes: Sequence[facts.Dim]) -> facts.Dim:
    """Return the length of an axis that joins others, where it is known."""
    known = [size for size in sizes if isinstance(size, int)]
    if len(known) == len(sizes):
        return math.prod(known)
    return sizes[0] if len(sizes) == 1 else None


def _is_extent(wanted: facts.Dim, sizes: Sequence[facts.Dim]) -> bool:
    return dims.same(wanted, _extent_of(sizes))


@rule(op.Gemm(bind="gemm"), since=7)
def fold_transpose_into_gemm(new: Builder, gemm: ir.Node) -> Any:
    """Gemm of a transposed matrix becomes Gemm with transA or transB."""
    inputs, flags = list(gemm.inputs), {}
    for place, flag in enumerate(("transA", "transB")):
        maker = facts.made_by(inputs[place], "Transpose", gemm)
        if maker is None or not facts.is_private(inputs[place]):
            continue
        if permutation(maker, new.opset) == (1, 0):
            inputs[place] = maker.inputs[0]
            flags[flag] = 1 - new.attribute(gemm, flag)
    return new.Gemm(*inputs, **{**gemm.attributes, **flags}) if flags else None


@rule(op.Transpose(bind="last"), since=7)
def cancel_transposes_around(new: Builder, last: ir.Node) -> Any:
    """Elementwise operators and Concat between transposes that cancel work on untransposed data."""
    below = last.inputs[0]
    maker = below.producer() if below is not None else None
    if maker is None or not _passable(maker):
        return None
    perm = permutation(last, new.opset)
    if perm is None:
        return None
    region = _Region(new, last, perm)
    return region.rebuild(below) if region.grow(below) and region.is_closed() else None


def _passable(node: ir.Node) -> bool:
    several = not node.domain and (node.op_type in BINARY or node.op_type == "Concat")
    return several or is_unary(node)


class _Region:
    """The nodes above a Transpose that can do without it: all ways up end at its inverse."""

    def __init__(self, new: Builder, last: ir.Node, perm: tuple[int, ...]) -> None:
        self.new = new
        self.last = last
        self.perm = perm
        self.inside: set[ir.Node] = set()
        self.rebuilt: dict[ir.Value, ir.Value] = {}

    def grow(self, value: ir.Value | None) -> bool:
        """Take in what computes a value, or tell that it cannot be had permuted for nothing."""
        if value is None or facts.rank(value) == 0 or self.is_small_constant(value):
            return True
        if self.uncancelled(value) is not None:
            return True
        node = value.producer()
        if node is None or node.graph is not self.last.graph or not _passable(node):
            return False
        if node in self.inside:
            return True
        self.inside.add(node)
        if len(self.inside) > _REGION_LIMIT or facts.rank(value) != len(self.perm):
            return False
        return all(map(self.grow, node.inputs))

    def is_closed(self) -> bool:
        """Tell whether nobody outside reads what is computed inside, and no transpose is added."""
        users = self.inside | {self.last}
        values = [value for node in self.inside for value in node.outputs]
        return not any(value.is_graph_output() for value in values) and all(
            use.node in users for value in values for use in value.uses()
        )

    def uncancelled(self, value: ir.Value) -> ir.Value | None:
        """Return what a Transpose that the last one undoes has read, or None."""
        node = facts.made_by(value, "Transpose", self.last)
        first = None if node is None else permutation(node, self.new.opset)
        if node is None or first is None or len(first) != len(self.perm):
            return None
        undone = [first[axis] for axis in self.perm] == list(range(len(first)))
        return node.inputs[0] if undone else None

    def is_small_constant(self, value: ir.Value) -> bool:
        held = facts.tensor(value)
        return held is not None and held.size <= _SMALL and len(held.shape) <= len(self.perm)

    def rebuild(self, value: ir.Value | None) -> ir.Value | None:
        """Return the value with its axes permuted, made of new nodes."""
        if value is None or facts.rank(value) == 0:
            return value
        if value not in self.rebuilt:
            self.rebuilt[value] = self.uncancelled(value) or self.permuted(value)
        return self.rebuilt[value]

    def permuted(self, value: ir.Value) -> ir.Value:
        held = facts.constant(value)
        if held is not None:
            full = held.reshape((1,) * (len(self.perm) - held.ndim) + held.shape)
            return self.new.constant(full.transpose(self.perm), facts.dtype(value))
        node, shape = value.producer(), dims.shape(value)
        assert node is not None
        assert shape is not None
        inputs = [self.rebuild(operand) for operand in node.inputs]
        wanted = ir.Shape([shape[axis] for axis in self.perm])
        if node.op_type != "Concat":
            return remade(self.new, node, inputs, wanted)
        axis = self.new.attribute(node, "axis") % len(self.perm)
        return remade(self.new, node, inputs, wanted, axis=self.perm.index(axis))
