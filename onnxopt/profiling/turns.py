"""Profiles models in turns, each in processes of its own: the median of every node that ran."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from onnxopt.benchmarking.child.feedfile import save_feed
from onnxopt.errors import ProviderError
from onnxopt.graph import facts, io
from onnxopt.profiling.attribution import Known, Ran, Timed
from onnxopt.profiling.hotspots import run_child
from onnxopt.report import Setting
from onnxopt.runtime.sessions.optimized import optimized

Progress = Callable[[str, float | None], None]

WATCHING_US = 1.8
"""What the trace adds to each node: a Neg of four numbers takes 0.2 µs, and 2 in a trace."""
_SECONDS = 0.4
_STAGE = "measuring nodes"


class Turns:
    """Models that are profiled on the CPU, by their key; `folder` holds what that needs."""

    def __init__(self, folder: Path, threads: int, timeout: float) -> None:
        self.folder = folder
        self.setting = Setting(provider="cpu", threads=threads)
        self.timeout = timeout
        self.plans: dict[str, dict[str, Any]] = {}
        self.found: dict[str, dict[tuple[str, str], list[float]]] = {}

    def add(self, key: str, path: Path, feed: Mapping[str, Any]) -> None:
        """Take in a model that has not been profiled yet, and one sample for it."""
        file = self.folder / f"{key}.npz"
        save_feed(file, feed)
        self.plans[key] = {
            "ceiling": False, "path": str(path), "feed": str(file), "seconds": _SECONDS
        }  # fmt: skip
        self.found[key] = defaultdict(list)

    def run(self, sessions: int, progress: Progress | None) -> None:
        """Profile each model so many times; takes about a second for each time.

        Raises `ProviderError` where a model cannot be profiled.
        """
        for number in range(sessions):
            for place, (key, plan) in enumerate(self.plans.items()):
                told = run_child(plan, self.setting, {}, self.timeout)
                if told["event"] != "profiled":
                    raise ProviderError(
                        f"the {key} model cannot be profiled: {told['message']}",
                        "leave measuring out: --no-measure",
                    )
                for row in told["nodes"]:
                    us = max(0.0, 1e3 * row["median_ms"] - WATCHING_US * row["calls"])
                    self.found[key][row["name"], row["op"]].append(us)
                if progress is not None:
                    done = number * len(self.plans) + place + 1
                    progress(_STAGE, done / (sessions * len(self.plans)))

    def rows(self, key: str) -> list[Timed]:
        """Return the nodes of a model in the order in which they ran."""
        return [
            Timed(name=name, op=op, us=median(us)) for (name, op), us in self.found[key].items()
        ]

    def ran(self, key: str) -> list[Ran]:
        """Return the graph that onnxruntime ran."""
        folder = self.folder / key
        folder.mkdir()
        made = io.load(optimized(Path(self.plans[key]["path"]), folder, layouts=True))
        return [
            Ran(
                name=node.name or "",
                op=node.op_type,
                reads=tuple(value.name or "" for value in node.inputs if value is not None),
                writes=tuple(value.name or "" for value in node.outputs),
            )
            for graph in facts.graphs_within(made.graph)
            for node in graph
        ]

    def known(self, key: str) -> Known:
        """Return the nodes of a model as it was given."""
        model = io.load(Path(self.plans[key]["path"]))
        return Known(
            writes={
                node.name or "": tuple(value.name or "" for value in node.outputs)
                for graph in facts.graphs_within(model.graph)
                for node in graph
            }
        )
