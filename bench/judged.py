"""The rows of the tables in `conformance.md`: cases of onnx, and random graphs."""

from __future__ import annotations

import re
from typing import Any

Table = tuple[list[str], list[list[str]]]

_STATUSES = ("equal", "unchanged", "taken back", "as the original", "not runnable", "failed")
_LISTED = ("failed", "taken back", "as the original", "not runnable")
_GRAPHS = ("equal", "within the original's noise", "not finite", "different")
_LONGEST = 300


def cases(results: dict[str, Any]) -> Table:
    """One row a kind of case and target: what became of how many."""
    rows = [
        [place, str(sum(cell.values())), *(str(cell[status]) for status in _STATUSES)]
        for place, cell in sorted(results.get("counts", {}).items())
    ]
    return ["kind of case, target", "cases", *_STATUSES], rows


def exceptions(results: dict[str, Any]) -> Table:
    """One row a case that cannot show its expected outputs: why."""
    found: dict[tuple[str, str, str], list[str]] = {}
    for status in _LISTED:
        for line in results.get("exceptions", {}).get(status, []):
            place, why = line.split(": ", 1)
            kind, name, target = place.split(" ")
            found.setdefault((status, f"{kind} {name}", _short(why)), []).append(target)
    rows = [
        [name, ", ".join(targets), status, why] for (status, name, why), targets in found.items()
    ]
    return ["case", "targets", "what became of it", "why"], rows


def _short(text: str) -> str:
    text = re.sub(r"[|`]", "/", text)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def graphs(results: dict[str, Any]) -> Table:
    """One row: what became of how many random graphs."""
    counts = results.get("counts")
    head = ["graphs", "nodes", *_GRAPHS, "rules and passes that fired", "seconds"]
    if not counts:
        return head, []
    row = [
        str(results["graphs"]),
        str(results["nodes"]),
        *(str(counts[status]) for status in _GRAPHS),
        str(len(results["fired"])),
        f"{results['seconds']:.0f}",
    ]
    return head, [row]
