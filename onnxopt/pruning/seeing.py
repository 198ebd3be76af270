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
from onnxopt.sweep.together import Stop, moments, together

Progress = Callable[[str, float | None], None]
Pair = tuple[Moments, Moments]
"""Moments of samples to fit by, and of those held back."""
Seen = Callable[[Group, Evidence, Sequence[Moments]], None]
"""Is told of a group: the evidence, and what was held back, by reader."""

SEEN = 256
"""Samples that are run through the layers at most."""


def evidence(
    model: ir.Model,
    groups: Groups,
    samples: Samples | None,
    seen: Seen,
    *,
    keep: Callable[[str, Pair], None] | None = None,
    room: int = 1 << 29,
    progress: Progress | None = None,
) -> None:
    """Tell `seen` of each group what there is to judge its units by.

    Without samples that is weights alone. With them, it comes in the order in which the readers of
    groups run, and the moments of a layer are forgotten once all its groups were told; `keep` is
    given them before, by the name of the layer.
    """
    opset = model.opset_imports.get("", 0)
    nodes = nodes_of(model)
    readers = {
        group.name: [part for part in group.of("reads") if part.edge.node in nodes]
        for group in groups
    }
    asked: defaultdict[str, list[Group]] = defaultdict(list)
    if samples is not None:
        for group in groups:
            for name in {part.edge.node for part in readers[group.name]}:
                if is_seen(nodes[name], model):
                    asked[name].append(group)
    waiting = {group.name: {n for n, who in asked.items() if group in who} for group in groups}
    known: dict[str, Pair] = {}

    def tell(group: Group) -> None:
        found = _told(group, nodes, opset, known)
        names = (part.edge.node for part in readers[group.name])
        empty = Moments.of(0, 0)
        seen(group, found, [known[name][1] if name in known else empty for name in names])

    for group in groups:
        if not waiting[group.name]:
            tell(group)
    if samples is None or not asked:
        return
    chosen = list(samples.numbered(SEEN))
    held = {place for place, (is_held, _) in enumerate(chosen) if is_held}

    def visit(stop: Stop) -> None:
        known[stop.name] = see(stop, held.__contains__)
        if keep is not None:
            keep(stop.name, known[stop.name])
        for group in asked[stop.name]:
            waiting[group.name].discard(stop.name)
            if not waiting[group.name]:
                tell(group)
        for name in list(known):
            if not any(waiting[group.name] for group in asked[name]):
                del known[name]

    together(
        model,
        None,
        asked,
        (feed for _, feed in chosen),
        visit,
        room=room,
        progress=said(progress, "looking at layers"),
    )


def said(progress: Progress | None, text: str) -> Callable[[float], None] | None:
    """Return what shows the part of something that is done."""
    return None if progress is None else lambda part: progress(text, part)


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
