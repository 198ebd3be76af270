"""Spreads what has to go over the groups of a model: a front of choices, and points on it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from onnxopt.errors import OnnxOptError
from onnxopt.pruning.budget.curves import Curve
from onnxopt.pruning.budget.descent import Step, descend, evenly, fitted, loss_of, widths_after
from onnxopt.pruning.budget.total import Total, counted

By = Literal["macs", "parameters", "ms", "units"]
Scope = Literal["global", "layer"]
MOST_CUTS = 24

_WORDS = {"macs": "MACs", "ms": "time", "units": "units", "parameters": "parameters"}


@dataclass(frozen=True, kw_only=True, eq=False)
class Costs:
    """What widths cost; `ms` is None where no times are known."""

    macs: Total
    parameters: Total
    ms: Total | None = None


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A choice: by group the units that stay, and what is predicted of it.

    `loss` is the energy of the noise at the outputs, relative to theirs; the others are shares of
    the whole model's, `units` of those that could go.
    """

    kept: Mapping[str, int]
    loss: float
    macs: float
    parameters: float
    units: float
    ms: float | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Front:
    """Choices from the whole model to the smallest, about evenly spread over their cost.

    `steps` is the whole way, of which `cuts` are points, and `total` the cost that it was found by.
    """

    cuts: tuple[Cut, ...]
    curves: Mapping[str, Curve]
    costs: Costs
    scope: Scope
    total: Total
    units: Total
    steps: tuple[Step, ...]

    def cut(self, kept: Mapping[str, int]) -> Cut:
        """Return what is predicted of any widths; groups that are not named are whole."""
        widths = {name: kept.get(name, each.size) for name, each in self.curves.items()}
        ms = self.costs.ms
        return Cut(
            kept=widths,
            loss=loss_of(self.curves, widths),
            macs=self.costs.macs.share(widths),
            parameters=self.costs.parameters.share(widths),
            units=self.units.share(widths),
            ms=None if ms is None else ms.share(widths),
        )


def front(
    curves: Iterable[Curve],
    costs: Costs,
    *,
    by: By = "macs",
    scope: Scope = "global",
    protect: Collection[str] = (),
    least: Mapping[str, int] | None = None,
    most: int = MOST_CUTS,
) -> Front:
    """Return the choices that lose least for what they cost `by`.

    In scope `layer` all groups lose the same share, as nearly as their widths allow. `protect` are
    groups that stay whole, `least` the fewest units of a group that may stay.
    """
    found = {each.group: _allowed(each, protect, least or {}) for each in curves}
    cuttable = {name: each for name, each in found.items() if len(each.widths) > 1}
    units = counted(
        {name: each.weight for name, each in cuttable.items()},
        {name: each.size for name, each in cuttable.items()},
    )
    total = {"macs": costs.macs, "parameters": costs.parameters, "ms": costs.ms, "units": units}[by]
    assert total is not None, "no times were measured"
    steps = (descend if scope == "global" else evenly)(found, total)
    whole = Front(
        cuts=(), curves=found, costs=costs, scope=scope, total=total, units=units, steps=steps
    )
    counts = _thinned([total.whole, *(step.cost for step in steps)], most)
    cuts = tuple(whole.cut(widths_after(found, steps[:count])) for count in counts)
    return replace(whole, cuts=cuts)


def at(
    found: Front,
    *,
    target_macs: float | None = None,
    target_latency: float | None = None,
    sparsity: float | None = None,
    threshold: float | None = None,
) -> Cut:
    """Return the choice that holds one wish, found anew: not the nearest of `cuts`.

    `target_macs` and `target_latency` are shares of the whole model's that may be left, `sparsity`
    the share of units that go (in scope `layer`, of each group, to the nearest width). With
    `threshold`, units go whose loss by the curve's hull is at most that. Raises `OnnxOptError`
    where even the narrowest widths leave more.
    """
    if threshold is not None:
        return found.cut({name: _under(each, threshold) for name, each in found.curves.items()})
    if sparsity is not None and found.scope == "layer":
        return found.cut({name: _nearest(each, sparsity) for name, each in found.curves.items()})
    if sparsity is not None:
        return _below(found, found.units, 1 - sparsity, "units")
    if target_macs is not None:
        return _below(found, found.costs.macs, target_macs, "macs")
    assert target_latency is not None, "nothing was wished for"
    assert found.costs.ms is not None, "no times were measured"
    return _below(found, found.costs.ms, target_latency, "ms")


def _allowed(each: Curve, protect: Collection[str], least: Mapping[str, int]) -> Curve:
    fewest = each.size if each.group in protect else least.get(each.group, 1)
    widths = tuple(
        width
        for width in each.widths
        if width == each.size or (width >= fewest and np.isfinite(each.loss(width)))
    )
    return Curve(group=each.group, losses=each.losses, widths=widths, weight=each.weight)


def _thinned(costs: list[float], most: int) -> list[int]:
    """Return how many steps lead to each of at most `most` points, evenly spread over the cost."""
    levels = np.linspace(costs[0], costs[-1], most)
    falling = -np.array(costs)
    places = np.searchsorted(falling, -levels - 1e-9 * abs(costs[0]))
    return sorted({0, *(min(int(place), len(costs) - 1) for place in places), len(costs) - 1})


def _under(each: Curve, threshold: float) -> int:
    rises = np.diff(each.hull[np.isfinite(each.hull)])
    gone = int(np.searchsorted(rises, threshold, side="right"))
    return min(width for width in each.widths if width >= each.size - gone)


def _nearest(each: Curve, sparsity: float) -> int:
    wanted = (1 - sparsity) * each.size
    return min(each.widths, key=lambda width: (abs(width - wanted), -width))


def _below(found: Front, total: Total, share: float, what: By) -> Cut:
    """Return the choice with at most this share of a cost."""
    limit = share * total.whole * (1 + 1e-12)
    if found.scope == "layer":
        kept = _first(found, total, limit)
    else:
        steps = found.steps if total is found.total else descend(found.curves, total)
        kept = fitted(found.curves, total, steps, limit)
    if kept is not None:
        return found.cut(kept)
    smallest = {name: each.widths[-1] for name, each in found.curves.items()}
    raise OnnxOptError(
        f"{share:g}× of the {_WORDS[what]} cannot be reached: with all groups at their narrowest, "
        f"{total.share(smallest):.3g}× is left",
        "ask for less, protect fewer layers, or take out whole blocks: --structure block",
    )


def _first(found: Front, total: Total, limit: float) -> dict[str, int] | None:
    """Return the first widths on the way that cost so little: costs only fall on it."""

    def leaves(count: int) -> bool:
        return float(total(widths_after(found.curves, found.steps[:count]))) <= limit

    count = bisect_left(range(len(found.steps) + 1), True, key=leaves)
    return widths_after(found.curves, found.steps[:count]) if count <= len(found.steps) else None
