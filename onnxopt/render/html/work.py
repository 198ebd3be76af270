"""Where the time of a model goes, as plain texts for the template."""

from __future__ import annotations

from typing import Any

from onnxopt.render import spots, timings
from onnxopt.render.html.plots import Plotter
from onnxopt.render.words import macs_text
from onnxopt.report import Hotspot, Hotspots
from onnxopt.text import human_bytes

_NODES = 25


def lay_out(plotter: Plotter, hot: Hotspots) -> dict[str, Any]:
    """Lay out where the time of one model goes."""
    return {
        "title": timings.hot(plotter.report, hot),
        "error": spots.headline(hot) if hot.error is not None else "",
        "told": [spots.headline(hot), spots.ceiling(hot.ceiling)] if hot.error is None else [],
        "operators": [
            _spot(rank, each, spots.operator(each))
            for rank, each in enumerate(hot.operators[: spots.SHOWN], 1)
        ],
        "rest": spots.remaining(hot.operators),
        "nodes": [_spot(rank, each, each.name) for rank, each in enumerate(hot.nodes[:_NODES], 1)],
        "more": max(0, len(hot.nodes) - _NODES),
        "plots": plotter.roof(hot),
    }


def _spot(rank: int, each: Hotspot, name: str) -> dict[str, Any]:
    ms, share, gflops, gbs, of_limit = spots.numbers(each)
    return {
        "rank": rank,
        "name": name or each.op,
        "op": each.op,
        "provider": each.provider,
        "count": f"{each.count:,}",
        "ms": ms,
        "share": share,
        "width": round(100 * min(1.0, max(0.0, each.share)), 1),
        "macs": macs_text(each.macs) if each.macs is not None else "",
        "bytes": human_bytes(each.bytes) if each.bytes is not None else "",
        "gflops": gflops,
        "gbs": gbs,
        "of_limit": of_limit,
        "bound": each.bound or "",
        "shapes": each.shapes,
    }
