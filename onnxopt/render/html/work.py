"""Where the time of a model goes, as plain texts for the template."""

from __future__ import annotations

import math
from typing import Any

from onnxopt.render import rows, timings
from onnxopt.render.html.plots import Plotter
from onnxopt.render.words import macs_text
from onnxopt.report import Hotspot, Hotspots
from onnxopt.text import human_bytes, plural

_NODES = 25


def lay_out(plotter: Plotter, hot: Hotspots) -> dict[str, Any]:
    """Lay out where the time of one model goes."""
    ran = {each.setting: each for each in plotter.measured if each.model == hot.model}
    where = rows.setting(ran.get(hot.setting, hot.setting))
    return {
        "title": f"{plotter.names[hot.model]} on {where}",
        "error": hot.error or "",
        "told": f"{timings.latency(hot.kernels_ms)} ms in nodes, "
        f"{timings.latency(hot.total_ms)} ms a run while profiled, {plural(hot.runs, 'run')}",
        "ceiling": _ceiling(hot),
        "operators": [_spot(rank, each) for rank, each in enumerate(hot.operators, 1)],
        "nodes": [_spot(rank, each) for rank, each in enumerate(hot.nodes[:_NODES], 1)],
        "more": max(0, len(hot.nodes) - _NODES),
        "plots": plotter.roof(hot),
    }


def _ceiling(hot: Hotspots) -> str:
    if hot.ceiling is None:
        return ""
    told = [
        f"{number:.3g} {unit}"
        for number, unit in ((hot.ceiling.gflops, "GFLOP/s"), (hot.ceiling.gbs, "GB/s"))
        if math.isfinite(number)
    ]
    return f"This machine reaches {' and '.join(told)}." if told else ""


def _spot(rank: int, each: Hotspot) -> dict[str, Any]:
    return {
        "rank": rank,
        "name": each.name,
        "op": each.op,
        "provider": each.provider,
        "count": f"{each.count:,}",
        "ms": timings.latency(each.ms),
        "share": f"{100 * each.share:.1f} %",
        "width": round(100 * min(1.0, max(0.0, each.share)), 1),
        "macs": macs_text(each.macs) if each.macs is not None else "",
        "bytes": human_bytes(each.bytes) if each.bytes is not None else "",
        "gflops": _number(each.gflops),
        "gbs": _number(each.gbs),
        "of_ceiling": "" if each.of_ceiling is None else f"{100 * each.of_ceiling:.0f} %",
        "bound": each.bound or "",
        "shapes": each.shapes,
    }


def _number(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.3g}"
