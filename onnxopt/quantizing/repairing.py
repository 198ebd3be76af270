"""Tries rewrites that are exact in float and may help int8; keeps what does on held-out samples."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from onnxopt.graph._onnx_ir import ir
from onnxopt.judging.quality import Judge, decibel
from onnxopt.quantizing.calibration.collect import collect
from onnxopt.quantizing.calibration.expose import Wanted
from onnxopt.quantizing.calibration.ranges import Method
from onnxopt.quantizing.making import METHOD, Maker
from onnxopt.quantizing.placement.plan import Placement
from onnxopt.quantizing.repair.chains import candidates
from onnxopt.quantizing.repair.equalize import equalized
from onnxopt.quantizing.repair.noise import channel_axes
from onnxopt.quantizing.repair.smooth import smoothed
from onnxopt.quantizing.repair.split import split_outliers
from onnxopt.quantizing.repair.walk import Ranges
from onnxopt.report import Repair

_WORTH_DB = 0.3
"""What a rewrite has to gain: less is within what other samples would say."""

_WORTH = {"splitting": 2.0}
"""What has to be gained where the model becomes larger by it."""

_RANGES: tuple[Method, ...] = (METHOD, "mse", "percentile")
_LEAD: dict[Method, float] = {METHOD: 10 ** (-_WORTH_DB / 10)}
"""Ranges that cut nothing off are left only for a gain: other samples go further."""

_RANGED = 64
"""Samples that ranges by channel are taken of."""

Rewrite = Callable[[ir.Model, Ranges], Counter[str]]

_WAYS: dict[str, tuple[tuple[str, Rewrite], ...]] = {
    "equalization": (("by weights", lambda model, _: equalized(model)),),
    "smoothing": (
        ("into what is in front", smoothed),
        ("with Mul", lambda model, ranges: smoothed(model, ranges, alpha=0.6, restore=True)),
    ),
    "splitting": (("of outliers", lambda model, _: split_outliers(model)),),
}


@dataclass(kw_only=True)
class Repaired:
    """The float model to go on with, its placement, and what was tried."""

    model: ir.Model
    placement: Placement
    identity: str
    tried: list[Repair] = field(default_factory=list)


def repaired(
    model: ir.Model,
    placement: Placement,
    place: Callable[[ir.Model], Placement],
    maker: Maker,
    judge: Judge,
) -> Repaired:
    """Return a model that computes the same in float and more nearly the same in int8."""
    best = Repaired(model=model, placement=placement, identity=maker.identity)
    wanted = [name for name in _WAYS if maker.config.repairs(name)]
    noise = _ranged(best, maker, judge)
    if not wanted:
        return best
    for name in wanted:
        start = time.perf_counter()
        before, kept = noise, ""
        done: Counter[str] = Counter()
        for way, rewrite in _WAYS[name]:
            changed = best.model.clone()
            counts = rewrite(changed, _ranges(changed, best.placement, maker))
            if not counts:
                continue
            attempt = Repaired(
                model=changed,
                placement=place(changed),
                identity=f"{best.identity}, {name} {way}",
                tried=best.tried,
            )
            found = _noise(attempt, maker, judge)
            if found < noise * 10 ** (-_WORTH.get(name, _WORTH_DB) / 10):
                best, noise, kept, done = attempt, found, way, counts
            elif not kept:
                done = counts
        if done:
            best.tried.append(_told(name, kept, before, noise, done, time.perf_counter() - start))
    return best


def _ranged(given: Repaired, maker: Maker, judge: Judge) -> float:
    """Let the maker take the ranges that do best on held-out samples; return their noise."""
    if maker.config.method != "auto":
        maker.method = cast("Method", maker.config.method)
        return _noise(given, maker, judge)
    start = time.perf_counter()
    found: dict[Method, float] = {}
    for method in _RANGES:
        maker.method = method
        found[method] = _noise(given, maker, judge)
    maker.method = min(_RANGES, key=lambda method: found[method] * _LEAD.get(method, 1.0))
    first, best = found[METHOD], found[maker.method]
    kept = "" if maker.method == METHOD else maker.method
    seconds = time.perf_counter() - start
    given.tried.append(_told("ranges", kept, first, best, Counter(), seconds))
    return best


def _noise(attempt: Repaired, maker: Maker, judge: Judge) -> float:
    statistics = maker.calibrate(attempt.model, attempt.placement, attempt.identity)
    made = maker.make(attempt.model, attempt.placement, statistics, quick=True)
    return judge.judge(maker.save(made)).noise


def _told(
    name: str, kept: str, before: float, after: float, done: Counter[str], seconds: float
) -> Repair:
    return Repair(
        name=name,
        status="kept" if kept else "rolled back",
        sqnr_before_db=decibel(before),
        sqnr_after_db=decibel(after),
        seconds=seconds,
        done=dict(done),
        reason=kept or f"it gains less than {_WORTH.get(name, _WORTH_DB)} dB on held-out samples",
    )


def _ranges(model: ir.Model, placement: Placement, maker: Maker) -> Ranges:
    """Return the ranges by channel of what will be int8."""
    axes = channel_axes(candidates(model.clone(), restore=True))
    wanted = {name: Wanted(axis=axis) for name, axis in axes.items() if name in placement.tensors}
    if not wanted:
        return {}
    found = collect(
        model,
        wanted,
        lambda: maker.samples.fitted(_RANGED),
        max_memory=maker.config.max_memory,
        directory=maker.folder,
    )
    return {
        name: (seen.channels.low, seen.channels.high)
        for name, seen in found.observers.items()
        if seen.channels is not None and seen.channels.count
    }
