"""Narrows a model step by step, each time where it loses least for what it saves.

A step takes a group to whichever of its smaller widths has the least loss per cost saved: with all
other groups as they are that is an edge of the lower convex hull of (cost, loss), so that a width
that does not pay by itself (a stair of measured times, a dent in a curve) is stepped over. A step
changes what its neighbours would save, because a Conv costs in · out: they are looked at again. For
costs that add up and convex losses every point on the way is the best of its cost.

A target falls between two points of the way. The last steps before it are undone, one by one; from
there a single step goes below the target, and what is left over then is given back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnxopt.pruning.budget.curves import Curve
from onnxopt.pruning.budget.total import Total

_NOTHING = 1e-12
"""A share of the model's cost that is taken for none: what is left of adding up."""
_DRIFT = 1e-6
_UNDONE = 8


@dataclass(frozen=True, kw_only=True)
class Step:
    """A group and the width that it has from here on, and what the model costs then."""

    group: str
    width: int
    cost: float


@dataclass(frozen=True, kw_only=True)
class _Move:
    width: int
    price: float
    saved: float


def descend(curves: Mapping[str, Curve], total: Total) -> tuple[Step, ...]:
    """Return the steps from the whole model to the smallest that any step still makes cheaper."""
    kept = {name: each.size for name, each in curves.items()}
    cost = total.whole
    moves = {name: _best_move(each, total, kept) for name, each in curves.items()}
    steps: list[Step] = []
    while True:
        open_ones = [(move.price, name) for name, move in moves.items() if move is not None]
        if not open_ones:
            return tuple(steps)
        # The first of equals, so that the way is the same each time.
        name = min(open_ones, key=lambda pair: pair[0])[1]
        move = moves[name]
        assert move is not None
        kept[name] = move.width
        cost -= move.saved
        steps.append(Step(group=name, width=move.width, cost=cost))
        for near in {name, *total.near(name)} & curves.keys():
            moves[near] = _best_move(curves[near], total, kept)


def _best_move(each: Curve, total: Total, kept: Mapping[str, int]) -> _Move | None:
    """Return the narrower width with the least loss per cost saved; None where none saves."""
    now = kept[each.group]
    lower = [width for width in each.widths if width < now]
    if not lower:
        return None
    costs = total.along(kept, each.group, [now, *lower])
    saved = costs[0] - costs[1:]
    lost = each.losses[each.size - np.array(lower)] - each.loss(now)
    price = np.full(len(lower), np.inf)
    pays = (saved > _NOTHING * total.whole) & np.isfinite(lost)
    np.divide(lost, saved, out=price, where=pays)
    best = int(np.argmin(price))
    if not pays[best]:
        return None
    return _Move(width=lower[best], price=float(price[best]), saved=float(saved[best]))


def evenly(curves: Mapping[str, Curve], total: Total) -> tuple[Step, ...]:
    """Return the steps that narrow all groups alike: each is at the width nearest to its share."""
    order = sorted(
        (1 - (wide + narrow) / (2 * each.size), place, narrow)
        for place, each in enumerate(curves.values())
        for wide, narrow in zip(each.widths, each.widths[1:], strict=False)
        if np.isfinite(each.loss(narrow))
    )
    names = list(curves)
    kept = {name: each.size for name, each in curves.items()}
    cost, steps = total.whole, []
    for _, place, width in order:
        name = names[place]
        before, after = total.along(kept, name, [kept[name], width])
        kept[name] = width
        cost -= float(before - after)
        steps.append(Step(group=name, width=width, cost=cost))
    return tuple(steps)


def widths_after(curves: Mapping[str, Curve], steps: Sequence[Step]) -> dict[str, int]:
    """Return the widths of all groups once these steps were taken."""
    found = {name: each.size for name, each in curves.items()}
    for step in steps:
        found[step.group] = step.width
    return found


def loss_of(curves: Mapping[str, Curve], kept: Mapping[str, int]) -> float:
    """Return the noise of widths: the sum of what each group loses."""
    return float(sum(each.loss(kept[name]) for name, each in curves.items()))


def fitted(
    curves: Mapping[str, Curve], total: Total, steps: Sequence[Step], limit: float
) -> dict[str, int] | None:
    """Return widths that cost at most `limit`, and lose as little as can be found near the way.

    None where the way does not lead there.
    """
    # Costs were added up by differences: near the limit they are counted anew.
    costs = [total.whole, *(step.cost for step in steps)]
    near = limit + _DRIFT * total.whole
    found = next((count for count, cost in enumerate(costs) if cost <= near), len(costs))
    while found < len(costs) and total(widths_after(curves, steps[:found])) > limit:
        found += 1
    if found == len(costs):
        return None
    tried = []
    for undone in range(min(_UNDONE, found) + 1):
        start = widths_after(curves, steps[: found - undone])
        if not undone or _go_below(curves, total, start, limit):
            _give_back(curves, total, start, limit)
            tried.append(start)
    return min(tried, key=lambda widths: loss_of(curves, widths))


def _go_below(
    curves: Mapping[str, Curve], total: Total, kept: dict[str, int], limit: float
) -> bool:
    """Take the one step that loses least of those that go below the limit, if there is one."""
    excess = float(total(kept)) - limit
    best: tuple[float, str, int] | None = None
    for name, each in curves.items():
        lower = [width for width in each.widths if width < kept[name]]
        costs = total.along(kept, name, [kept[name], *lower])
        for width, cost in zip(lower, costs[1:], strict=True):
            if costs[0] - cost >= excess:
                lost = each.loss(width) - each.loss(kept[name])
                if np.isfinite(lost) and (best is None or lost < best[0]):
                    best = lost, name, width
                break
    if best is None:
        return False
    kept[best[1]] = best[2]
    return float(total(kept)) <= limit


def _give_back(
    curves: Mapping[str, Curve], total: Total, kept: dict[str, int], limit: float
) -> None:
    """Widen groups as far as the limit allows, each time the one that wins most."""
    while True:
        best: tuple[float, str, int] | None = None
        left = limit - float(total(kept))
        for name, each in curves.items():
            higher = [width for width in each.widths if width > kept[name]]
            costs = total.along(kept, name, [kept[name], *higher])
            for width, cost in zip(higher, costs[1:], strict=True):
                won = each.loss(kept[name]) - each.loss(width)
                fits = cost - costs[0] <= left
                if fits and won > 0 and (best is None or won > best[0]):
                    best = won, name, width
        if best is None:
            return
        before = kept[best[1]]
        kept[best[1]] = best[2]
        if total(kept) > limit:
            kept[best[1]] = before
            return
