"""Measures how long single nodes take at several widths, each in a chain of its own.

    x → Expand to the shape it reads → the node, with weights of the widths → Slice of one element

All chains stand in a few models, which are profiled in turns; only the nodes themselves count. What
is read was written just before, as in a model. Nodes of the same operator, attributes and shapes
are measured once. Between the widths that were measured times are interpolated.
"""

from __future__ import annotations

import math
import tempfile
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from onnxopt.arrays import Array
from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.profiling.attribution import LAYOUTS, Known
from onnxopt.profiling.turns import Progress, Turns
from onnxopt.pruning.budget.total import Widths
from onnxopt.pruning.budget.work import NodeWork

_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_SHARES = (0.75, 0.5, 0.25, 0.0)
_MOST_AXES = 2
_MOST_CHAINS, _MOST_ELEMENTS = 150, 2**26
"""Of one model: it takes at most so many nodes to profile, and so many numbers to hold."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Grid:
    """The times of a node by the widths of one or two groups.

    `widths` rise, by group; `ms` has one axis for each.
    """

    groups: tuple[str, ...]
    widths: tuple[tuple[int, ...], ...]
    ms: Array

    def at(self, kept: Widths) -> Any:
        """Return the ms at these widths, as if they rose in lines between those measured."""
        table, column = self.ms, None
        for axis in reversed(range(len(self.groups))):
            wanted = kept[self.groups[axis]]
            if np.ndim(wanted):
                column = wanted, self.widths[axis]
            else:
                table = _between(np.moveaxis(table, axis, 0), self.widths[axis], wanted)
        return float(table) if column is None else np.interp(*column, table)

    def share(self, kept: Widths) -> Any:
        """Return the time at these widths as a share of that of the whole node."""
        whole = float(self.ms[(-1,) * self.ms.ndim])
        return self.at(kept) / whole if whole else 1.0


def _between(table: Array, widths: Sequence[int], wanted: int) -> Array:
    """Return the rows of a table at one width, between those of the widths beside it."""
    place = min(bisect_right(widths, wanted), len(widths) - 1)
    if place == 0:
        return np.asarray(table[0])
    low, high = widths[place - 1], widths[place]
    part = min(max((wanted - low) / (high - low), 0.0), 1.0)
    return np.asarray((1 - part) * table[place - 1] + part * table[place])


def spread(widths: Sequence[int]) -> tuple[int, ...]:
    """Return the few of a group's widths that are measured, rising; the ends are among them."""
    size = max(widths)
    chosen = {min(widths, key=lambda width: abs(width - part * size)) for part in _SHARES}
    return tuple(sorted({size, *chosen}))


def can_measure(node: ir.Node, work: NodeWork, widths: Mapping[str, Sequence[int]]) -> bool:
    """Tell whether a node is one that can be measured alone at several widths."""
    axes = [name for name in work.groups if len(widths.get(name, ())) > 1]
    if node.op_type not in _OPERATORS or node.domain or not 0 < len(axes) <= _MOST_AXES:
        return False
    if node.op_type == "ConvTranspose" and (node.attributes.get_int("group", 1) or 1) > 1:
        return False
    values = [value for value in node.inputs if value is not None]
    return None not in work.reads[: len(values)] and all(
        facts.dtype(value) == ir.DataType.FLOAT for value in values
    )


def measure_grids(
    nodes: Sequence[tuple[ir.Node, NodeWork]],
    widths: Mapping[str, Sequence[int]],
    *,
    threads: int,
    full: Mapping[str, int],
    sessions: int,
    timeout: float = 120.0,
    progress: Progress | None = None,
) -> dict[str, Grid]:
    """Measure nodes at the `spread` of the widths that their groups may have, by name.

    `full` are the sizes of all groups. Takes about two seconds for each session of a hundred
    chains. Raises `ProviderError` where a model of them cannot be profiled.
    """
    chains: dict[bytes, _Chain] = {}
    wanted: dict[str, tuple[tuple[str, ...], tuple[tuple[int, ...], ...], list[_Chain]]] = {}
    for node, work in nodes:
        groups = tuple(name for name in work.groups if len(widths.get(name, ())) > 1)
        measured = tuple(spread(widths[name]) for name in groups)
        found: list[_Chain] = []
        for choice in product(*measured):
            chain = _Chain.of(node, work, {**full, **dict(zip(groups, choice, strict=True))})
            found.append(chains.setdefault(chain.key, chain))
        wanted[node.name or ""] = groups, measured, found
    ms = _measured(list(chains.values()), threads, sessions, timeout, progress)
    return {
        name: Grid(
            groups=groups,
            widths=measured,
            ms=_rising(
                np.reshape([ms[chain.key] for chain in found], [len(each) for each in measured])
            ),
        )
        for name, (groups, measured, found) in wanted.items()
    }


