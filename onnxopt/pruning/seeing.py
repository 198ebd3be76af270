"""What the layers of a model read, sample by sample: the evidence that units are judged by."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.samples import Samples
from onnxopt.pruning.plan import Group, Groups, Slice
from onnxopt.pruning.weights.evidence import Evidence, Reader, Writer
from onnxopt.sweep import matrix, patches
from onnxopt.sweep.moments import Moments
from onnxopt.sweep.together import Stop, moments, said, together

Progress = Callable[[str, float | None], None]
Pair = tuple[Moments, Moments]
"""Moments of samples to fit by, and of those held back."""
Seen = Callable[[Group, Evidence, Sequence[Moments]], None]
"""Is told of a group: the evidence, and what was held back, by reader."""

SEEN, _MOST, _WORK = 256, 4096, 1e11
"""Samples that are run through the layers at most, and how many where that is little work: until
they take so many multiply-accumulates."""


def enough(macs: float) -> int:
    """Return how many samples are looked at, of a model that takes so many for each of them."""
    return int(min(_MOST, max(SEEN, _WORK / max(macs, 1.0))))


def evidence(
    model: ir.Model,
    groups: Groups,
    samples: Samples | None,
    seen: Seen,
    *,
    most: int = SEEN,
    keep: Callable[[str, Pair], None] | None = None,
    room: int = 1 << 29,
    progress: Progress | None = None,
) -> None:
    """Tell `seen` of each group what there is to judge its units by.

    Without samples that is weights alone. With them, it comes in the order in which the readers of
    groups run, and the moments of a layer are forgotten once all its groups were told; `keep` is
    given them before, by the name of the layer. `most` samples are looked at.
    """
    survey = _Survey(model, groups, seen, keep, samples is not None)
    for group in groups:
        if not survey.waiting[group.name]:
            survey.tell(group)
    if samples is None or not survey.asked:
        return
    aside = samples.aside(most)
    together(
        model,
        None,
        survey.asked,
        (feed for _, feed in samples.numbered(most)),
        lambda stop: survey.visit(stop, see(stop, aside)),
        room=room,
        progress=said(progress, "looking at layers"),
    )


class _Survey:
    """Which layers are asked for whose sake, what is known, and which groups wait for what."""

    def __init__(
        self,
        model: ir.Model,
        groups: Groups,
        seen: Seen,
        keep: Callable[[str, Pair], None] | None,
        sampled: bool,
    ) -> None:
        self.opset = model.opset_imports.get("", 0)
        self.nodes = nodes_of(model)
        self.seen, self.keep = seen, keep
        self.known: dict[str, Pair] = {}
        self.asked: defaultdict[str, list[Group]] = defaultdict(list)
        self.waiting: dict[str, set[str]] = {}
        for group in groups:
            names = {part.edge.node for part in group.of("reads")}
            wanted = {name for name in names if sampled and is_seen(self.nodes[name], model)}
            self.waiting[group.name] = wanted
            for name in wanted:
                self.asked[name].append(group)

    def tell(self, group: Group) -> None:
        """Hand on what there is of a group."""
        found = _told(group, self.nodes, self.opset, self.known)
        empty = Moments.of(0, 0)
        names = (part.edge.node for part in group.of("reads"))
        held = [self.known[name][1] if name in self.known else empty for name in names]
        self.seen(group, found, held)

    def visit(self, stop: Stop, pair: Pair) -> None:
        """Take in the moments of a layer, and let go of those that nobody waits for."""
        self.known[stop.name] = pair
        if self.keep is not None:
            self.keep(stop.name, pair)
        for group in self.asked[stop.name]:
            self.waiting[group.name].discard(stop.name)
            if not self.waiting[group.name]:
                self.tell(group)
        for name in list(self.known):
            if not any(self.waiting[group.name] for group in self.asked[name]):
                del self.known[name]


def nodes_of(model: ir.Model) -> dict[str, ir.Node]:
    """Return all nodes by name, those of nested graphs included."""
    return {node.name or "": node for graph in facts.graphs_within(model.graph) for node in graph}


def is_seen(node: ir.Node, model: ir.Model) -> bool:
    """Tell whether it can be seen what a node reads: a layer of the graph itself."""
    return node.graph is model.graph and matrix.is_layer(node, model.opset_imports.get("", 0))


def see(stop: Stop, held: Callable[[int], bool]) -> Pair:
    """Return the moments of what a layer reads in both models."""
    value = stop.node.inputs[0]
    assert value is not None
    before = stop.teacher.nodes[stop.name]

    def pairs() -> Iterator[tuple[Array, Array]]:
        name = (before.inputs[0] or value).name or ""
        for sample in range(stop.samples):
            x = patches.read_by(stop.teacher.get(sample, name), before, stop.teacher.model)
            if stop.student is stop.teacher:
                yield x, x
                continue
            got = stop.student.get(sample, value.name or "")
            yield x, patches.read_by(got, stop.node, stop.student.model)

    return moments(pairs(), held)


def _told(
    group: Group, nodes: Mapping[str, ir.Node], opset: int, known: Mapping[str, Pair]
) -> Evidence:
    return Evidence(
        size=group.size,
        readers=tuple(_readers(group.of("reads"), nodes, opset, known)),
        writers=tuple(_writers(group.of("writes"), nodes)),
        scales=_scales(group, nodes),
    )


def _readers(
    parts: Iterable[Slice], nodes: Mapping[str, ir.Node], opset: int, known: Mapping[str, Pair]
) -> Iterator[Reader]:
    for part in parts:
        node = nodes[part.edge.node]
        if part.edge.place == 1 and matrix.is_layer(node, opset):
            yield Reader(
                rows=matrix.rows_of(node, opset),
                units=matrix.columns_of(part.units, node),
                moments=known[part.edge.node][0] if part.edge.node in known else None,
            )
        else:
            yield Reader(rows=_flat(node, part).T, units=part.units)


def _writers(parts: Iterable[Slice], nodes: Mapping[str, ir.Node]) -> Iterator[Writer]:
    for part in parts:
        yield Writer(rows=_flat(nodes[part.edge.node], part), units=part.units)


def _flat(node: ir.Node, part: Slice) -> Array:
    """Return a constant as a matrix with a row for each place of the axis that is sliced."""
    array = facts.constant(node.inputs[part.edge.place])
    assert array is not None
    moved = np.moveaxis(np.asarray(array, np.float32), part.axis, 0)
    return np.ascontiguousarray(moved.reshape(len(moved), -1))


def _scales(group: Group, nodes: Mapping[str, ir.Node]) -> Array | None:
    """Return the scale of each unit in a BatchNormalization that follows, if there is one."""
    for part in group.of("follows"):
        node = nodes.get(part.edge.node)
        if node is not None and node.op_type == "BatchNormalization" and part.edge.place == 1:
            array = facts.constant(node.inputs[1])
            mine = part.units >= 0
            if array is not None and mine.sum() == group.size:
                found = np.zeros(group.size)
                found[part.units[mine]] = array[mine]
                return found
    return None
