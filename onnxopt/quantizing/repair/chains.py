"""Where the channels of tensors may be rescaled without any change of what a model computes.

    W₁x + b₁ → f → W₂        W₁x/s + b₁/s → f → W₂·s

A chain is all that has to change together: the layers that write some channels, the operators in
between (see `passing`, `moving`) and the layers that read them. Any positive scales make a valid
rewrite, exact but for rounding. Residual sums tie several layers into one chain, each half of a
Concat has its own; the product of queries and keys takes scales on one side, inverses on the other.
What a graph hands out, what an operator reads that is not homogeneous, and a large constant that
others read too, are not scaled.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.channels import moving
from onnxopt.channels.labels import Labels, Solved
from onnxopt.channels.walk import walk
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.edges import Edge
from onnxopt.graph.editor import Editor, is_dead
from onnxopt.passes import shapes
from onnxopt.quantizing.repair import layers, passing
from onnxopt.quantizing.repair.walk import Change, Ranges, Scaling

_NORMS = ("LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization")
STEPS = {**layers.STEPS, **passing.STEPS, **moving.STEPS}


@dataclass(frozen=True, kw_only=True, eq=False)
class Edit:
    """A constant that is multiplied by factors[places], which broadcast to it from the right.

    A weight has an int8 scale for each channel of the axis `rows`; a reading one meets channel
    `channels` of `tensor` (in an array that broadcasts as `places` do) at each element.
    """

    edge: Edge
    places: Array
    rows: int | None = None
    tensor: str = ""
    channels: Array | None = None

    @property
    def reads(self) -> bool:
        """Whether it is a constant that multiplies the scaled channels."""
        return self.channels is not None


@dataclass(frozen=True, kw_only=True, eq=False)
class Chain:
    """Channels that can be scaled, by name, and all constants that change with them.

    There are `size` scales, each in [least, most]; factors = [scales, 1/scales, 1]. A tensor
    becomes itself divided by factors[places], `tensors` tells the places, which broadcast to the
    tensor from the right. Of `restored` tensors some edges read the former numbers again: a Mul is
    inserted in front of them.
    """

    name: str
    size: int
    least: Array
    most: Array
    tensors: Mapping[str, Array]
    edits: tuple[Edit, ...]
    restored: Mapping[str, tuple[Edge, ...]] = field(default_factory=dict)

    def allowed(self, scales: Array) -> Array:
        """Return the nearest scales that are exact: float64 [size]."""
        return np.clip(np.asarray(scales, np.float64), self.least, self.most)

    def factors(self, scales: Array) -> Array:
        """Return what `places` point into."""
        return np.concatenate([scales, 1 / scales, np.ones(1)])


def candidates(
    model: ir.Model,
    *,
    observed: Ranges | None = None,
    margin: float = 1.0,
    restore: bool = False,
) -> list[Chain]:
    """Return the chains of a model, in the order of their first layers.

    Nodes and tensors have to have names of their own. Shapes that are not known yet are inferred,
    and noted in the model.
    With `observed` ranges of tensors, a clamp that a channel never reached in them, even times
    `margin`, counts as absent in that channel: no longer exact for all inputs. With `restore`, a
    normalisation that MatMuls read beside others (the residual sum of a BERT) is scaled for the
    MatMuls, and one Mul takes that back for the others.
    """
    shapes.infer(model)
    start = functools.partial(
        Scaling,
        opset=model.opset_imports.get("", 0),
        observed=observed or {},
        margin=margin,
    )
    found = _walked(model, start(labels=Labels()))
    edges = _restorable(model, {name for chain in found for name in chain.tensors})
    if not restore or not edges:
        return found
    return _walked(model, start(labels=Labels(), restored=edges))


def _walked(model: ir.Model, walked: Scaling) -> list[Chain]:
    for graph in facts.graphs_within(model.graph):
        walk(walked, graph, STEPS)
    solved = walked.labels.solve()
    changes: dict[int, list[Edit]] = defaultdict(list)
    tensors: dict[int, dict[str, Array]] = defaultdict(dict)
    for change in walked.changes:
        for group in solved.groups(change.labels):
            changes[group].append(_edit(change, solved, group))
    for value, labels in walked.tensors.items():
        for group in solved.groups(labels):
            tensors[group][value.name or ""] = solved.places(labels, group)
    begins = np.cumsum(solved.sizes) - solved.sizes
    chains = []
    for group, edits in changes.items():
        own = slice(begins[group], begins[group] + solved.sizes[group])
        if solved.sizes[group] < 2:
            continue  # one scale for all channels is nothing to a quantized tensor
        chains.append(
            Chain(
                name=next(iter(tensors[group])),
                size=int(solved.sizes[group]),
                least=solved.least[own],
                most=solved.most[own],
                tensors=tensors[group],
                edits=tuple(edits),
                restored=_restored(walked, tensors[group]),
            )
        )
    return chains


def _edit(change: Change, solved: Solved, group: int) -> Edit:
    return Edit(
        edge=change.edge,
        places=solved.places(change.labels, group, divide=change.divide),
        rows=change.rows,
        tensor=change.tensor,
        channels=change.channels,
    )


def _restored(walked: Scaling, tensors: Collection[str]) -> dict[str, tuple[Edge, ...]]:
    if not walked.restored:
        return {}
    found = {}
    for value in walked.tensors:
        if value.name and value.name in tensors:
            edges = (Edge(use.node.name or "", use.idx) for use in facts.uses(value))
            mine = tuple(edge for edge in edges if edge in walked.restored)
            if mine:
                found[value.name] = mine
    return found


def _restorable(model: ir.Model, scaled: Collection[str]) -> set[Edge]:
    """Return the edges at which normalisations would be read as before.

    Those of a normalisation that could not be scaled as it is, and that a MatMul reads among
    others; all readers have to stand in its own graph.
    """
    found = set()
    for graph in facts.graphs_within(model.graph):
        for node in graph:
            if node.op_type not in _NORMS:
                continue
            value = node.outputs[0]
            uses = list(facts.uses(value))
            if value.name in scaled or value.is_graph_output():
                continue
            if any(use.node.graph is not graph or not use.node.name for use in uses):
                continue
            others = {Edge(use.node.name, use.idx) for use in uses if not _multiplies(use)}
            if len(others) < len(uses):
                found |= others
    return found


def _multiplies(use: Any) -> bool:
    weighted = use.node.op_type in ("MatMul", "Gemm") and use.idx == 0
    return weighted and facts.is_constant(use.node.inputs[1])


def apply(editor: Editor, chain: Chain, scales: Array) -> bool:
    """Rescale the channels of a chain; tell whether that was done.

    `scales` are float [size], positive; those out of bounds are clipped. Nothing is done where a
    constant would overflow.
    """
    factors = chain.factors(chain.allowed(scales))
    nodes = {node.name: node for graph in facts.graphs_within(editor.model.graph) for node in graph}
    made: dict[Edge, Array] = {}
    for edit in chain.edits:
        if (edit.places == 2 * chain.size).all():
            continue
        before = made.get(edit.edge)
        if before is None:
            before = facts.constant(nodes[edit.edge.node].inputs[edit.edge.place])
            assert before is not None
        made[edit.edge] = before.astype(np.float64) * factors[edit.places]
    fits = {}
    with np.errstate(over="ignore"):
        for edge, array in made.items():
            dtype = facts.dtype(nodes[edge.node].inputs[edge.place])
            assert dtype is not None
            fits[edge] = array.astype(dtype.numpy())
    if not all(np.isfinite(array).all() for array in fits.values()):
        return False
    for edge, array in fits.items():
        rewrite(editor, nodes[edge.node], edge.place, array)
    _restore(editor, chain, factors, nodes)
    return True


def rewrite(editor: Editor, node: ir.Node, place: int, array: Array) -> None:
    """Let one input of a node read another constant; the former goes where nobody reads it."""
    old = node.inputs[place]
    assert old is not None
    editor.set_input(node, place, editor.constant(array, old.name or "", before=node))
    maker = old.producer()
    if maker is None:
        editor.drop_initializer(old)
    elif is_dead(maker):
        editor.erase(maker)


def _restore(
    editor: Editor, chain: Chain, factors: Array, nodes: Mapping[str | None, ir.Node]
) -> None:
    """Insert a Mul that takes the scales back, one for each tensor, in front of its readers."""
    for name, edges in chain.restored.items():
        readers = [nodes[edge.node] for edge in edges]
        value = readers[0].inputs[edges[0].place]
        assert value is not None
        first = _first(readers)
        dtype = facts.dtype(value)
        assert dtype is not None
        scale = editor.constant(
            factors[chain.tensors[name]].astype(dtype.numpy()), f"{name}_scale", before=first
        )
        product = ir.node("Mul", [value, scale])
        product.outputs[0].type, product.outputs[0].shape = value.type, value.shape
        editor.insert([product], before=first)
        for node, edge in zip(readers, edges, strict=True):
            editor.set_input(node, edge.place, product.outputs[0])


def _first(nodes: Iterable[ir.Node]) -> ir.Node:
    """Return which of some nodes of one graph comes first."""
    wanted = set(nodes)
    graph = next(iter(wanted)).graph
    assert graph is not None
    return next(node for node in graph if node in wanted)
