"""The rows of the scoreboard's tables: what came of each form, and why some stay as they are."""

from __future__ import annotations

from collections import Counter
from typing import Any

import verdicts
from reasons import MORE_NODES, STAYS
from verdicts import OWN, Cells

Rows = tuple[list[str], list[list[str]]]

_ORDER = ("ahead", "level", "faster", "behind", "slower", "wrong", "failed")


def summary(results: dict[str, Any]) -> Rows:
    """Counts: forms by verdict, and what became of those that no peer touches."""
    forms: dict[str, Cells] = {n: c for n, c in results["models"].items() if OWN in c}
    found = Counter(verdicts.verdict(cells) for cells in forms.values())
    alone = [cells for cells in forms.values() if verdicts.untouched_by_peers(cells)]
    rewritten = sum(verdicts.touched(cells, OWN) for cells in alone)
    rows = [
        ["forms", str(len(forms))],
        *([_MEANINGS[word], str(found[word])] for word in _ORDER if found[word]),
        ["forms that no peer touches", str(len(alone))],
        ["of these onnxopt rewrites", str(rewritten)],
        ["of these stay, each with its reason", str(len(alone) - rewritten)],
    ]
    for tool in results["tools"]:
        outcomes = [cells[tool] for cells in forms.values() if tool in cells]
        wrong = sum(not verdicts.right(cell) for cell in outcomes)
        changed = sum(verdicts.touched(cells, tool) for cells in forms.values())
        rows.append([f"{tool}: forms changed / failed or wrong", f"{changed} / {wrong}"])
    return ["what", "how many"], rows if forms else []


_MEANINGS = {
    "ahead": "onnxruntime runs fewer nodes after onnxopt than after any peer",
    "level": "as few as after the best peer",
    "faster": "more than after some peer, but measured to be faster",
    "behind": "more than after some peer",
    "slower": "as few or fewer, but slower",
    "wrong": "wrong outputs",
    "failed": "onnxopt failed",
}


def forms(results: dict[str, Any]) -> Rows:
    """One row a form."""
    header = ["form", "nodes", "onnxruntime alone", "best peer", "onnxopt", "against alone"]
    header += ["against best peer", "verdict", "rules and passes"]
    return header, [_row(name, cells) for name, cells in results["models"].items() if OWN in cells]


def _row(name: str, cells: Cells) -> list[str]:
    own, peer = cells[OWN], verdicts.best_peer(cells)
    latency = own.get("latency") or {}
    done = ", ".join(f"{rule}×{n}" if n > 1 else rule for rule, n in (own["done"] or {}).items())
    return [
        name,
        str(sum(cells["original"]["ops"].values())),
        _runs(cells["original"]),
        f"{_runs(cells[peer])} {peer}" if peer else "–",
        _runs(own) if verdicts.right(own) else "–",
        _ratio(latency.get("original")),
        _ratio(latency.get(peer)) if peer else "–",
        verdicts.verdict(cells),
        done or "–",
    ]


def _runs(cell: dict[str, Any]) -> str:
    default, extended = verdicts.runs(cell, "all"), verdicts.runs(cell, "extended")
    return str(default) if default == extended else f"{default} ({extended})"


def _ratio(difference: dict[str, Any] | None) -> str:
    if not difference:
        return "–"
    text = f"{difference['ratio']:.2f}"
    return text if difference["verdict"] == "no difference" else f"**{text}**"


def stays(results: dict[str, Any]) -> Rows:
    """One row a form that neither a peer nor onnxopt touches, with the reason."""
    rows = [[name, STAYS.get(name, "no reason is known")] for name in untouched(results)]
    return ["form", "why it stays"], rows


def more_nodes(results: dict[str, Any]) -> Rows:
    """One row a form of which onnxruntime runs more nodes than after a peer, with the reason."""
    rows = [
        [name, MORE_NODES.get(name, "no reason is known")]
        for name, cells in results["models"].items()
        if OWN in cells and verdicts.right(cells[OWN]) and verdicts.behind(cells)
    ]
    return ["form", "why it runs more nodes"], rows


def untouched(results: dict[str, Any]) -> list[str]:
    """Return the forms that neither a peer nor onnxopt touches."""
    return [
        name
        for name, cells in results["models"].items()
        if OWN in cells and verdicts.untouched_by_peers(cells) and not verdicts.touched(cells, OWN)
    ]
