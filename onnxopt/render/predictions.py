"""What the tables of predicted costs say, laid out by neither terminal nor Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from onnxopt.render.words import op_text, share_text
from onnxopt.report import Cost, InspectReport, NodeInfo
from onnxopt.text import human_bytes, human_count

SHOWN = 10
"""As many operators and nodes are shown, the costliest; the JSON report has all."""

NUMBERS = ("share", "MACs", "bytes", "ops/byte")
"""Headings of what `numbers` writes."""


def headline(report: InspectReport) -> str:
    """Say with which sizes costs were predicted, which of those nobody gave, and what it leaves."""
    sizes = [
        f"{name}={size}{' (assumed)' if name in report.assumed else ''}"
        for name, size in report.sizes.items()
    ]
    given = f", with {', '.join(sizes)}" if sizes else ""
    return (
        f"from shapes alone{given}{'; --fix sets sizes' if report.assumed else ''}; what ONNX "
        "Runtime fuses is not seen; each multiply-accumulate is two operations"
    )


def numbers(cost: Cost) -> tuple[str, ...]:
    """Write the numbers of a node or operator, as `NUMBERS` names them."""
    return (
        share_text(cost.share, 1),
        human_count(cost.macs) if cost.macs else "",
        human_bytes(cost.bytes) if cost.bytes else "",
        f"{cost.intensity:.1f}" if cost.intensity else "",
    )


def operators(report: InspectReport) -> list[tuple[str, Cost]]:
    """Return the costliest operators with what their nodes take."""
    return list(report.costs.items())[:SHOWN]


def costliest(nodes: Sequence[NodeInfo]) -> list[tuple[NodeInfo, Cost]]:
    """Return the nodes that have a cost, the costliest first."""
    costly = [(node, node.cost) for node in nodes if node.cost is not None]
    return sorted(costly, key=lambda pair: -pair[1].ms)


def node_cells(nodes: Sequence[NodeInfo]) -> list[tuple[str, ...]]:
    """Write the costliest nodes: numbers, operator, name."""
    return [(*numbers(cost), op_text(node), node.name) for node, cost in costliest(nodes)]
