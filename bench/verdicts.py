"""Judges the scoreboard: who is the best peer, and whether onnxopt holds its own on a form."""

from __future__ import annotations

from typing import Any

from tools import TOOLS

OWN = "onnxopt cpu"
LEVELS = ("all", "extended")

Cells = dict[str, dict[str, Any]]


def right(cell: dict[str, Any] | None) -> bool:
    """Tell whether a tool made a model that computes what it should."""
    return bool(cell) and not cell.get("error") and cell["verification"]["passed"]


def runs(cell: dict[str, Any], level: str) -> int:
    """Return how many nodes onnxruntime runs at one of `LEVELS`."""
    return sum(cell["runs"][level].values())


def best_peer(cells: Cells) -> str | None:
    """Return the peer with whose result onnxruntime runs the fewest nodes; ties: the first.

    A peer that leaves as many as there are without any tool is none.
    """
    names = [name for name, tool in TOOLS.items() if tool.is_peer and right(cells.get(name))]
    best = min(names, key=lambda name: _cost(cells[name]), default=None)
    return best if best and _cost(cells[best]) < _cost(cells["original"]) else None


def _cost(cell: dict[str, Any]) -> tuple[int, ...]:
    return tuple(runs(cell, level) for level in LEVELS)


def touched(cells: Cells, name: str) -> bool:
    """Tell whether a tool changed which operators there are, or which reads which."""
    if not right(cells.get(name)):
        return False
    return any(cells[name][what] != cells["original"][what] for what in ("ops", "edges"))


def untouched_by_peers(cells: Cells) -> bool:
    """Tell whether every peer leaves the form as it is: one of those that only onnxopt can mend."""
    peers = [name for name, tool in TOOLS.items() if tool.is_peer]
    return not any(touched(cells, name) for name in peers)


def behind(cells: Cells) -> list[str]:
    """Return the levels at which onnxruntime runs more nodes than after some peer, or alone."""
    rivals = [name for name, tool in TOOLS.items() if tool.is_peer and right(cells.get(name))]
    return [
        level
        for level in LEVELS
        if runs(cells[OWN], level) > min(runs(cells[name], level) for name in ("original", *rivals))
    ]


def verdict(cells: Cells) -> str:
    """Say how onnxopt's result stands: ahead, level, faster, behind, slower, wrong or failed.

    `faster` has more nodes than the best of the others, and takes measurably less time.
    """
    own = cells[OWN]
    if own.get("error"):
        return "failed"
    if not right(own):
        return "wrong"
    measured = {name: told["verdict"] for name, told in (own.get("latency") or {}).items() if told}
    if behind(cells):
        fewest = best_peer(cells) or "original"
        return "faster" if measured.get(fewest) == "faster" else "behind"
    if "slower" in measured.values():
        return "slower"
    names = ["original", *(n for n, tool in TOOLS.items() if tool.is_peer and right(cells.get(n)))]
    fewest_nodes = min(runs(cells[name], "all") for name in names)
    return "ahead" if runs(own, "all") < fewest_nodes else "level"
