"""Finds which regions should be int8 for the least time and error: a minimum cut.

For a price λ of error, the set S of int8 regions that minimizes

    Σ_{i ∈ S} (λ·noise_i - saved_i)  +  Σ_borders cost · [some one is in S, and some other is not]

is a minimum s-t cut: regions on the side of s are int8. A border becomes two nodes a → b with its
cost as capacity, each `inner` region → a and b → each `outer` region without limit, so that the
cost is paid exactly when an inner region is in S and an outer one is not. A region gets an edge
from s of what it gains, or to t of what it loses.

With errors that add up, greater λ never makes a region int8 that was float before, and the
solutions for all λ are the corners of the lower convex hull of (noise, time). They are found by
asking, between two neighbours, for the price at which both are equally good: whatever is better
than both there is a corner between them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

_TOTAL = 2**30  # scipy's flow counts in int32
_NEARLY = 1e-7
MOST_POINTS = 12


@dataclass(frozen=True, kw_only=True)
class Border:
    """Time that is lost when a region of `inner` is int8 while one of `outer` is float.

    `outside` tells that nodes which are always float are among the outer ones.
    """

    cost: float
    inner: tuple[str, ...]
    outer: tuple[str, ...] = ()
    outside: bool = False

    def crossed(self, chosen: Collection[str]) -> bool:
        """Tell whether the cost is paid with these regions in int8."""
        if not any(name in chosen for name in self.inner):
            return False
        return self.outside or any(name not in chosen for name in self.outer)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What is known of the regions, in topological order.

    `saved` is the time that a region gains in int8, without conversions, negative where it loses;
    `noise` the energy that it adds to that of the model's outputs, relative to theirs. `fixed`
    regions are int8 (True) or float whatever it costs. `surrounded` become int8 when all of their
    neighbours are, chosen or not. That is no cost that a cut could express: `cautions` are borders
    that keep it from happening where it would harm, and that are not paid.
    """

    saved: Mapping[str, float]
    noise: Mapping[str, float]
    borders: Sequence[Border] = ()
    fixed: Mapping[str, bool] = field(default_factory=dict)
    surrounded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    cautions: Sequence[Border] = ()

    def closed(self, chosen: Collection[str]) -> frozenset[str]:
        """Return a choice with all that becomes int8 by itself."""
        found = set(chosen)
        while True:
            more = {
                name
                for name, neighbours in self.surrounded.items()
                if name not in found and found.issuperset(neighbours)
            }
            if not more:
                return frozenset(found)
            found |= more

    def gain(self, chosen: Collection[str]) -> float:
        """Return the time that a choice gains against float."""
        paid = math.fsum(border.cost for border in self.borders if border.crossed(chosen))
        return math.fsum(self.saved[name] for name in chosen) - paid

    def error(self, chosen: Collection[str]) -> float:
        """Return the noise of a choice."""
        return math.fsum(self.noise[name] for name in chosen)

    def everything(self) -> frozenset[str]:
        """Return all regions that may be int8."""
        return frozenset(name for name in self.saved if self.fixed.get(name, True))


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Regions that become int8, the time that this gains, its noise, and the price of error.

    `trade` is in units of time for a noise as large as the output; None where it was no cut.
    """

    int8: frozenset[str]
    gain: float
    noise: float
    trade: float | None = None


def cheapest(problem: Problem, trade: float) -> Choice:
    """Return the choice that loses least at a price of error; of equally good ones the smallest."""
    return _choice(problem, problem.closed(_minimum_cut(problem, trade)), trade)


def corners(problem: Problem) -> list[Choice]:
    """Return the best choice for every price, from the fastest to the most accurate.

    A choice of nothing is left out.
    """
    fastest, exact = cheapest(problem, 0.0), cheapest(problem, _highest_price(problem))
    found = {choice.int8: choice for choice in (fastest, exact)}
    found.update((choice.int8, choice) for choice in _between(problem, fastest, exact))
    best = math.inf
    kept = []
    for choice in sorted(found.values(), key=lambda choice: (-choice.gain, choice.noise)):
        if choice.noise < best and choice.int8:
            best = choice.noise
            kept.append(choice)
    return kept


def front(problem: Problem, most: int = MOST_POINTS) -> list[Choice]:
    """Return no more than `most` corners, spread over noise and time, and all int8.

    The fastest is among them; all int8 is, beaten or not.
    """
    kept = _spread(corners(problem), max(2, most - 1))
    everything = problem.everything()
    if everything and all(choice.int8 != everything for choice in kept):
        kept.insert(0, _choice(problem, everything, None))
    return kept


def _choice(problem: Problem, chosen: frozenset[str], trade: float | None) -> Choice:
    gain, noise = problem.gain(chosen), problem.error(chosen)
    return Choice(int8=chosen, gain=gain, noise=noise, trade=trade)


def _highest_price(problem: Problem) -> float:
    """Return a price at which no region is worth the least of its noise."""
    least = min((noise for noise in problem.noise.values() if noise > 0), default=1.0)
    at_stake = sum(map(abs, problem.saved.values())) + sum(b.cost for b in problem.borders)
    return min(2 * at_stake / least, 1e30) if at_stake else 1.0


def _between(problem: Problem, fast: Choice, exact: Choice) -> Iterator[Choice]:
    """Yield the corners between two corners."""
    left = [(fast, exact)]
    while left:
        one, two = left.pop()
        if one.int8 == two.int8 or one.noise <= two.noise:
            continue
        price = (one.gain - two.gain) / (one.noise - two.noise)
        middle = cheapest(problem, price)
        worth = middle.gain - price * middle.noise
        slack = _NEARLY * (abs(one.gain) + price * one.noise)
        if middle.int8 in (one.int8, two.int8) or worth <= one.gain - price * one.noise + slack:
            continue
        yield middle
        left += [(one, middle), (middle, two)]


def _spread(choices: list[Choice], most: int) -> list[Choice]:
    """Keep both ends and those that are farthest from each other in dB and in time."""
    if len(choices) <= most:
        return choices
    noise = np.log([max(choice.noise, 1e-12) for choice in choices])
    gain = np.array([choice.gain for choice in choices])
    places = np.stack([_unit(noise), _unit(gain)], axis=1)
    kept = [0, len(choices) - 1]
    distance = np.minimum(*(np.abs(places - places[end]).sum(axis=1) for end in kept))
    while len(kept) < most:
        kept.append(int(distance.argmax()))
        distance = np.minimum(distance, np.abs(places - places[kept[-1]]).sum(axis=1))
    return [choices[index] for index in sorted(kept)]


def _unit(numbers: np.ndarray) -> np.ndarray:
    width = float(np.ptp(numbers)) or 1.0
    found: np.ndarray = (numbers - numbers.min()) / width
    return found


def _minimum_cut(problem: Problem, trade: float) -> frozenset[str]:
    from scipy import sparse
    from scipy.sparse.csgraph import breadth_first_order, maximum_flow

    names = list(problem.saved)
    index = {name: place + 2 for place, name in enumerate(names)}
    source, sink = 0, 1
    borders = [one for one in (*problem.borders, *problem.cautions) if one.cost > 0]
    count = len(names) + 2 + 2 * len(borders)
    weights = _weights(problem, borders, trade)
    at_stake = sum(map(abs, weights.values())) + sum(border.cost for border in borders)
    scale = _TOTAL / (at_stake or 1.0)
    unlimited = _TOTAL
    edges: dict[tuple[int, int], int] = {}
    for name, weight in weights.items():
        edge = (source, index[name]) if weight > 0 else (index[name], sink)
        edges[edge] = round(abs(weight) * scale)
    for place, border in enumerate(borders):
        one = len(names) + 2 + 2 * place
        edges[one, one + 1] = round(border.cost * scale)
        edges.update(((index[name], one), unlimited) for name in border.inner)
        edges.update(((one + 1, index[name]), unlimited) for name in border.outer)
        if border.outside:
            edges[one + 1, sink] = unlimited
    rows, columns = zip(*edges, strict=True) if edges else ((), ())
    data = np.array(list(edges.values()), np.int32)
    ends = (np.array(rows, int), np.array(columns, int))
    graph = sparse.csr_array((data, ends), shape=(count, count))  # type: ignore[no-untyped-call]
    residual = sparse.csr_array(  # type: ignore[no-untyped-call]
        graph - maximum_flow(graph, source, sink).flow
    )
    residual.eliminate_zeros()  # type: ignore[no-untyped-call]
    reached = breadth_first_order(residual, source, return_predecessors=False)
    inside = set(map(int, reached))
    return frozenset(name for name in names if index[name] in inside)


def _weights(problem: Problem, borders: Sequence[Border], trade: float) -> dict[str, float]:
    """Return what each region gains in int8, no larger than what could ever change its mind.

    A region whose gain exceeds all that its borders cost is int8, however far: cut down to that,
    the numbers fit into the integers of a flow.
    """
    at_borders = dict.fromkeys(problem.saved, 0.0)
    for border in borders:
        for name in (*border.inner, *border.outer):
            at_borders[name] += border.cost
    largest = max(at_borders.values(), default=0.0)
    found = {}
    for name, saved in problem.saved.items():
        weight = saved - trade * problem.noise[name]
        if name in problem.fixed:
            weight = math.inf if problem.fixed[name] else -math.inf
        # Beyond its borders' costs by a little, so that a forced side is never a tie.
        limit = 1.01 * at_borders[name] + 1e-3 * (largest or 1.0)
        found[name] = min(max(weight, -limit), limit)
    return found
