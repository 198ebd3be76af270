"""Where the time of a model goes, as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onnxopt.render import spots
from onnxopt.render.markdown.blocks import bullets, folded, table
from onnxopt.report import Hotspot, Hotspots


def hotspots(found: Hotspots) -> str:
    """Write the hottest operators, and the hottest nodes folded away."""
    if found.error is not None:
        return bullets([spots.headline(found)])
    said = [spots.headline(found), spots.ceiling(found.ceiling)]
    operators = _table(("operator", "count"), found.operators, _operator)
    nodes = _table(("node", "operator"), found.nodes, _node)
    return "\n\n".join([bullets(filter(None, said)), operators, folded("Hottest nodes", nodes)])


def _operator(spot: Hotspot) -> tuple[str, str]:
    return spots.operator(spot), f"{spot.count:,}"


def _node(spot: Hotspot) -> tuple[str, str]:
    return spot.name, spots.operator(spot)


def _table(
    header: tuple[str, str], found: Sequence[Hotspot], named: Callable[[Hotspot], tuple[str, str]]
) -> str:
    made = table(
        (*header, *spots.NUMBERS, "by"),
        ((*named(spot), *spots.numbers(spot), spot.bound or "") for spot in found[: spots.SHOWN]),
        left=2,
    )
    rest = spots.remaining(found)
    return f"{made}\n\n{rest}" if rest else made
