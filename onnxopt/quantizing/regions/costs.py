"""Measures what each unit costs in float and in int8 on this machine.

The float model and one with everything in int8 are profiled in processes of their own, in turns,
and the time of every node that ran goes to the node of the model that it stands for. Nodes that are
no unit, and take about as long in both, cost the same whatever is chosen. One that runs in one of
them alone (a bias that is fused into a float product, an Add into a normalization), or takes much
longer there, does so because of a unit beside it, and its time counts to that one. A unit that does
not run at all was fused into another, and costs nothing.

Chains that do nothing but convert have their tensors in the cache. What conversions take in the
int8 model tells how much more it is in a model that has other things to do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from onnxopt.graph import facts, io
from onnxopt.graph._onnx_ir import ir
from onnxopt.profiling.attribution import times
from onnxopt.profiling.turns import Progress, Turns
from onnxopt.quantizing.placement.looking import nodes_of
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.regions import conversions
from onnxopt.quantizing.regions.conversions import Conversions
from onnxopt.quantizing.regions.cut import Border, Problem
from onnxopt.quantizing.regions.regions import Crossing, Regions

Feed = Mapping[str, Any]

SESSIONS = 3
_ABOUT, _ABOUT_US = 0.3, 5.0
_MOST_STRETCH = 3.0


@dataclass(frozen=True, kw_only=True)
class Costs:
    """µs of one run on this machine: of each unit in float and in int8, and of all in float.

    `fused` are units that onnxruntime fuses into others in float. `seen_conversions` are those of
    the profiled int8 model, which the predicted ones should come to. `sessions` is of how many
    everything is the median.
    """

    in_float: Mapping[str, float]
    in_int8: Mapping[str, float]
    total: float
    conversions: Conversions
    fused: frozenset[str] = frozenset()
    seen_conversions: float = 0.0
    sessions: int = SESSIONS

    def saved(self, units: Iterable[str]) -> float:
        """Return the µs that units gain in int8, conversions aside."""
        return sum(self.in_float[unit] - self.in_int8[unit] for unit in units)

    def ratio(self, gain: float) -> float:
        """Return how many times faster than float a choice is that gains so many µs."""
        left = max(self.total - gain, 1e-3 * self.total)
        return self.total / left if self.total else 1.0


def measure_costs(
    float_model: Path,
    int8_model: Path,
    placement: Placement,
    feed: Feed,
    *,
    threads: int,
    sessions: int = SESSIONS,
    timeout: float = 120.0,
    progress: Progress | None = None,
) -> Costs:
    """Profile both models, `sessions` times each; takes about two seconds for each time.

    `int8_model` has all units of the placement in int8, `feed` is one sample. Raises
    `ProviderError` where a model cannot be profiled.
    """
    with tempfile.TemporaryDirectory(prefix="onnxopt-") as folder:
        turns = Turns(Path(folder), threads, timeout)
        micro = turns.folder / "conversions.onnx"
        micro.write_bytes(conversions.model())
        turns.add("conversions", micro, conversions.feed())
        turns.add("float", float_model, feed)
        turns.add("int8", int8_model, feed)
        turns.run(sessions, progress)
        us = {row.name: row.us for row in turns.rows("conversions")}
        fitted = conversions.fit(us, turns.ran("conversions"))
        known = turns.known("float")
        in_float, _ = times(turns.rows("float"), turns.ran("float"), known)
        in_int8, seen = times(turns.rows("int8"), turns.ran("int8"), known)
        total = sum(row.us for row in turns.rows("float"))
    counted = _of_units(io.load(float_model), placement, in_float, in_int8)
    return Costs(
        in_float=counted[0],
        in_int8=counted[1],
        total=total,
        conversions=fitted,
        fused=_fused(placement, in_float),
        seen_conversions=seen,
        sessions=sessions,
    )


def _fused(placement: Placement, us: Mapping[str, float]) -> frozenset[str]:
    """Return the units none of whose nodes ran."""
    return frozenset(
        unit.name
        for unit in placement.units
        if not any(name in us for name in (unit.name, *unit.absorbed))
    )


def _of_units(
    model: ir.Model,
    placement: Placement,
    in_float: Mapping[str, float],
    in_int8: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, float]]:
    """Return the times of units, with those of nodes that were fused with them in one model."""
    unit_of = {name: unit.name for unit in placement.units for name in (unit.name, *unit.absorbed)}
    fused = _fused(placement, in_float)
    owner = dict(unit_of)
    for node in nodes_of(model):
        name = node.name or ""
        if name not in unit_of and _differs(in_float.get(name, 0.0), in_int8.get(name, 0.0)):
            near = _units_near(node, unit_of)
            if near:
                owner[name] = next((unit for unit in near if unit in fused), near[0])
    found = tuple(dict.fromkeys((unit.name for unit in placement.units), 0.0) for _ in range(2))
    for side, us in zip(found, (in_float, in_int8), strict=True):
        for name, unit in owner.items():
            side[unit] += us.get(name, 0.0)
    return found[0], found[1]


def _differs(one: float, two: float) -> bool:
    return abs(one - two) > max(_ABOUT_US, _ABOUT * max(one, two))


def _units_near(node: ir.Node, unit_of: Mapping[str, str]) -> list[str]:
    """Return the units that write what a node reads, then those that read what it writes."""
    before = [value.producer() for value in node.inputs if value is not None]
    behind = [use.node for value in node.outputs for use in facts.uses(value)]
    names = [near.name or "" for near in (*before, *behind) if near is not None]
    return [unit_of[name] for name in names if name in unit_of]


def problem(
    regions: Regions,
    costs: Costs,
    noise: Mapping[str, float],
    fixed: Mapping[str, bool] | None = None,
) -> Problem:
    """Return what the cut has to solve: µs gained by each region, its noise, and borders."""
    stretch = _stretch(regions, costs)
    converting = [
        replace(border, cost=stretch * border.cost)
        for one in regions.crossings
        for border in borders(one, costs.conversions)
    ]
    saved = {region.name: costs.saved(region.units) for region in regions.regions}
    return Problem(
        saved=saved,
        noise=noise,
        borders=[*converting, *_fused_adds(regions, costs)],
        fixed=fixed or {},
        surrounded=regions.surrounded,
        cautions=[
            # The neighbour that gains the least stays float, or what it surrounds is paid for.
            Border(cost=-saved[name], inner=(min(around, key=saved.__getitem__),), outer=(name,))
            for name, around in regions.surrounded.items()
            if saved[name] < 0
        ],
    )


def _stretch(regions: Regions, costs: Costs) -> float:
    """Return how many times longer conversions took in the int8 model than in chains."""
    everything = [region.name for region in regions.regions]
    predicted = sum(
        border.cost
        for one in regions.crossings
        for border in borders(one, costs.conversions)
        if border.crossed(everything)
    )
    if not predicted:
        return 1.0
    return min(max(costs.seen_conversions / predicted, 1.0), _MOST_STRETCH)


def borders(crossing: Crossing, costs: Conversions) -> list[Border]:
    """Return what a tensor costs where int8 and float meet.

    It is quantized once for all int8 readers of a float tensor, and dequantized once for all float
    readers of an int8 one. A kernel that writes either dequantizes for nothing, and then what it
    wrote is quantized for those readers that want int8.
    """
    writer = () if crossing.writer is None else (crossing.writer,)
    readers = tuple(reader for reader in crossing.readers if reader != crossing.writer)
    quantize, dequantize = (line(crossing.elements) for line in (costs.quantize, costs.dequantize))
    found = []
    if readers:
        others = (*writer, *readers) if crossing.either else writer
        outside = not writer or (crossing.either and crossing.outside)
        found.append(Border(cost=quantize, inner=readers, outer=others, outside=outside))
    if writer and not crossing.either and (readers or crossing.outside):
        found.append(Border(cost=dequantize, inner=writer, outer=readers, outside=crossing.outside))
    if crossing.image and readers and (writer or crossing.given):
        there, back = (
            line(crossing.elements) for line in (costs.to_int8_layout, costs.to_float_layout)
        )
        found.append(Border(cost=there, inner=readers, outer=writer, outside=not writer))
        if writer:
            found.append(Border(cost=back, inner=writer, outer=readers))
    return found


def _fused_adds(regions: Regions, costs: Costs) -> list[Border]:
    """Return what a float Add costs that was fused into a Conv, once that Conv is int8.

    It reads two tensors and writes one, about as dequantizing does twice.
    """
    vanished = {
        region.name
        for region in regions.regions
        if region.op == "Add" and costs.fused.issuperset(region.units)
    }
    return [
        Border(
            cost=2 * costs.conversions.dequantize(one.elements),
            inner=(one.writer,),
            outer=tuple(name for name in one.readers if name in vanished),
        )
        for one in regions.crossings
        if one.image and one.writer is not None and not vanished.isdisjoint(one.readers)
    ]
