"""Puts what was decided and found into the words and numbers of the report."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable

import numpy as np

from onnxopt.graph import facts
from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import decibel
from onnxopt.quantizing.calibration.observers import Observer
from onnxopt.quantizing.calibration.ranges.mse import expected_error
from onnxopt.quantizing.choosing import Chosen
from onnxopt.quantizing.making import Made
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.spec import QParams
from onnxopt.report import (
    Caution,
    Interval,
    PairSums,
    QuantizedTensor,
    QuantizeReport,
    Region,
    Saturation,
)
from onnxopt.runtime.machine.multiply import Kernels
from onnxopt.text import plural


def nothing_to_do(placement: Placement) -> str:
    """Say why a model has no int8 unit."""
    reasons = Counter(placement.left.values()).most_common(1)
    if not reasons:
        return "nothing in the model computes with float32 tensors"
    reason, count = reasons[0]
    return f"no operator can be int8 on {placement.target}: of {plural(count, 'node')}, {reason}"


def tensors(made: Made) -> tuple[QuantizedTensor, ...]:
    """Return what became of each activation, weight and bias."""
    placement, found, observers = made.solution.placement, [], made.statistics.observers
    sharing: defaultdict[int, list[str]] = defaultdict(list)
    for name, params in made.solution.activations.items():
        sharing[id(params)].append(name)
    for name, params in made.solution.activations.items():
        others = tuple(other for other in sharing[id(params)] if other != name)
        found.append(_activation(name, params, observers.get(name), others))
    for unit in placement.units:
        weight = None if unit.weight is None else made.solution.weights.get(unit.weight.edge)
        if weight is None or unit.weight is None:
            continue
        step = weight.params.scale.astype(np.float64)
        least, most = int(weight.integers.min()), int(weight.integers.max())
        found.append(
            QuantizedTensor(
                name=unit.weight.tensor,
                role="weight",
                dtype=str(weight.integers.dtype),
                scale=_interval(step),
                zero_point=0,
                low=float(least * step.max()),
                high=float(most * step.max()),
                channels=int(step.size),
            )
        )
    return tuple(found)


def _activation(
    name: str, params: QParams, seen: Observer | None, others: tuple[str, ...]
) -> QuantizedTensor:
    known = seen is not None and seen.count > 0
    low, high = (seen.low, seen.high) if seen is not None and known else params.range
    return QuantizedTensor(
        name=name,
        role="activation",
        dtype=str(params.zero_point.dtype),
        scale=_interval(params.scale),
        zero_point=int(params.zero_point),
        low=low,
        high=high,
        sqnr_db=None if seen is None else _sqnr(seen, params),
        shared_with=others,
    )


def _sqnr(seen: Observer, params: QParams) -> float | None:
    if seen.histogram is None or not seen.squares:
        return None
    lost = expected_error(seen, params)
    kept = seen.squares / max(seen.count, 1)
    return math.inf if lost <= 0 else float(10 * math.log10(kept / lost))


def _interval(scale: np.ndarray) -> Interval:
    return float(np.min(scale)), float(np.max(scale))


def regions(chosen: Chosen, placement: Placement, model: ir.Model) -> tuple[Region, ...]:
    """Say of each region, and of each node that can be in none, what it became and why."""
    ops = {node.name: node.op_type for graph in facts.graphs_within(model.graph) for node in graph}
    found = []
    for region in chosen.regions.regions:
        taken = region.name in chosen.int8
        noise = chosen.sensitivity.noise.get(region.name)
        costs = chosen.costs
        times: list[float | None] = [None, None]
        if costs is not None:
            sides = (costs.in_int8, costs.in_float)
            times = [sum(side[unit] for unit in region.units) / 1e3 for side in sides]
        found.append(
            Region(
                name=region.name,
                op=region.op,
                nodes=region.units,
                became="int8" if taken else "float",
                reason=_reason(chosen, region.units, noise, taken=taken),
                int8_ms=times[0],
                float_ms=times[1],
                sqnr_db=None if noise is None else decibel(noise),
            )
        )
    found += [
        Region(name=name, op=ops.get(name, ""), nodes=(name,), became="float", reason=why)
        for name, why in placement.left.items()
    ]
    return tuple(found)


def _reason(chosen: Chosen, units: Iterable[str], noise: float | None, *, taken: bool) -> str:
    if chosen.costs is None:
        return "speed was not measured" if taken else _loses(noise)
    saved = chosen.costs.saved(units)
    if taken:
        return f"saves {saved / 1e3:.3g} ms" if saved > 0 else "its neighbours are int8"
    if saved <= 0:
        return f"int8 would take {-saved / 1e3:.3g} ms more"
    return f"would save {saved / 1e3:.3g} ms, conversions aside, but {_loses(noise)}"


def _loses(noise: float | None) -> str:
    return "is noisy" if noise is None else f"alone leaves {decibel(noise):.1f} dB of the outputs"


def saturation(kernels: Kernels, made: Made) -> Saturation:
    """Say whether kernels add in 16 bits, and what that came to."""
    return Saturation(
        isa=kernels.isa,
        adds_in_16_bits=kernels.adds_in_16_bits,
        total=added(made.solver.sums.values()),
        probe=kernels.probe,
    )


def added(sums: Iterable[PairSums]) -> PairSums | None:
    """Return the sum of what was counted; None of nothing."""
    found = list(sums)
    if not found:
        return None
    return PairSums(
        rows=sum(one.rows for one in found),
        pairs=sum(one.pairs for one in found),
        overflowing=sum(one.overflowing for one in found),
        remaining=sum(one.remaining for one in found),
        rows_mended=sum(one.rows_mended for one in found),
    )


def little(report: QuantizeReport) -> list[Caution]:
    """Return the caution that int8 gains hardly more than exact optimization does."""
    alone = next((p.difference for p in report.front if not p.int8_regions and p.difference), None)
    if alone is None or report.difference is None or report.difference.low > alone.high:
        return []
    return [
        Caution(
            kind="little gained",
            message=f"not by int8: optimization alone makes the model {alone.times()}",
            advice="onnxopt optimize gains it without any error",
        )
    ]


def cautions(samples: int, few: int, constant: Iterable[str]) -> list[Caution]:
    """Return what speaks against trusting the calibration."""
    found = []
    if samples < few:
        found.append(
            Caution(
                kind="few samples",
                message=f"{plural(samples, 'sample')} are few to take ranges and corrections of",
                advice="give a hundred or more, as different as what the model will meet",
            )
        )
    names = list(constant)
    if names:
        found.append(
            Caution(
                kind="constant",
                message=f"{plural(len(names), 'tensor')} had one value in all samples: {names[0]}",
                advice="give samples that differ where the model looks",
            )
        )
    return found