def _rising(ms: Array) -> Array:
    """Return times that fall nowhere as widths rise: the middle of what the noise leaves open."""
    for axis in range(ms.ndim):
        above = np.maximum.accumulate(ms, axis)
        below = np.flip(np.minimum.accumulate(np.flip(ms, axis), axis), axis)
        ms = (above + below) / 2
    return ms


@dataclass(frozen=True, kw_only=True, eq=False)
class _Chain:
    """A node at certain widths: `shapes` of its inputs, of which some are constants."""

    node: Any
    shapes: tuple[tuple[int, ...] | None, ...]
    constant: frozenset[int]
    rank: int

    @classmethod
    def of(cls, node: ir.Node, work: NodeWork, kept: Mapping[str, int]) -> _Chain:
        """Return the node with weights as wide as `kept`, all names taken from it."""
        reads, writes = work.shapes(kept)
        proto = ir.to_proto(node)
        for field in ("name", "doc_string", "metadata_props", "input", "output"):
            proto.ClearField(field)
        if node.op_type == "Conv":
            for attribute in proto.attribute:
                if attribute.name == "group":
                    attribute.i = reads[0][1] // reads[1][1]
        return cls(
            node=proto, shapes=tuple(reads), constant=work.constant, rank=len(writes[0] or ())
        )

    @property
    def key(self) -> bytes:
        """What tells it from all others."""
        told = f"{self.shapes} {sorted(self.constant)}".encode()
        serialized: bytes = self.node.SerializeToString(deterministic=True)
        return serialized + told

    @property
    def elements(self) -> int:
        """The numbers that it reads."""
        return sum(math.prod(shape) for shape in self.shapes if shape is not None)


def _measured(
    chains: Sequence[_Chain],
    threads: int,
    sessions: int,
    timeout: float,
    progress: Progress | None,
) -> dict[bytes, float]:
    """Return the ms of each chain's node."""
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        turns = Turns(Path(folder), threads, timeout)
        models = _divided(chains)
        for place, part in enumerate(models):
            path = Path(folder, f"chains{place}.onnx")
            path.write_bytes(_model(part))
            turns.add(path.stem, path, {"x": np.ones((), np.float32)})
        turns.run(sessions, progress)
        found: dict[bytes, float] = {}
        for place, part in enumerate(models):
            known = Known(writes={f"node{number}": (f"y{number}",) for number in range(len(part))})
            us = dict.fromkeys(known.writes, 0.0)
            for (name, op), seen in turns.found[f"chains{place}"].items():
                owner = known.find(name)
                if owner is not None and op not in LAYOUTS:
                    us[owner] += min(seen)  # what disturbs a session only adds to it
            found.update(
                (chain.key, us[f"node{number}"] / 1e3) for number, chain in enumerate(part)
            )
        return found


def _divided(chains: Sequence[_Chain]) -> list[list[_Chain]]:
    models: list[list[_Chain]] = []
    for chain in chains:
        last = models[-1] if models else []
        elements = sum(each.elements for each in (*last, chain))
        if not last or len(last) >= _MOST_CHAINS or elements > _MOST_ELEMENTS:
            models.append([])
        models[-1].append(chain)
    return models


def _model(chains: Sequence[_Chain]) -> bytes:
    """Return a model of chains; node and output of each are called after its place."""
    from onnx import TensorProto, helper, numpy_helper

    nodes, constants, outputs = [], [], []
    rng = np.random.default_rng(0)

    def constant(name: str, array: Array) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    for number, chain in enumerate(chains):
        names = []
        for place, shape in enumerate(chain.shapes):
            name = f"i{number}_{place}"
            if shape is None:
                name = ""
            elif place in chain.constant:
                constant(name, rng.normal(0, 0.01, shape).astype(np.float32))
            else:
                sizes = constant(f"{name}_shape", np.array(shape, np.int64))
                nodes.append(helper.make_node("Expand", ["x", sizes], [name], name=name))
            names.append(name)
        node = type(chain.node)()
        node.CopyFrom(chain.node)
        node.name = f"node{number}"
        node.input.extend(names)
        node.output.append(f"y{number}")
        zeros, ones = (
            constant(f"{word}{number}", np.full(chain.rank, value, np.int64))
            for value, word in enumerate(("begin", "end"))
        )
        cut = helper.make_node("Slice", [f"y{number}", zeros, ones], [f"z{number}"])
        nodes += [node, cut]
        outputs.append(helper.make_tensor_value_info(f"z{number}", TensorProto.FLOAT, None))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [])
    graph = helper.make_graph(nodes, "chains", [given], outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    serialized: bytes = made.SerializeToString()
    return serialized
