"""Reads the trace that onnxruntime writes while it profiles: which node took how long.

One line holds one event. A node is an event of category Node called `…_kernel_time`, a run is
`model_run`; times are whole microseconds. A node that holds graphs (If, Loop) spans the nodes that
it runs, so that its own time is what those leave, and what writing their events took: a few
microseconds for each, as between two nodes anywhere. Other providers than the CPU's may add events
of their own (category Kernel), which are left out: the node's event stands for them.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from onnxopt.graph.work import Shape, holds_graphs

_NODE = "_kernel_time"
# Operators of onnxruntime that run graphs, beside ONNX's own.
_DECODERS = frozenset({"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"})


class Key(NamedTuple):
    """What tells a node from all others of a session: `within` are the nodes around it."""

    within: tuple[str, ...]
    name: str
    op: str
    number: str


@dataclass(frozen=True, kw_only=True)
class Call:
    """One execution of a node: its own time, the shapes it saw, the bytes of what it was given."""

    us: int
    provider: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]
    read: int
    written: int


@dataclass(kw_only=True)
class Run:
    """One run of a model: how long it took, and the calls of each node."""

    us: int
    calls: dict[Key, list[Call]] = field(default_factory=lambda: defaultdict(list))


def read_runs(path: Path) -> list[Run]:
    """Return the complete runs of a trace, in order."""
    events = list(_events(path))
    spans = sorted((e["ts"], e["dur"]) for e in events if e["name"] == "model_run")
    nodes = [e for e in events if e["cat"] == "Node" and e["name"].endswith(_NODE)]
    # An event is written when it ends: of two that begin together, the later one is outside.
    order = sorted(range(len(nodes)), key=lambda i: (nodes[i]["ts"], -nodes[i]["dur"], -i))
    runs = []
    at = 0
    for begun, lasted in spans:
        run = Run(us=lasted)
        while at < len(order) and nodes[order[at]]["ts"] < begun:
            at += 1
        first = at
        while at < len(order) and nodes[order[at]]["ts"] <= begun + lasted:
            at += 1
        _fill(run, [nodes[index] for index in order[first:at]])
        runs.append(run)
    return runs


def _events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield events one by one: a trace of 100,000 of them takes 70 MB as text."""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for line in lines:
            text = line.strip().removeprefix("[").removesuffix("]").strip().removesuffix(",")
            if text.startswith("{"):
                event = json.loads(text)
                if event.get("ph") == "X":
                    yield event


def _fill(run: Run, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Give each node its own time: a node that holds graphs keeps what those inside it leave."""
    writing = _writing_us(nodes)
    around: list[tuple[int, str, int]] = []  # end, name, position in `own`
    own: list[int] = []
    keys: list[Key] = []
    for event in nodes:
        while around and event["ts"] >= around[-1][0]:
            around.pop()
        name, op = _name(event), event["args"].get("op_name", "")
        within = tuple(outer for _, outer, _ in around)
        keys.append(Key(within, name, op, str(event["args"].get("node_index", ""))))
        own.append(event["dur"])
        if around:
            own[around[-1][2]] -= event["dur"] + writing
        if _runs_graphs(op):
            around.append((event["ts"] + event["dur"], name, len(own) - 1))
    for key, taken, event in zip(keys, own, nodes, strict=True):
        run.calls[key].append(_call(max(0, taken), event["args"]))


def _writing_us(nodes: Sequence[Mapping[str, Any]]) -> int:
    """Return the usual time between two nodes, neither of which holds others."""
    plain = [not _runs_graphs(event["args"].get("op_name", "")) for event in nodes]
    gaps = [
        after["ts"] - before["ts"] - before["dur"]
        for before, after, *both in zip(nodes, nodes[1:], plain, plain[1:], strict=False)
        if all(both)
    ]
    return int(median(gaps)) if gaps else 0


def _name(event: Mapping[str, Any]) -> str:
    name: str = event["name"].removesuffix(_NODE)
    return name


def _runs_graphs(op: str) -> bool:
    return holds_graphs(op) or op in _DECODERS


def _call(us: int, arguments: Mapping[str, Any]) -> Call:
    read = (int(arguments.get(name) or 0) for name in ("activation_size", "parameter_size"))
    return Call(
        us=us,
        provider=arguments.get("provider", ""),
        inputs=_shapes(arguments.get("input_type_shape")),
        outputs=_shapes(arguments.get("output_type_shape")),
        read=sum(read),
        written=int(arguments.get("output_size") or 0),
    )


def _shapes(told: Any) -> tuple[Shape, ...]:
    """Read `[{"float": [1, 3]}]`."""
    if not isinstance(told, list):
        return ()
    return tuple(tuple(shape) for entry in told for shape in entry.values())
