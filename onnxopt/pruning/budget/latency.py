"""Predicts how long a narrowed model takes, from measured times of its nodes.

The whole model is profiled once. A node that a group makes narrower then takes

    ms(widths) = call + (ms - call) · work(widths) / work

where work is its MACs, or what it moves where it has none, and a call takes a little whatever it
does. Of the nodes that make up most of the time that depends on widths, several widths are
measured (`grids`), because kernels do not get faster as their MACs get fewer: these take the
measured share of their time in the whole model, in which they may have taken in others.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.graph.work import is_counted
from onnxopt.profiling.attribution import times
from onnxopt.profiling.turns import Progress, Turns
from onnxopt.pruning.budget.grids import Grid, can_measure, measure_grids
from onnxopt.pruning.budget.total import Term, Total, Widths, split
from onnxopt.pruning.budget.work import NodeWork, Work

COVER = 0.9
"""The share of the time that depends on widths whose nodes are measured at several."""
SESSIONS = 3
_CALL_MS = 1.5e-3
_MOST_GAIN = 1.5
"""Times as many MACs in a second that a narrower node is believed to do."""
_LEAST_MS = 1e-2
"""A trace has whole microseconds: what takes less cannot be told from its narrower kin."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Latency:
    """The ms of a run by widths, of each node of the whole model, and the nodes' own grids."""

    total: Total
    nodes: Mapping[str, float]
    grids: Mapping[str, Grid] = field(default_factory=dict)

    def node(self, name: str, kept: Mapping[str, int]) -> float:
        """Return what is predicted of one node at these widths."""
        term = next((term for term in self.total.terms if term.name == name), None)
        if term is None:
            return self.nodes.get(name, 0.0)
        return float(term.value({**self.total.full, **kept}))


def profile_nodes(
    model: ir.Model,
    path: Path,
    feed: Mapping[str, Any],
    *,
    threads: int,
    sessions: int = SESSIONS,
    timeout: float = 120.0,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Return the ms of each node of a model that stands at `path`, by name.

    A product that was fused with what reads it has the time of both; what cannot be told of a node
    counts to "". Takes about two seconds for each session. Raises
    `ProviderError` where the model cannot be profiled.
    """
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        turns = Turns(Path(folder), threads, timeout)
        turns.add("model", path, feed)
        turns.run(sessions, progress)
        us, other = times(turns.rows("model"), turns.ran("model"), turns.known("model"))
    ms = {name: value / 1e3 for name, value in us.items()}
    return {**given_to_products(model, ms), "": other / 1e3}


def given_to_products(model: ir.Model, ms: Mapping[str, float]) -> dict[str, float]:
    """Give the time of what a product was fused with to the product.

    onnxruntime calls a Conv that was fused with a Clip like the Clip. So a product that takes no
    time itself is looked for before each node that does, behind nothing but nodes that take none.
    """
    found = dict(ms)
    for graph in facts.graphs_within(model.graph):
        for node in graph:
            name = node.name or ""
            if ms.get(name) and not is_counted(node.op_type):
                product = _untimed_product(node, found)
                if product is not None:
                    found[product.name or ""] = found.pop(name)
    return found


def _untimed_product(node: ir.Node, ms: Mapping[str, float]) -> ir.Node | None:
    before, seen = [node], {node}
    while before:
        for value in before.pop().inputs:
            maker = value.producer() if value is not None else None
            if maker is None or maker in seen or ms.get(maker.name or ""):
                continue
            if is_counted(maker.op_type):
                return maker
            seen.add(maker)
            before.append(maker)
    return None


def latency_of(
    model: ir.Model,
    work: Work,
    path: Path,
    feed: Mapping[str, Any],
    widths: Mapping[str, Sequence[int]],
    *,
    threads: int,
    cover: float = COVER,
    sessions: int = SESSIONS,
    progress: Progress | None = None,
) -> Latency:
    """Measure a model that stands at `path`, too, on one sample, and predict its narrower kin.

    `widths` are those that each group may have. `work` has to be that of shapes as in `feed`. With
    a `cover` of 0 no nodes are measured by themselves, which takes a few seconds instead of up to a
    minute. Raises `ProviderError`.
    """
    ms = profile_nodes(model, path, feed, threads=threads, sessions=sessions, progress=progress)
    chosen = _that_matter(model, work, ms, widths, cover)
    grids = {}
    if chosen:
        grids = measure_grids(
            chosen,
            widths,
            threads=threads,
            full=work.macs.full,
            sessions=sessions,
            progress=progress,
        )
    return predicted(work, ms, grids)


def predicted(
    work: Work, ms: Mapping[str, float], grids: Mapping[str, Grid] | None = None
) -> Latency:
    """Return what to expect of widths, from the ms of each node of the whole model."""
    grids = grids or {}
    terms, fixed = split(
        Term(
            name=node.name,
            groups=node.groups,
            value=_Time(node, ms[node.name], work.macs.full, grids.get(node.name)),
        )
        for node in work.nodes
        if ms.get(node.name)
    )
    known = {node.name for node in work.nodes}
    fixed += sum(value for name, value in ms.items() if name not in known)
    total = Total(full=work.macs.full, terms=terms, fixed=fixed)
    return Latency(total=total, nodes=ms, grids=grids)


class _Time:
    """The ms of one node by widths."""

    def __init__(
        self, node: NodeWork, ms: float, full: Mapping[str, int], grid: Grid | None
    ) -> None:
        self.node = node
        self.call = min(ms, _CALL_MS)
        self.ms = ms
        self.grid = grid
        self.work = node.macs if node.macs(full) else node.moved
        self.whole = self.work(full)

    def __call__(self, kept: Widths) -> Any:
        if not self.node.groups or not self.whole:
            return self.ms
        left = self.work(kept) / self.whole
        if self.grid is not None:
            # A whole node that was measured too slow would let its narrower kin cost nothing.
            return self.ms * np.maximum(self.grid.share(kept), left / _MOST_GAIN)
        return self.call + (self.ms - self.call) * left


def _that_matter(
    model: ir.Model,
    work: Work,
    ms: Mapping[str, float],
    widths: Mapping[str, Sequence[int]],
    cover: float,
) -> list[tuple[ir.Node, NodeWork]]:
    """Return the nodes that can be measured, the longest first, until they cover the time."""
    named = {node.name: node for node in work.nodes}
    found = [
        (node, named[node.name])
        for graph in facts.graphs_within(model.graph)
        for node in graph
        if ms.get(node.name or "", 0.0) >= _LEAST_MS
        and node.name in named
        and can_measure(node, named[node.name], widths)
    ]
    found.sort(key=lambda pair: -ms.get(pair[1].name, 0.0))
    depends = sum(ms.get(node.name, 0.0) for node in work.nodes if node.groups)
    kept, covered = [], 0.0
    for pair in found:
        if covered >= cover * depends:
            break
        kept.append(pair)
        covered += ms.get(pair[1].name, 0.0)
    return kept
