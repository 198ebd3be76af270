"""Rows of the tables about exports, from `bench/results/exports.json`."""

from __future__ import annotations

import statistics
from typing import Any

from profiled import ATTENTION, PRODUCTS

Table = tuple[list[str], list[list[str]]]
Cells = dict[str, dict[str, Any]]

NORMALIZATION = (
    *("LayerNormalization", "SimplifiedLayerNormalization", "RMSNormalization"),
    *("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
)
CONVOLUTIONAL = ("resnet50", "mobilenet_v2")
_MOST = 6


def _tools(results: dict[str, Any]) -> list[str]:
    return list(results["tools"])


def _profiled(cells: Cells, tool: str) -> dict[str, Any] | None:
    """Return a tool's cell where its result is right and was measured."""
    cell = cells.get(tool, {})
    return cell if "profile" in cell and "profile" in cells.get("original", {}) else None


def outside(results: dict[str, Any]) -> Table:
    """Time outside products: of the original in ms, of each result as a share of that."""
    rows = []
    shares: dict[str, list[float]] = {tool: [] for tool in _tools(results)}
    for name, cells in results["models"].items():
        original = cells["original"]
        row = [name, f"{sum(original['profile']['ms'].values()):.1f}"]
        row.append(f"{original['outside_ms']:.2f}")
        for tool in _tools(results):
            cell = _profiled(cells, tool)
            if cell is None:
                row.append(_why_not(cells.get(tool)))
                continue
            share = cell["outside_ms"] / original["outside_ms"]
            row.append(f"{share:.2f}")
            if not name.startswith(CONVOLUTIONAL):
                shares[tool].append(share)
        rows.append(row)
    means = [f"{statistics.geometric_mean(each):.2f}" if each else "–" for each in shares.values()]
    if rows:
        rows.append(["transformers, geometric mean", "–", "–", *means])
    return ["model", "kernels, ms", "outside products, ms", *_tools(results)], rows


def latency(results: dict[str, Any]) -> Table:
    """Time of the whole original over that of each result, with its interval."""
    rows = []
    for name, cells in results["models"].items():
        row = [name]
        for tool in _tools(results):
            found = (_profiled(cells, tool) or {}).get("latency")
            if not found:
                row.append(_why_not(cells.get(tool)))
                continue
            text = f"{found['ratio']:.2f} ({found['low']:.2f}–{found['high']:.2f})"
            row.append(text if found["verdict"] == "no difference" else f"**{text}**")
        rows.append(row)
    return ["model", *_tools(results)], rows


def fused(results: dict[str, Any]) -> Table:
    """Attention, normalisation and all nodes that onnxruntime runs, after its own fusions."""
    tools = ["original", *_tools(results)]
    rows = []
    for name, cells in results["models"].items():
        row = [name]
        for tool in tools:
            cell = _profiled(cells, tool)
            if cell is None:
                row.append(_why_not(cells.get(tool)))
                continue
            nodes = cell["profile"]["nodes"]
            attention = sum(nodes.get(op, 0) for op in ATTENTION)
            norms = sum(nodes.get(op, 0) for op in NORMALIZATION)
            row.append(f"{attention} / {norms} / {sum(nodes.values())}")
        rows.append(row)
    return ["model", *tools], rows


def parts(results: dict[str, Any]) -> Table:
    """Name what takes most of the time outside products, before and after, in ms."""
    rows = []
    for name, cells in results["models"].items():
        row = [name]
        for tool in ("original", "onnxopt cpu"):
            cell = _profiled(cells, tool)
            ms = cell["profile"]["ms"] if cell else {}
            found = [(op, time) for op, time in ms.items() if op not in PRODUCTS]
            found.sort(key=lambda pair: -pair[1])
            row.append(", ".join(f"{op} {time:.2f}" for op, time in found[:_MOST]) or "–")
        if not name.startswith(CONVOLUTIONAL):
            rows.append(row)
    return ["model", "original", "onnxopt cpu"], rows


def _why_not(cell: dict[str, Any] | None) -> str:
    if not cell:
        return "–"
    if cell.get("error"):
        return "failed"
    return "–" if cell.get("verification", {}).get("passed", True) else "wrong"
